import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HarmlessStream, harmlessLine, harmlessLines } from '../../../src/cli/print/harmless.ts';

const dangerous = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

test('takes colours, titles, cursor moves and queries out of a line', () => {
  expect(harmlessLine('\x1b[31mred\x1b[0m \x1b]0;title\x07plain \x1b[2J\x1b[999A\x1b[6n\x1bc.')).toBe('red plain .');
  expect(harmlessLine('\x1b]52;c;ZXZpbA==\x1b\\clipboard')).toBe('clipboard');
  expect(harmlessLine('\x9b31mC1 form')).toBe('C1 form');
});

test('shows other control characters as signs', () => {
  expect(harmlessLine('a\x00b\x08c\x7fd\x85e')).toBe('a␀b␈c␡d\ufffde');
  expect(harmlessLine('if (\u202eadmin)')).toBe('if (\ufffdadmin)');
});

test('leaves letters of any language, tabs as spaces, and emoji', () => {
  expect(harmlessLine('grün 漢字\t👩‍💻')).toBe('grün 漢字  👩‍💻');
});

test('shows of a line what its last carriage return left', () => {
  expect(harmlessLines('10 %\r50 %\r100 %\r\nnext\n')).toEqual(['100 %', 'next']);
});

test('lets no control character through, whatever the text', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.oneof(fc.constantFrom('\x1b', '[', ']', '\x07', '\x9b', '\r', '31m'), fc.string()) }),
      (text) => {
        for (const line of harmlessLines(text)) expect(line).not.toMatch(dangerous);
      },
    ),
  );
});

test('a sequence that is cut between two chunks of a stream does not get through', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 30 })), (cuts) => {
      const bytes = new TextEncoder().encode('a\x1b[31mé\x1b]0;x\x07\nb\x1b[0m');
      const stream = new HarmlessStream();
      let shown = '';
      let from = 0;
      for (const cut of [...cuts].sort((a, b) => a - b)) {
        shown += stream.push(bytes.subarray(from, cut));
        from = Math.max(from, cut);
      }
      shown += stream.push(bytes.subarray(from)) + stream.end();
      expect(shown).toBe('aé\nb');
    }),
  );
});
