import { expect, test } from 'vitest';
import { watchOomKills } from '../../../src/sandbox/process/oom.ts';
import type { Wire } from '../../../src/sandbox/wire.ts';

test('a watch ends in the sandbox, too, when what it is for has ended', async () => {
  const signals: (AbortSignal | undefined)[] = [];
  const wire = {
    call: ({ waitMs }: { waitMs: number }, _answer: string, signal?: AbortSignal) => {
      signals.push(signal);
      return waitMs === 1 ? Promise.resolve({ kills: 2 }) : new Promise(() => {}); // it waits
    },
  } as unknown as Wire;
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const told: number[] = [];
  const watching = watchOomKills(wire, 0, ended, (count) => told.push(count));
  expect(signals.map((signal) => signal?.aborted)).toEqual([false]);
  end();
  await watching;
  expect(signals.map((signal) => signal?.aborted)).toEqual([true, undefined]);
  expect(told).toEqual([2]);
});
