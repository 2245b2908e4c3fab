import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TerminalModes } from '../../src/cli/terminal-modes.ts';

const always = '\x1b[0m\x1b(B\x1b>';

function restoring(...pieces: Uint8Array[]): string {
  const modes = new TerminalModes();
  for (const piece of pieces) modes.see(piece);
  return modes.restoring;
}

test('puts back what was switched and not switched back, and nothing else', () => {
  expect(restoring(Buffer.from('text \x1b[31m \x1b[?1049h \x1b[?1049l \x1b[?25l \x1b[?25h'))).toBe(always);
  expect(restoring(Buffer.from('\x1b[?1049;1000h\x1b[?25l'))).toBe(`\x1b[?1049l\x1b[?1000l\x1b[?25h${always}`);
  // A mode that it does not know may mean anything: a sandbox must not choose what is written here.
  expect(restoring(Buffer.from('\x1b[?3h\x1b[?99999h\x1b[?1049xh'))).toBe(always);
});

test('puts back keys, the cursor, the lines that scroll and inserting', () => {
  const set = '\x1b[>4;2m\x1b[>1u\x1b[3 q\x1b[2;9r\x1b[4h';
  expect(restoring(Buffer.from(set))).toBe(`\x1b[>4m\x1b[<u\x1b[0 q\x1b7\x1b[r\x1b8\x1b[4l${always}`);
  expect(restoring(Buffer.from(`${set}\x1b[>4m\x1b[<1u\x1b[ q\x1b[r\x1b[4l`))).toBe(always);
});

test('puts back colours, and ends a link', () => {
  const set = '\x1b]4;1;#123456\x07\x1b]10;red\x1b\\\x1b]11;?\x07\x1b]8;id=a;http://x\x1b\\';
  expect(restoring(Buffer.from(set))).toBe(`\x1b]104\x07\x1b]110\x07\x1b]8;;\x07${always}`);
  expect(restoring(Buffer.from(`${set}\x1b]104\x07\x1b]110\x1b\\\x1b]8;;\x1b\\`))).toBe(always);
});

test('is the same wherever the bytes are cut', () => {
  const piece = fc.constantFrom(
    '\x1b[?1049h',
    '\x1b[?25l',
    '\x1b[?25h',
    '\x1b[?7;2004h',
    '\x1b[>4;2m',
    '\x1b[>1u',
    '\x1b[<u',
    '\x1b[5 q',
    '\x1b]4;1;red\x07',
    '\x1b]104\x07',
    '\x1b]8;;http://x\x1b\\',
    '\x1b]8;;\x1b\\',
    '\x1b',
    'text',
    '\x1b[?',
    ';',
  );
  fc.assert(
    fc.property(fc.array(piece), fc.array(fc.nat(200)), (pieces, cuts) => {
      const bytes = Buffer.from(pieces.join(''));
      const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
      const cut = at.slice(1).map((end, index) => bytes.subarray(at[index], end));
      expect(restoring(...cut)).toBe(restoring(bytes));
    }),
  );
});
