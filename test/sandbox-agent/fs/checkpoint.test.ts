import { closeSync, openSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { LineWriter, linesBackwards, linesOf } from '../../../sandbox-agent/fs/checkpoint/lines.ts';
import { merged } from '../../../sandbox-agent/fs/checkpoint/merge.ts';
import { treeOrder } from '../../../src/protocol/checkpoint.ts';
import { test } from './folder.ts';

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

// Around the slash are characters before and behind it; some of them are written with several bytes.
const name = fc.string({
  unit: fc.constantFrom('a', 'b', '-', '.', '!', '\n', '\u00e9', '\udcff'),
  minLength: 1,
  maxLength: 3,
});
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));

describe('trees side by side', () => {
  test('come together path by path, each a directory before what is in it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(path), fc.uniqueArray(path), fc.uniqueArray(path), async (...lists) => {
        const trees = lists.map((list) => list.toSorted((a, b) => (treeOrder(a) < treeOrder(b) ? -1 : 1)));
        async function* walk(index: number) {
          for (const path of trees[index] ?? []) yield { path, index };
        }
        const found = await all(merged(walk(0), walk(1), walk(2)));
        expect(new Set(found.map(([path]) => path))).toEqual(new Set(lists.flat()));
        for (const [path, ...entries] of found) {
          expect(entries).toEqual(trees.map((tree, index) => (tree.includes(path) ? { path, index } : undefined)));
        }
        const paths = found.map(([path]) => path);
        for (const [at, path] of paths.entries()) {
          const inside = paths.flatMap((other, index) => (other.startsWith(`${path}/`) ? index : []));
          expect(inside).toEqual(inside.map((_, index) => at + 1 + index));
        }
      }),
    );
  });

  test('are closed when nobody goes on', async () => {
    let isClosed = false;
    async function* walk() {
      try {
        for (let index = 0; ; index++) yield { path: `${index}` };
      } finally {
        isClosed = true;
      }
    }
    for await (const _ of merged(walk())) break;
    expect(isClosed).toBe(true);
  });
});

test('what was written line by line is read from either end', async ({ folder }) => {
  let number = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.string({ maxLength: 50_000, size: 'max' }), { maxLength: 12 }), async (texts) => {
      number += 1;
      const file = openSync(`${folder}/${number}`, 'wx+');
      try {
        const writer = new LineWriter(file);
        const lines = texts.map((text, index) => ({ text, index }));
        for (const line of lines) await writer.write(line);
        await writer.flush();
        expect(await all(linesOf(file))).toEqual(lines);
        expect(await all(linesBackwards(file))).toEqual(lines.toReversed());
      } finally {
        closeSync(file);
      }
    }),
    { numRuns: 30 },
  );
});
