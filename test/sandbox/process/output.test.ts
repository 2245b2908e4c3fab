import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import Docker from 'dockerode';
import { describe, expect, onTestFinished } from 'vitest';
import { OutputGoneError, ProcessKeyConflictError } from '../../../src/sandbox/errors.ts';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import type { Sandbox } from '../../../src/sandbox/sandbox.ts';
import { openHost, test } from '../../support/sandbox-fixture.ts';

describe('characters of several bytes', () => {
  const line = 'aé€😀';
  // Each byte is written by itself.
  const script = `import os\nfor byte in ${JSON.stringify(line)}.encode() * 50: os.write(1, bytes([byte]))`;

  test('are whole in the result, and their bytes exact in pieces, wherever those were cut', async ({
    shared: sandbox,
  }) => {
    const pieces: Uint8Array[] = [];
    const { stdout } = await sandbox.exec(['python3', '-c', script], { onStdout: (piece) => pieces.push(piece) });
    expect(stdout).toBe(line.repeat(50));
    expect(Buffer.concat(pieces).toString()).toBe(line.repeat(50));
  });

  test('are left out at the cut of a result where they are not whole', async ({ shared: sandbox }) => {
    const all = line.repeat(50);
    for (let maxOutput = 0; maxOutput <= 21; maxOutput++) {
      const { stdout, truncated } = await sandbox.exec(['python3', '-c', script], { maxOutput });
      expect(truncated).toBe(true);
      expect(stdout).not.toContain('\ufffd');
      expect(all.endsWith(stdout)).toBe(true);
      expect(Buffer.byteLength(stdout)).toBeGreaterThan(maxOutput - 4);
    }
  });
});

test('a reader that never reads on holds up neither the process nor its end', async ({ shared: sandbox }) => {
  const process = await sandbox.spawn('head -c 80000000 /dev/zero; touch done');
  await new Promise((resolve) => process.stdout.once('readable', resolve)); // and then nothing
  await expect.poll(() => sandbox.fs.exists('done'), { timeout: 60_000 }).toBe(true);
  await expect.poll(async () => (await sandbox.processes()).length).toBe(0);
  expect(await (await sandbox.attach(process.id, { stdout: 79_999_990 })).wait()).toMatchObject({
    exitCode: 0,
    stdout: '\0'.repeat(10),
    stdoutBytes: 80_000_000,
  });
});

test('output that repeats nothing is exact for each of several readers, fast, slow and late', async ({
  shared: sandbox,
}) => {
  const { stdout: sum } = await sandbox.exec('head -c 50000000 /dev/urandom > random; sha256sum < random');
  const hash = async (output: Readable, isSlow: boolean) => {
    const digest = createHash('sha256');
    for await (const chunk of output) {
      digest.update(chunk);
      if (isSlow) await wait(5);
    }
    return `${digest.digest('hex')}  -\n`;
  };
  const process = await sandbox.spawn('cat random', { backpressure: true });
  const slow = await sandbox.attach(process.id, { backpressure: true });
  expect(await Promise.all([hash(process.stdout, false), hash(slow.stdout, true)])).toEqual([sum, sum]);
  const late = await sandbox.attach(process.id);
  expect(await hash(late.stdout, false)).toBe(sum);
});

/** What is kept of processes has only so much room from now on. The container is made anew: no option asks for that. */
async function withKept(host: SandboxHost, size: string): Promise<Sandbox> {
  const { id } = await host.create();
  onTestFinished(() => host.remove(id));
  const docker = new Docker();
  const container = docker.getContainer(`berth-${id}`);
  const { Name, Config, HostConfig } = await container.inspect();
  await container.remove({ force: true, v: true });
  const Mounts = HostConfig.Mounts?.map((mount) => {
    if (!mount.Target.endsWith('/kept')) return mount;
    const Options = { type: 'tmpfs', device: 'tmpfs', o: `size=${size},mode=700` };
    return { ...mount, VolumeOptions: { NoCopy: true, Labels: {}, DriverConfig: { Name: 'local', Options } } };
  });
  await docker.createContainer({ ...Config, name: Name.slice(1), HostConfig: { ...HostConfig, Mounts } });
  const sandbox = await host.connect(id);
  await sandbox.start();
  return sandbox;
}

test('where the disk of what is kept is full, a command goes on, and what is missing is said to be', async () => {
  await using opened = await openHost();
  const sandbox = await withKept(opened.host, '1m');
  const lines = Array.from({ length: 400_000 }, (_, index) => `${index + 1}\n`).join('');
  const process = await sandbox.spawn('seq 1 400000');
  const result = await process.wait();
  expect(result).toMatchObject({ exitCode: 0, stdoutBytes: lines.length });
  // All of it, or the newest: what came need not have found its reader in time.
  expect(lines.endsWith(result.stdout)).toBe(true);
  expect(result.truncated).toBe(result.stdout.length < lines.length);

  const [listed] = await sandbox.processes({ all: true });
  const gaps = listed?.stdout.gaps ?? [];
  expect(gaps.length).toBeGreaterThan(0);
  let at = 0;
  for (const [from, to] of [...gaps, [lines.length, lines.length] as const]) {
    const late = await sandbox.attach(process.id, { stdout: at });
    let read = '';
    const reading = (async () => {
      for await (const chunk of late.stdout) read += chunk;
    })();
    if (from < lines.length) await expect(reading).rejects.toBeInstanceOf(OutputGoneError);
    else await reading;
    expect(read === lines.slice(at, from)).toBe(true);
    at = to;
  }
  expect(await sandbox.exec('echo on')).toMatchObject({ stdout: 'on\n', exitCode: 0 });
});

describe('of an output that is larger than what is kept', () => {
  const command = 'head -c 80000000 /dev/zero; echo é; until [ -e go ]; do sleep 0.01; done; echo end';

  test('who joins a command with its key late has the newest, and the command goes on', async ({ sandbox }) => {
    const { id, stdout } = await sandbox.spawn(command, { key: 'k' });
    stdout.destroy();
    await expect
      .poll(async () => (await sandbox.processes())[0]?.stdout, { timeout: 60_000 })
      .toMatchObject({ bytes: 80_000_003, gaps: [expect.anything()] });
    // Who wants each piece can't have them.
    await expect(sandbox.exec(command, { key: 'k', onStdout: () => {} })).rejects.toBeInstanceOf(OutputGoneError);
    const joined = sandbox.exec(command, { key: 'k', maxOutput: 5 });
    await sandbox.fs.writeFile('go', '');
    const end = { exitCode: 0, signal: null, stdoutBytes: 80_000_007, truncated: true };
    expect(await joined).toMatchObject({ ...end, stdout: '\nend\n' });
    expect(await sandbox.exec(command, { key: 'k', maxOutput: 6 })).toMatchObject({ ...end, stdout: '\nend\n' });
    const [gap = [0, 0]] = (await sandbox.processes({ all: true }))[0]?.stdout.gaps ?? [];
    const late = await (await sandbox.attach(id, { maxOutput: 40_000_000 })).wait();
    expect(late).toMatchObject(end);
    expect(Buffer.byteLength(late.stdout)).toBe(end.stdoutBytes - gap[1]);
    expect(late.stdout.endsWith('\0é\nend\n')).toBe(true);
  });
});

test('a key starts a process once, also for another host and after a connection that ended', async () => {
  await using opened = await openHost();
  const sandbox = await opened.host.create();
  const command = 'echo x >> runs; until [ -e go ]; do sleep 0.01; done; cat runs';
  const first = await sandbox.spawn(command, { key: 'once' });
  first.wait().catch(() => {}); // its host goes away
  await opened.host.close();
  await using later = await SandboxHost.open({ stateDir: opened.stateDir });
  const again = await later.connect(sandbox.id);
  const joined = await again.spawn(command, { key: 'once' });
  expect(joined.id).toBe(first.id);
  await again.fs.writeFile('go', '');
  expect(await text(joined.stdout)).toBe('x\n');
  expect(await again.exec(command, { key: 'once' })).toMatchObject({ stdout: 'x\n', exitCode: 0 });
  await later.remove(sandbox.id);
});

test('a key that has started a command starts no other one, and says so', async ({ sandbox }) => {
  await sandbox.exec('echo one', { key: 'k' });
  for (const call of [
    () => sandbox.exec('echo two', { key: 'k' }),
    () => sandbox.spawn('echo one', { key: 'k', env: { A: '1' } }),
  ]) {
    const error: unknown = await call().catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ProcessKeyConflictError);
    expect(String(error)).toContain('echo one');
  }
  expect((await sandbox.exec('echo one', { key: 'k' })).stdout).toBe('one\n');
  // Another session has keys of its own.
  await using session = await sandbox.session();
  expect((await session.exec('echo two', { key: 'k' })).stdout).toBe('two\n');
});

test('what a process behind >(…) still has to pass on belongs to the output, however slow it gets its turn', async ({
  shared: sandbox,
}) => {
  const command = ['bash', '-c', 'exec > >(tee log); seq 1000'];
  const results = await Promise.all(Array.from({ length: 40 }, () => sandbox.exec(command)));
  expect(new Set(results.map(({ stdoutBytes }) => stdoutBytes))).toEqual(new Set([3_893]));
});

test('a server that is left to start up, busy and silent, holds the end of its command up for a moment only', async ({
  shared: sandbox,
}) => {
  const { stdout, durationMs } = await sandbox.exec('(while :; do :; done) & echo hi');
  expect(stdout).toBe('hi\n');
  expect(durationMs).toBeLessThan(5_000); // that is for what passes on
});
