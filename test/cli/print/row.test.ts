import fc from 'fast-check';
import { expect, test } from 'vitest';
import { row } from '../../../src/cli/print/row.ts';
import { cellWidth, cut, wrap } from '../../../src/cli/print/width.ts';

test('counts the cells of wide characters, marks and emoji', () => {
  expect(cellWidth('abc')).toBe(3);
  expect(cellWidth('漢字')).toBe(4);
  expect(cellWidth('e\u0301')).toBe(1);
  expect(cellWidth('👩‍💻')).toBe(2);
});

test('puts the right side at the right edge and cuts the left one where it would meet it', () => {
  expect(row([['read src/a.ts']], [['3ms']], 20)).toBe('read src/a.ts    3ms');
  expect(row([['read src/a/long/path.ts']], [['3ms']], 20)).toBe('read src/a/lon…  3ms');
});

test('without a width cuts nothing', () => {
  expect(row([['a'.repeat(300)]], [['3ms']])).toBe(`${'a'.repeat(300)}  3ms`);
});

test('no row is wider than the terminal, whatever is in it', () => {
  const spans = fc.array(fc.tuple(fc.string({ unit: 'grapheme' })));
  fc.assert(
    fc.property(spans, fc.tuple(fc.string()), fc.integer({ min: 20, max: 100 }), (left, right, columns) => {
      expect(cellWidth(row(left, [right], columns))).toBeLessThanOrEqual(columns);
    }),
  );
});

test('cuts and wraps inside of the width, and wrapping loses nothing but spaces', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 2, max: 40 }), (text, cells) => {
      expect(cellWidth(cut(text, cells))).toBeLessThanOrEqual(cells);
      const lines = wrap(text, cells);
      for (const line of lines) expect(cellWidth(line)).toBeLessThanOrEqual(cells);
      expect(lines.join('').replaceAll(' ', '')).toBe(text.replaceAll(' ', ''));
    }),
  );
});
