import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytesOfName, isName, nameBytes, nameOfBytes } from '../../src/protocol/names.ts';

test('any bytes become a name, and that name the same bytes', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 5 }),
    fc.string({ unit: 'grapheme' }).map((text) => new Uint8Array(Buffer.from(text))),
    fc
      .constantFrom([0xef, 0xbf, 0xbd], [0xed, 0xb3, 0xbf], [0xf0, 0x9f], [0xc0, 0x80])
      .map((bytes) => Uint8Array.from(bytes)),
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const bytes = Buffer.concat(pieces);
      const name = nameOfBytes(bytes);
      expect(bytesOfName(name)).toEqual(bytes);
      expect(bytesOfName(JSON.parse(JSON.stringify(name)))).toEqual(bytes);
      expect(nameBytes(name)).toBe(bytes.length);
      expect(isName(name)).toBe(true);
    }),
  );
});

test('text is itself, and half a character is no name', () => {
  expect(nameOfBytes(Buffer.from('a ü 😀 \ufffd'))).toBe('a ü 😀 \ufffd');
  expect(nameOfBytes(Buffer.of(0x61, 0xff))).toBe('a\udcff');
  for (const half of ['\ud83d', '\ude00', 'x\udfff']) expect(isName(half)).toBe(false);
  expect(isName('😀\udc80')).toBe(true);
});
