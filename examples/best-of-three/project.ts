/** A function with two bugs, and its tests. */
export const project: Readonly<Record<string, string>> = {
  'median.mjs': `export function median(numbers) {
  const sorted = numbers.sort();
  return sorted[Math.floor(sorted.length / 2)];
}
`,
  'median.test.mjs': `import assert from 'node:assert/strict';
import test from 'node:test';
import { median } from './median.mjs';

test('of an odd number of numbers', () => assert.equal(median([3, 1, 2]), 2));
test('sorts by value', () => assert.equal(median([100, 9, 20]), 20));
test('of an even number is between the two in the middle', () => assert.equal(median([4, 1, 3, 2]), 2.5));
test('leaves what it is given as it is', () => {
  const given = [3, 1, 2];
  median(given);
  assert.deepEqual(given, [3, 1, 2]);
});
`,
};
