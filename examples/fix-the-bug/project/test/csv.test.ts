import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCsv } from '../src/csv.ts';

test('splits records at line breaks and fields at commas', () => {
  assert.deepEqual(parseCsv('a,b\r\n1,2\n'), [
    ['a', 'b'],
    ['1', '2'],
  ]);
});

test('keeps commas, quotes and line breaks of a quoted field', () => {
  assert.deepEqual(parseCsv('"a, ""b""\nc",d'), [['a, "b"\nc', 'd']]);
});
