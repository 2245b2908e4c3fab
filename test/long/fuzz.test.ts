import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { fuzz } from '../hostile/fuzz.ts';
import { openHost } from '../support/sandbox-fixture.ts';

const { BERTH_FUZZ_SEED, BERTH_FUZZ_RUNS = '3000', BERTH_FUZZ_PATH } = process.env;

test('a sandbox-agent that lies for long gets errors of ours, and takes no memory', async () => {
  const seed = BERTH_FUZZ_SEED === undefined ? randomInt(2 ** 31) : Number(BERTH_FUZZ_SEED);
  console.log(`BERTH_FUZZ_SEED=${seed} BERTH_FUZZ_RUNS=${BERTH_FUZZ_RUNS}`);
  await using opened = await openHost();
  const honest = await opened.host.create();
  const before = process.memoryUsage().rss;
  await fuzz(opened, {
    seed,
    runs: Number(BERTH_FUZZ_RUNS),
    ...(BERTH_FUZZ_PATH !== undefined && { path: BERTH_FUZZ_PATH }),
  });
  expect((await honest.exec('echo on')).stdout).toBe('on\n');
  expect(process.memoryUsage().rss - before).toBeLessThan(300 * 1024 * 1024);
});
