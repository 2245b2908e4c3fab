import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished } from 'vitest';
import { connectAgent } from '../../src/engine/transport/unix.ts';
import { WireAuthenticationError, WireProtocolError } from '../../src/protocol/errors.ts';
import { socketName } from '../../src/protocol/socket.ts';
import { WireClosedError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { Wire } from '../../src/sandbox/wire.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const run = promisify(execFile);

/** Of the sandbox-agent, as the host sees it. */
async function descriptorsOf(sandboxId: string): Promise<number> {
  const { stdout } = await run('docker', ['inspect', '--format', '{{.State.Pid}}', `berth-${sandboxId}`]);
  return (await readdir(`/proc/${stdout.trim()}/fd`)).length;
}

/** A sandbox, and the path of the socket of its sandbox-agent. */
async function sandboxWithSocket() {
  const opened = await openHost();
  onTestFinished(() => opened[Symbol.asyncDispose]());
  const { host, stateDir } = opened;
  const sandbox = await host.create();
  const [path] = (await readdir(stateDir, { recursive: true })).filter((name) => name.endsWith(`/${socketName}`));
  if (!path) expect.unreachable();
  return { host, stateDir, sandbox, socket: join(stateDir, path) };
}

test('a host with another key is refused', async () => {
  const { sandbox, socket } = await sandboxWithSocket();
  const { privateKey } = generateKeyPairSync('ed25519');
  const explainEnd = async (cause: Error | undefined) => cause ?? new Error('closed');
  const stranger = Wire.open(await connectAgent(socket), { sandboxId: sandbox.id, privateKey, explainEnd });
  await expect(stranger).rejects.toBeInstanceOf(WireAuthenticationError);
});

test('those who do not prove who they are do not fill the sandbox-agent, nor keep its host out', async () => {
  const { stateDir, sandbox, socket } = await sandboxWithSocket();
  const before = await descriptorsOf(sandbox.id);
  const request = 'GET /wire HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n';
  const greetings = [
    '', // says nothing
    'GET /wire HT', // and no more
    request,
    `${request}\r\n`,
    `${request}x: ${'y'.repeat(100_000)}`,
    'GET / HTTP/1.1\r\nHost: berth\r\n\r\n',
    Buffer.alloc(70_000, 0xff),
    Buffer.concat([Buffer.from(`${request}\r\n`), Buffer.from([0x82, 0x85, 0, 0, 0, 0, 1, 2, 3, 4, 5])]),
    Buffer.concat([Buffer.from(`${request}\r\n`), Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0xf, 0, 0, 0, 0, 0, 0])]),
  ];
  const strangers: Socket[] = [];
  for (let count = 0; count < 400; count++) {
    const stranger = createConnection(socket).on('error', () => {});
    strangers.push(stranger);
    await once(stranger, 'connect');
    stranger.resume().write(greetings[count % greetings.length] ?? '');
  }
  expect(await sandbox.exec(['echo', 'on'])).toMatchObject({ stdout: 'on\n' });
  await using another = await SandboxHost.open({ stateDir });
  expect(await (await another.connect(sandbox.id)).exec(['echo', 'on'])).toMatchObject({ stdout: 'on\n' });
  expect((await descriptorsOf(sandbox.id)) - before).toBeLessThan(80);
  for (const stranger of strangers) stranger.destroy();
  await expect.poll(() => descriptorsOf(sandbox.id), { timeout: 10_000 }).toBeLessThan(before + 5);
});

test.for<[what: string, put: (path: string) => Promise<unknown>]>([
  ['a link to another socket', (path) => symlink('/var/run/docker.sock', path)],
  ['a link to nothing', (path) => symlink('/nowhere', path)],
  ['a file', (path) => writeFile(path, '')],
  ['a FIFO', (path) => run('mkfifo', [path])],
])('%s in the place of the socket is not connected to', async ([, put]) => {
  const { stateDir, sandbox, socket } = await sandboxWithSocket();
  await rename(socket, `${socket}.real`);
  await put(socket);
  await using another = await SandboxHost.open({ stateDir });
  await expect(another.connect(sandbox.id)).rejects.toBeInstanceOf(WireProtocolError);
  // The connection that is there goes on.
  expect(await sandbox.exec(['echo', 'on'])).toMatchObject({ stdout: 'on\n' });
});

test('a host that is closed does not wait for a sandbox-agent that says nothing', async () => {
  const { stateDir, sandbox, socket } = await sandboxWithSocket();
  await rm(socket);
  const silent = createServer(() => connected()).listen(socket);
  let connected = () => {};
  const isConnected = new Promise<void>((resolve) => {
    connected = resolve;
  });
  onTestFinished(() => {
    silent.close();
  });
  const another = await SandboxHost.open({ stateDir });
  const connecting = another.connect(sandbox.id);
  connecting.catch(() => {});
  await isConnected;
  const since = performance.now();
  await another.close();
  await expect(connecting).rejects.toBeInstanceOf(WireClosedError);
  expect(performance.now() - since).toBeLessThan(5_000);
});

test('what a session was used for tells that the connection is gone, not its end', async () => {
  const { host, sandbox } = await sandboxWithSocket();
  const using = async () => {
    await using session = await sandbox.session();
    const sleeping = session.exec('sleep 1000');
    await host.close();
    await sleeping;
  };
  await expect(using()).rejects.toBeInstanceOf(WireClosedError);
});
