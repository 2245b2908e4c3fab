import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type NetworkDecision, type Sandbox, SandboxHost } from '../../../src/sandbox/index.ts';
import { cutWire } from '../../support/cutting-proxy.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const server = createServer((request, response) => {
  if (request.url === '/endless') response.write('.');
  else response.end('hello');
});
let stateDir: string;
let port: number;

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'berth-test-kept-'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});

afterAll(async () => {
  const host = await SandboxHost.open({ stateDir });
  for (const { id } of await host.list()) await host.remove(id);
  await host.close();
  await rm(stateDir, { recursive: true, force: true });
  server.closeAllConnections();
  server.close();
});

/** As a process of its own would have it: what it knows of others is what the state directory says. */
async function openHost(): Promise<SandboxHost> {
  const host = await SandboxHost.open({ stateDir });
  onTestFinished(() => host.close());
  return host;
}

const curl = (url = '/') => ['curl', '-sSN', '--noproxy', '', '--max-time', '20', `http://127.0.0.1:${port}${url}`];

/** What a program gets to see. */
async function ask(sandbox: Sandbox): Promise<string> {
  const { stdout, stderr } = await sandbox.exec(curl());
  return `${stdout}${stderr}`;
}

function decisionsOf(sandbox: Sandbox): NetworkDecision[] {
  const decisions: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => decisions.push(decision));
  return decisions;
}

test('is kept with the sandbox: who connects later has it, until it is set anew or the sandbox is removed', async () => {
  const network = {
    allow: [{ host: '127.0.0.1', ports: [port], methods: ['GET'] }, `web.test:${port}`],
    maxBytes: 1e9,
  };
  const one = await openHost();
  const { id } = await one.create({ key: 'kept', network });
  await one.close();

  const two = await openHost();
  const connected = await two.connect(id);
  expect(await ask(connected)).toBe('hello');
  expect((await connected.info()).network).toEqual(network);
  expect(await two.list()).toMatchObject([{ id, network }]);
  await connected.stop();
  await connected.start();
  expect(await ask(connected)).toBe('hello');
  await two.close();

  const three = await openHost();
  expect(await ask(await three.create({ key: 'kept' }))).toBe('hello');
  const none = await three.create({ key: 'kept', network: 'none' });
  expect(await ask(none)).toContain('onnect');
  expect((await none.info()).network).toBe('none');
  await none.setNetwork('open');
  await three.close();

  const four = await openHost();
  const open = await four.connect(id);
  expect(await ask(open)).toContain("network: 'open' allows public addresses only");
  await open.remove();
  expect(await readdir(join(stateDir, 'networks'))).toEqual([]);
  expect((await (await four.create({ id })).info()).network).toBe('none');
});

test('allows nothing where what is kept of it can not be read, which is in the way of nothing else', async () => {
  const { id } = await (await openHost()).create({ network: { allow: [`127.0.0.1:${port}`] } });
  for (const text of ['', '{"stamp":"1","pol', 'null', '{"stamp":"1","policy":{"allow":"all"}}']) {
    await writeFile(join(stateDir, 'networks', id), text);
    const host = await openHost();
    expect((await host.list()).find((one) => one.id === id)?.network).toBe('none');
    const sandbox = await host.connect(id);
    expect((await sandbox.info()).network).toBe('none');
  }
  const sandbox = await (await openHost()).connect(id);
  await sandbox.setNetwork({ allow: [`127.0.0.1:${port}`] });
  expect(await ask(sandbox)).toBe('hello');
});

test('is kept without its secrets: they are put in as long as the process lives that set it, and by no other one', async () => {
  const seen: unknown[] = [];
  const listener = ({ headers }: IncomingMessage) => seen.push(headers.authorization);
  server.on('request', listener);
  onTestFinished(() => void server.off('request', listener));
  const one = await openHost();
  const sandbox = await one.create({
    network: {
      allow: [`127.0.0.1:${port}`],
      secrets: [{ name: 'TOKEN', value: 'the-secret-value', hosts: [`127.0.0.1:${port}`] }],
    },
  });
  const command = `curl -sS --noproxy '' -H "Authorization: $TOKEN" http://127.0.0.1:${port}/`;
  expect((await sandbox.info()).network).toEqual({ allow: [`127.0.0.1:${port}`] });
  const files = await readdir(stateDir, { recursive: true, withFileTypes: true });
  for (const file of files.filter((found) => found.isFile())) {
    expect(await readFile(join(file.parentPath, file.name), 'latin1')).not.toContain('the-secret-value');
  }
  const other = await (await openHost()).connect(sandbox.id);
  expect((await other.exec(command)).stdout).toBe('hello');
  await other.exec(['sh', '-c', command.replace('$TOKEN', 'other')]);
  const placeholder = (await other.exec('echo $TOKEN')).stdout.trim();
  await one.close();
  expect((await other.exec(command.replace('$TOKEN', placeholder))).stdout).toBe('hello');
  expect(seen).toEqual(['the-secret-value', 'other', placeholder]);
});

test('programs go out through who set it; who connects besides takes nothing from him, and goes on when he ends', async () => {
  const [one, two, three] = [await openHost(), await openHost(), await openHost()];
  const setter = await one.create({ network: { allow: [`127.0.0.1:${port}`] } });
  const ofSetter = decisionsOf(setter);
  const other = await two.connect(setter.id);
  const ofOther = decisionsOf(other);
  const brief = await three.connect(setter.id);
  expect(await ask(brief)).toBe('hello');
  await three.close();
  expect(await ask(setter)).toBe('hello');
  expect(await ask(other)).toBe('hello');
  // Told when a connection has ended, which is after the answer.
  await expect.poll(() => ofSetter.length).toBe(3);
  expect(ofOther).toEqual([]);
  await one.close();
  expect(await ask(other)).toBe('hello');
  await expect.poll(() => ofOther.length).toBe(1);
});

test('that is set by one holds for all: also where another one goes on when he ends', async () => {
  const [one, two] = [await openHost(), await openHost()];
  const first = await one.create({ network: { allow: [`127.0.0.1:${port}`] } });
  const endless = await first.spawn(curl('/endless'));
  await once(endless.stdout, 'data');

  const second = await two.connect(first.id);
  await second.setNetwork({ allow: ['web.test'] });
  expect((await endless.wait()).exitCode).not.toBe(0);
  expect((await first.info()).network).toEqual({ allow: ['web.test'] });
  expect(await ask(first)).toContain('no rule allows');
  await two.close();
  expect(await ask(first)).toContain('no rule allows');

  const third = await (await openHost()).connect(first.id);
  await third.setNetwork('none');
  expect((await first.exec('env | grep -ci proxy')).stdout.trim()).toBe('0');
  await third.setNetwork({ allow: [`127.0.0.1:${port}`] });
  expect(await ask(first)).toBe('hello');
});

test('programs go out through another one while a transport is broken, and through the first when it is back', async () => {
  const [one, two] = [await openHost(), await openHost()];
  const { id } = await one.create({ network: { allow: [`127.0.0.1:${port}`] } });
  const other = await two.connect(id);
  await one.close();
  await using proxy = await cutWire(stateDir, id, () => undefined);
  const setter = await (await openHost()).connect(id);
  await setter.setNetwork({ allow: [`127.0.0.1:${port}`] });
  const [ofSetter, ofOther] = [decisionsOf(setter), decisionsOf(other)];
  expect(await ask(other)).toBe('hello');
  await expect.poll(() => ofSetter.length).toBe(1);
  proxy.refuse(true);
  // It was cut, and tries to come back.
  await expect.poll(() => proxy.connections).toBeGreaterThan(1);
  expect(await ask(other)).toBe('hello');
  await expect.poll(() => ofOther.length).toBe(1);
  proxy.refuse(false);
  expect(await ask(setter)).toBe('hello');
  await expect.poll(() => ofSetter.length).toBe(2);
  expect(ofOther).toHaveLength(1);
});

test('goes on at once through another one when a process was killed that programs went out through', async () => {
  const host = await openHost();
  const { id } = await host.create({ network: { allow: [`127.0.0.1:${port}`] } });
  await host.close();
  const args = ['dist/cli/main.js', 'sandbox', 'exec', id, '--', 'sh', '-c', 'echo on; exec sleep 1000'];
  const killed = execa(process.execPath, args, { cwd: root, reject: false, env: { BERTH_STATE_DIR: stateDir } });
  await once(killed.stdout, 'data');
  const sandbox = await (await openHost()).connect(id);
  const decisions = decisionsOf(sandbox);
  killed.kill('SIGKILL');
  await killed;
  expect(await ask(sandbox)).toBe('hello');
  await expect.poll(() => decisions.length).toBe(1);
});
