import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openHost } from '../support/sandbox-fixture.ts';
import { fuzz } from './fuzz.ts';

test('a sandbox-agent that lies gets typed errors, and other sandboxes of the host go on', async () => {
  await using opened = await openHost();
  const honest = await opened.host.create();
  const { id } = await opened.host.create();
  await (await opened.host.find(id)).close();
  const runs = Number(process.env.BERTH_FUZZ_RUNS ?? 300);
  const seed = Number(process.env.BERTH_FUZZ_SEED ?? 1);
  await fuzz(opened.host, id, join(opened.stateDir, 'wire', id, 'agent.sock'), { seed, runs });
  expect((await honest.exec('echo on')).stdout).toBe('on\n');
});
