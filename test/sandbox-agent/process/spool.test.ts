import { openSync, unlinkSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import fc from 'fast-check';
import { expect } from 'vitest';
import { Spool } from '../../../sandbox-agent/process/spool.ts';
import { test } from '../fs/folder.ts';

const byteAt = (at: number) => (at * 31 + (at >> 8) * 7 + (at >> 16) * 13) & 0xff;
const stop = new AbortController().signal;

/** What an output is kept in, without what only a sandbox has. */
function filesIn(folder: string): ConstructorParameters<typeof Spool>[0] {
  const name = (start: number) => `${folder}/${start}`;
  return {
    bytes: 0,
    isFull: false,
    create: (_id, _output, start) => openSync(name(start), 'w'),
    open: (_id, _output, start) => openSync(name(start), 'r'),
    remove: (_id, _output, { start }) => unlinkSync(name(start)),
  };
}

test('memory is given back once nobody needs it, and no reader sees what is in it then', async ({ folder }) => {
  const piece = fc.oneof(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 50_000, max: 1_100_000 }));
  const reader = fc.record({ from: fc.integer({ min: 0, max: 500_000 }), keeps: fc.integer({ min: 1, max: 6 }) });
  let reused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { minLength: 1, maxLength: 20 }),
      fc.array(reader, { minLength: 1, maxLength: 3 }),
      async (pieces, readers) => {
        const spool = new Spool(filesIn(folder), 'p', 'stdout');
        const total = pieces.reduce((sum, length) => sum + length, 0);
        const reading = readers.map(async ({ from, keeps }) => {
          const kept: { at: number; bytes: Buffer; release: (() => void) | undefined }[] = [];
          const check = () => {
            const first = kept.shift();
            if (!first) return;
            const wrong = first.bytes.findIndex((byte, index) => byte !== byteAt(first.at + index));
            if (wrong >= 0) expect.fail(`wrong byte at ${first.at + wrong}`);
            first.release?.();
          };
          let at = Math.min(from, total);
          for await (const { bytes, release } of spool.read(at, { holds: true, rest: true }, stop)) {
            kept.push({ at, bytes, release });
            at += bytes.length;
            // As one whose pieces are on their way for a while.
            if (kept.length > keeps) check();
            if (at % 3 === 0) await wait(1);
          }
          while (kept.length > 0) check();
          return at;
        });
        let at = 0;
        for (const length of pieces) {
          const bytes = Buffer.from(Uint8Array.from({ length }, (_, index) => byteAt(at + index)));
          let isGiven = false;
          await spool.append(bytes, () => {
            if (isGiven) expect.fail('memory was given back twice');
            isGiven = true;
            bytes.fill(0xee);
            reused += 1;
          });
          at += length;
        }
        spool.complete();
        expect(await Promise.all(reading)).toEqual(readers.map(() => total));
        await spool.stored();
        spool.close();
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 30) },
  );
  expect(reused).toBeGreaterThan(0);
});
