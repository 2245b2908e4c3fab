import { spawn } from 'node:child_process';
import { pbkdf2 } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectAgent } from '../../../src/engine/transport/unix.ts';

const deafServer = `
require('node:net').createServer().listen(process.argv[1], () => {
  process.stdout.write('listens');
  // The kernel goes on to take connections, which nobody accepts.
  process.kill(process.pid, 'SIGSTOP');
});`;

// An error that nobody waits for would end the process.
test('a sandbox-agent that dies when it was just connected to cuts that connection, and nothing else', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-unix-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'agent.sock');
  const server = spawn(process.execPath, ['-e', deafServer, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(server.stdout, 'data');
  const onSocket = () => {
    // From here on all that is asked of files takes long.
    for (let job = 0; job < 4; job++) pbkdf2('', '', 100_000, 64, 'sha512', () => {});
    server.kill('SIGKILL');
  };
  subscribe('net.client.socket', onSocket);
  onTestFinished(() => {
    unsubscribe('net.client.socket', onSocket);
  });
  const socket = await connectAgent(path);
  expect(await once(socket, 'error')).toMatchObject([{ code: 'ECONNRESET' }]);
});
