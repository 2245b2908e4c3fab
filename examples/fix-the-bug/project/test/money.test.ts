import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAmount, parseAmount } from '../src/money.ts';

test('reads amounts with and without cents and thousands separators', () => {
  assert.equal(parseAmount('12'), 1_200);
  assert.equal(parseAmount('12.05'), 1_205);
  assert.equal(parseAmount('1,234.50'), 123_450);
});

test('refuses what is no amount', () => {
  assert.throws(() => parseAmount('12.5'), SyntaxError);
  assert.throws(() => parseAmount('free'), SyntaxError);
});

test('writes amounts with two digits of cents, also under zero', () => {
  assert.equal(formatAmount(123_405), '1,234.05');
  assert.equal(formatAmount(-50), '-0.50');
});
