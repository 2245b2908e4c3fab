import { randomInt } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { floodAgent, fuzzAgent } from '../hostile/agent-fuzz.ts';
import { floodAll } from '../hostile/floods.ts';
import { type FuzzOptions, fuzz } from '../hostile/fuzz.ts';
import { fuzzRequests } from '../hostile/request-fuzz.ts';
import { fuzzTars } from '../hostile/tar-fuzz.ts';
import { openHost } from '../support/sandbox-fixture.ts';
import { openWayOut } from '../support/way-out.ts';

const { BERTH_FUZZ_SEED, BERTH_FUZZ_MINUTES = '10', BERTH_FUZZ_PATH } = process.env;
const seed = BERTH_FUZZ_SEED === undefined ? randomInt(2 ** 31) : Number(BERTH_FUZZ_SEED);
const MiB = 1024 * 1024;

/** For a part of the time. */
function during(part: number): FuzzOptions & { ms: number } {
  return { seed, runs: 100, ms: Number(BERTH_FUZZ_MINUTES) * 60_000 * part, path: BERTH_FUZZ_PATH };
}

beforeAll(() => console.log(`BERTH_FUZZ_SEED=${seed} BERTH_FUZZ_MINUTES=${BERTH_FUZZ_MINUTES}`));

test('a sandbox-agent that lies for long gets errors of ours, and takes no memory', async () => {
  await using opened = await openHost();
  const honest = await opened.host.create();
  const before = process.memoryUsage().rss;
  await fuzz(opened, during(0.5));
  expect((await honest.exec('echo on')).stdout).toBe('on\n');
  expect(process.memoryUsage().rss - before).toBeLessThan(300 * MiB);
});

test('what it sends without end for long leaves its host small, and other sandboxes go on', async () => {
  await using opened = await openHost();
  await floodAll(opened, { ms: during(0.02).ms, patienceMs: 60_000 });
});

test('a host that lies for long leaves the sandbox-agent small, and others are served', async () => {
  await using opened = await openHost();
  // It keeps 64 connections that broke, and of each 16 MiB at most that was not acknowledged.
  expect(await fuzzAgent(opened, during(0.25))).toBeLessThan(64 * 16 * MiB);
});

test('a host that asks without end and takes no answer loses its connection', async () => {
  await using opened = await openHost();
  expect(await floodAgent(opened)).toBeLessThan(300 * MiB);
});

test('any archive becomes its target or an error of ours', () => fuzzTars(during(0.05)));

test('programs and servers say anything for long where requests are looked into, and leave the host small', async () => {
  await using out = await openWayOut();
  const before = process.memoryUsage().rss;
  await fuzzRequests(out, during(0.15));
  expect(process.memoryUsage().rss - before).toBeLessThan(1_000 * MiB);
});
