import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { jsonSnapshot, NotJson } from '../../../src/runtime/schema/snapshot.ts';

function refusal(value: unknown, maxBytes?: number): { path: string; kind: string } {
  try {
    jsonSnapshot(value, 'output', maxBytes);
  } catch (error) {
    if (error instanceof NotJson) return { path: error.path, kind: error.kind };
    throw error;
  }
  throw new Error('it was not refused');
}

// contract: 1.5-json-values
test('keeps every JSON value as it is, in a copy of its own', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(jsonSnapshot(value, 'output')).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
  const inner = { deep: [1] };
  const value = { inner };
  const copy = jsonSnapshot(value, 'output');
  inner.deep.push(2);
  expect(copy).toEqual({ inner: { deep: [1] } });
});

// contract: 1.5-texts, 1.5-minus-zero
test('keeps NUL and lone surrogates in texts, and makes -0 a 0', () => {
  expect(jsonSnapshot('a\0\ud800', 'output')).toBe('a\0\ud800');
  expect(Object.is(jsonSnapshot(-0, 'output'), 0)).toBe(true);
});

// contract: 1.5-plain-objects, 1.5-json-values
test('takes plain objects of another realm and without a prototype, in the order of their keys', () => {
  const foreign: unknown = runInNewContext('({ b: 1, a: [2] })');
  const bare = Object.assign(Object.create(null), { b: 1, a: 2 });
  expect(jsonSnapshot(foreign, 'output')).toEqual({ b: 1, a: [2] });
  expect(Object.keys(Object(jsonSnapshot(bare, 'output')))).toEqual(['b', 'a']);
});

// contract: 1.5-undefined-property, 1.5-undefined-in-array
test('leaves out a property that is undefined, and refuses undefined in an array, a hole, and at the top', () => {
  expect(jsonSnapshot({ a: undefined, b: 1 }, 'output')).toEqual({ b: 1 });
  expect(refusal([1, undefined])).toEqual({ path: 'output[1]', kind: 'undefined' });
  // biome-ignore lint/suspicious/noSparseArray: the hole is what is tried
  expect(refusal([1, , 2])).toEqual({ path: 'output[1]', kind: 'a hole in an array' });
  expect(refusal(undefined)).toEqual({ path: 'output', kind: 'undefined' });
});

// contract: 1.5-not-json, 1.5-instances
test.each([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['a bigint', 1n],
  ['a function', () => 1],
  ['a symbol', Symbol('x')],
  ['an instance of Date', new Date()],
  ['an instance of Map', new Map()],
  ['an instance of Set', new Set()],
  ['an instance of RegExp', /x/],
  ['an instance of Error', new Error('x')],
  ['an instance of Promise', Promise.resolve()],
  ['an instance of Uint8Array', Buffer.from('x')],
  ['an instance of Number', Object(1)],
  ['an instance of Order', new (class Order {})()],
])('refuses %s, with the path to it', (kind, value) => {
  expect(refusal({ items: [0, 1, 2, { when: value }] })).toEqual({ path: 'output.items[3].when', kind });
});

// contract: 1.5-to-json
test('never calls toJSON: an own one is refused as the function that it is', () => {
  expect(refusal({ toJSON: () => 'x' })).toEqual({ path: 'output.toJSON', kind: 'a function' });
});

// contract: 1.5-cycle, 1.5-same-object-twice
test('refuses a cycle, and copies twice what stands twice without one', () => {
  const loop: { self?: unknown } = {};
  loop.self = loop;
  expect(refusal(loop)).toEqual({ path: 'output.self', kind: 'a cycle' });
  const shared = { x: 1 };
  const copy = jsonSnapshot([shared, shared], 'output') as unknown[];
  expect(copy).toEqual([{ x: 1 }, { x: 1 }]);
  expect(copy[0]).not.toBe(copy[1]);
});

// contract: 1.5-getter, 1.5-ignored-keys, 1.5-proto-key
test('reads a getter once, ignores symbol keys and what is not enumerable, and keeps __proto__ as data', () => {
  let reads = 0;
  const value = Object.defineProperties(
    { [Symbol('s')]: 1 },
    {
      got: { enumerable: true, get: () => ++reads },
      hidden: { enumerable: false, value: 1 },
      ['__proto__']: { enumerable: true, value: { polluted: true } },
    },
  );
  const copy = Object(jsonSnapshot(value, 'output'));
  expect(Object.keys(copy)).toEqual(['got', '__proto__']);
  expect(copy.got).toBe(1);
  expect(copy.polluted).toBeUndefined();
  expect(Object.getPrototypeOf(copy)).toBe(Object.prototype);
});

// contract: 1.5-depth
test('takes 1,000 levels and refuses one more', () => {
  const nested = (levels: number): unknown => {
    let value: unknown = [];
    for (let i = 1; i < levels; i++) value = [value];
    return value;
  };
  expect(() => jsonSnapshot(nested(1_000), 'output')).not.toThrow();
  expect(refusal(nested(1_001)).kind).toContain('1000 levels');
});

// contract: 1.5-size
test('takes almost 16 MiB of JSON and refuses more, also when it is little that stands there often', () => {
  const almost = 'x'.repeat(16 * 1024 * 1024 - 2);
  expect(jsonSnapshot(almost, 'output')).toBe(almost);
  expect(refusal(`${almost}x`).kind).toContain('16777216 bytes');
  let value: unknown = ['x'];
  for (let i = 0; i < 30; i++) value = [value, value]; // 2^30 texts
  expect(refusal(value, 100_000).kind).toContain('100000 bytes');
});
