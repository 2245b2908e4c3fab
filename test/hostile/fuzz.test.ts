import { expect, test } from 'vitest';
import { openHost } from '../support/sandbox-fixture.ts';
import { fuzz } from './fuzz.ts';

test('a sandbox-agent that lies gets errors of ours, and the other sandboxes of the host go on', async () => {
  await using opened = await openHost();
  const honest = await opened.host.create();
  await fuzz(opened, { seed: 7, runs: 120 });
  expect((await honest.exec('echo on')).stdout).toBe('on\n');
});
