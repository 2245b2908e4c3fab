import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SandboxDiedError, WireClosedError } from '../../src/sandbox/errors.ts';
import type { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { type CuttingProxy, cutWire, randomFrom } from '../support/cutting-proxy.ts';
import { type OpenedHost, openHost } from '../support/sandbox-fixture.ts';
import { Shown } from '../support/shown.ts';

const MiB = 1024 * 1024;
const hashOf = (...chunks: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
};

let opened: OpenedHost;
let host: SandboxHost;
let made: Sandbox;

beforeAll(async () => {
  opened = await openHost('unix');
  host = opened.host;
  made = await host.create();
});
afterAll(() => opened[Symbol.asyncDispose]());

/** A second connection to the sandbox, through a proxy that cuts it `times` times, after about `every` bytes each. */
async function joinThroughProxy(times: number, every: number): Promise<{ sandbox: Sandbox; proxy: CuttingProxy }> {
  const random = randomFrom(7);
  let left = times;
  // A handshake is about 700 bytes; some are cut, too.
  const next = () => (left-- > 0 ? 300 + Math.floor(random() * 2 * every) : undefined);
  const proxy = await cutWire(opened.stateDir, made.id, next);
  return { proxy, sandbox: await connectPatiently() };
}

/** The first handshake may be the one that is cut. */
async function connectPatiently(): Promise<Sandbox> {
  for (;;) {
    try {
      return await host.connect(made.id);
    } catch (error) {
      if (!(error instanceof WireClosedError)) throw error;
    }
  }
}

test('output of both streams is exact, however often the wire is cut', async () => {
  const { sandbox, proxy } = await joinThroughProxy(25, 300_000);
  await using _proxy = proxy;
  const made = await sandbox.exec('head -c 6000000 /dev/urandom > a; head -c 5000000 /dev/urandom > b; sha256sum a b');
  const hashes = { stdout: createHash('sha256'), stderr: createHash('sha256') };
  const result = await sandbox.exec('cat a & cat b >&2; wait', {
    onStdout: (chunk) => hashes.stdout.update(chunk),
    onStderr: (chunk) => hashes.stderr.update(chunk),
  });
  expect(result).toMatchObject({ exitCode: 0, stdoutBytes: 6_000_000, stderrBytes: 5_000_000 });
  expect([hashes.stdout.digest('hex'), hashes.stderr.digest('hex')]).toEqual(made.stdout.match(/[0-9a-f]{64}/g));
  expect(proxy.cuts).toBeGreaterThan(5);
  await sandbox.close();
});

test('input and files go through whole, both ways', async () => {
  const { sandbox, proxy } = await joinThroughProxy(30, 400_000);
  await using _proxy = proxy;
  const content = randomBytes(8 * MiB);
  const pieces = () =>
    Readable.from(Array.from({ length: 128 }, (_, at) => content.subarray(at * 65_536, (at + 1) * 65_536)));
  const fed = await sandbox.exec(['sha256sum'], { stdin: pieces() });
  expect(fed.stdout.slice(0, 64)).toBe(hashOf(content));
  await sandbox.fs.writeFile('whole', content);
  await pipeline(pieces(), sandbox.fs.createWriteStream('streamed'));
  const sums = await sandbox.exec(['sha256sum', 'whole', 'streamed']);
  expect(sums.stdout.match(/[0-9a-f]{64}/g)).toEqual([hashOf(content), hashOf(content)]);
  const chunks: Uint8Array[] = [];
  for await (const chunk of sandbox.fs.createReadStream('whole')) chunks.push(chunk);
  expect(hashOf(...chunks)).toBe(hashOf(content));
  // There and back as an archive.
  await sandbox.fs.upload(sandbox.fs.download('whole'), 'copy');
  expect((await sandbox.exec(['sha256sum', 'copy/whole'])).stdout.slice(0, 64)).toBe(hashOf(content));
  expect(proxy.cuts).toBeGreaterThan(10);
  await sandbox.close();
});

test('50 commands at once, and a terminal, do not notice', async () => {
  const { sandbox, proxy } = await joinThroughProxy(20, 2_000);
  await using _proxy = proxy;
  // Without echo: that may come in the middle of a line that cat gives back.
  const pty = await sandbox.pty({ cols: 80, rows: 24, command: 'stty -echo; echo ready; cat' });
  const screen = new Shown(pty.output);
  await screen.until('ready\r\n');
  const typed: Promise<void>[] = [];
  const results = Array.from({ length: 50 }, (_, index) => {
    typed.push(pty.write(`line ${index}\r`));
    return sandbox.exec(`echo ${index}; echo e${index} >&2; echo ${index} >> log`);
  });
  for (const [index, result] of (await Promise.all(results)).entries()) {
    expect(result).toMatchObject({ exitCode: 0, stdout: `${index}\n`, stderr: `e${index}\n` });
  }
  await Promise.all(typed);
  await pty.write('\x04');
  expect(await screen.until(Array.from({ length: 50 }, (_, index) => `line ${index}\r\n`).join(''))).toBe('');
  expect((await pty.wait()).exitCode).toBe(0);
  // Each ran once.
  expect((await sandbox.exec('sort -n log | uniq -c | wc -l; wc -l < log')).stdout).toMatch(/^\s*50\s+50\s*$/);
  expect(proxy.cuts).toBeGreaterThan(3);
  await sandbox.close();
});

test('while it is being joined again, a close, and the end of the sandbox, are told at once', async () => {
  await using sandboxOwner = await host.create();
  const id = sandboxOwner.id;
  const proxy = await cutWire(opened.stateDir, id, () => undefined);
  const first = await host.connect(id);
  const waiting = first.exec('sleep 1000').catch((error: unknown) => error);
  await first.exec('true');
  proxy.refuse(true);
  await first.close();
  expect(await waiting).toBeInstanceOf(WireClosedError);

  proxy.refuse(false);
  const second = await host.connect(id);
  const running = second.exec('sleep 1000').catch((error: unknown) => error);
  await second.exec('true');
  proxy.refuse(true);
  await second.stop();
  expect(await running).toBeInstanceOf(SandboxDiedError);
  await proxy[Symbol.asyncDispose]();
  // Started again it has its files, and is connected to.
  await second.start();
  expect((await second.exec('echo back')).stdout).toBe('back\n');
});

test('a connection that is made while it is looked for why another one failed is used on', async () => {
  await using sandboxOwner = await host.create();
  const rest = [300]; // a part of the first handshake
  await using proxy = await cutWire(opened.stateDir, sandboxOwner.id, () => rest.shift());
  const sandbox = await host.find(sandboxOwner.id);
  const tried: Promise<unknown>[] = [];
  while (proxy.connections < 2) {
    tried.push(sandbox.exec('true').catch((error: unknown) => error));
    await wait(20); // the first ones are told of the failure
  }
  const [first] = await Promise.all(tried);
  expect(first).toBeInstanceOf(WireClosedError);
  await sandbox.exec('true');
  expect(proxy.connections).toBe(2);
  await sandbox.close();
});
