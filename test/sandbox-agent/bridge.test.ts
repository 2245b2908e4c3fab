import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { connectPatiently } from '../../sandbox-agent/bridge.ts';

test('waits for a sandbox-agent that does not listen yet', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-test-bridge-'));
  const server = createServer((socket) => socket.end('hello'));
  onTestFinished(async () => {
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  const connecting = connectPatiently(join(directory, 'agent.sock'));
  for (let turns = 0; turns < 100; turns++) await turn(); // the first attempt has failed by then
  server.listen(join(directory, 'agent.sock'));
  const socket = await connecting;
  const [data] = await once(socket, 'data');
  socket.destroy();
  expect(String(data)).toBe('hello');
});
