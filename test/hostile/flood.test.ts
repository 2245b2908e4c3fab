import { test } from 'vitest';
import { openHost } from '../support/sandbox-fixture.ts';
import { floodAll } from './floods.ts';

test('whatever a sandbox-agent sends without end, its host stays small, and goes on with other sandboxes', async () => {
  await using opened = await openHost();
  await floodAll(opened, { ms: 200, patienceMs: 60_000 });
});
