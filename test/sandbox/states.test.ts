import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import Docker from 'dockerode';
import { describe, expect, onTestFinished } from 'vitest';
import { SandboxDiedError, SandboxNotFoundError, SandboxPausedError } from '../../src/sandbox/errors.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { test } from '../support/sandbox-fixture.ts';

const container = ({ id }: Sandbox) => new Docker().getContainer(`berth-${id}`);

/** In an object, as a promise can't be the result of one. */
async function running(sandbox: Sandbox, options: { timeout?: number } = {}) {
  let up = () => {};
  const started = new Promise<void>((resolve) => {
    up = resolve;
  });
  const result = sandbox.exec('echo up; sleep 1000', { onStdout: up, ...options });
  result.catch(() => {}); // looked at later
  await started;
  return { result };
}

describe('a paused sandbox', () => {
  test('refuses calls, and says how it goes on', async ({ sandbox }) => {
    const session = await sandbox.session();
    await sandbox.pause();
    const calls = [
      () => sandbox.exec('true'),
      () => sandbox.spawn('true'),
      () => sandbox.pty({ cols: 80, rows: 24 }),
      () => session.exec('true'),
      () => sandbox.session(),
      () => sandbox.fs.readFile('file'),
      () => sandbox.fs.writeFile('file', 'content'),
      () => sandbox.start(),
    ];
    for (const call of calls) {
      const error: unknown = await call().catch((cause: unknown) => cause);
      expect(error, call.toString()).toBeInstanceOf(SandboxPausedError);
      expect(String(error)).toContain(`berth sandbox resume ${sandbox.id}`);
    }
    await sandbox.resume();
    expect(await sandbox.fs.exists('file')).toBe(false);
  });

  test('is known as such when somebody else paused it, and takes calls again when he resumed it', async ({
    sandbox,
  }) => {
    await sandbox.exec('true');
    await container(sandbox).pause();
    expect((await sandbox.info()).state).toBe('paused');
    // Sent before it was known or after: it is not waited for.
    await expect(sandbox.exec('true', { timeout: 1 })).rejects.toBeInstanceOf(SandboxPausedError);
    await container(sandbox).unpause();
    expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
  });

  test('lets go of a command whose signal aborts or whose time is over, and kills it when it goes on', async ({
    sandbox,
  }) => {
    const abort = new AbortController();
    const aborted = await sandbox.spawn('sleep 1001', { signal: abort.signal });
    const { result: late } = await running(sandbox, { timeout: 500 });
    const waiting = sandbox.exec('sleep 0.1; echo on');
    await sandbox.pause();
    abort.abort('enough');
    await expect(aborted.wait()).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    await expect(late).rejects.toMatchObject({ code: 'sandbox_paused', meta: { timedOut: true } });
    await sandbox.resume();
    expect((await waiting).stdout).toBe('on\n');
    await expect.poll(async () => (await sandbox.processes()).length, { timeout: 10_000 }).toBe(0);
  });

  test('does not hold up the end of a process, which comes when it goes on', async ({ sandbox }) => {
    const process_ = await sandbox.spawn('sleep 1002');
    const terminal = await sandbox.pty({ cols: 80, rows: 24 });
    await sandbox.pause();
    await expect(process_.kill()).rejects.toBeInstanceOf(SandboxPausedError);
    await process_[Symbol.asyncDispose]();
    await expect(terminal.kill()).rejects.toBeInstanceOf(SandboxPausedError);
    await terminal[Symbol.asyncDispose]();
    await sandbox.resume();
    await expect.poll(async () => (await sandbox.processes()).length, { timeout: 10_000 }).toBe(0);
  });

  test('can be stopped, as any other, and removed', async ({ host }) => {
    const sandbox = await host.create();
    await sandbox.spawn('trap "echo bye > bye; exit" TERM; touch up; while :; do sleep 0.05; done', { detached: true });
    await sandbox.exec('until [ -e up ]; do sleep 0.01; done');
    await container(sandbox).pause();
    await sandbox.stop();
    // Whoever looks at it sees that it was stopped.
    expect((await host.list()).find(({ id }) => id === sandbox.id)?.end).toEqual({ reason: 'stopped', exitCode: 0 });
    await sandbox.start();
    expect(await sandbox.fs.readFile('bye')).toBe('bye\n');
    await sandbox.pause();
    await sandbox.remove();
    await expect(sandbox.info()).rejects.toBeInstanceOf(SandboxNotFoundError);
  });
});

test.for(['stopped', 'killed'] as const)(
  'a sandbox that somebody %s says so to who waits, who calls and who looks, and works again when he started it',
  async (how, { host }) => {
    await using sandbox = await host.create({ limits: { memory: 128 * 1024 * 1024 } });
    await sandbox.fs.writeFile('file', 'kept');
    const { result: waiting } = await running(sandbox);
    // What the memory was not enough for before is not why it ends.
    expect((await sandbox.exec('tail /dev/zero')).oomKilled).toBe(true);
    await (how === 'stopped' ? container(sandbox).stop() : container(sandbox).kill());
    const died = { code: 'sandbox_died', meta: { reason: how } };
    await expect(waiting).rejects.toMatchObject(died);
    await expect(sandbox.exec('true')).rejects.toMatchObject(died);
    const state = { state: 'exited', end: { reason: how, exitCode: 137 } };
    expect(await sandbox.info()).toMatchObject(state);
    expect((await host.list()).find(({ id }) => id === sandbox.id)).toMatchObject(state);
    await container(sandbox).start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
  },
);

describe.runIf(process.getuid?.() === 0)('a sandbox-agent that is killed', () => {
  const firstProcess = async (sandbox: Sandbox) => (await container(sandbox).inspect()).State.Pid;

  test('by somebody on this machine is no want of memory, though there was one before', async ({ host }) => {
    await using sandbox = await host.create({ limits: { memory: 128 * 1024 * 1024 } });
    expect((await sandbox.exec('tail /dev/zero')).oomKilled).toBe(true);
    await wait(2_500); // what the engine tells of memory belongs to an end that is near
    process.kill(await firstProcess(sandbox), 'SIGKILL');
    await expect(sandbox.exec('sleep 1000')).rejects.toMatchObject({ meta: { reason: 'killed' } });
    expect((await sandbox.info()).end).toEqual({ reason: 'killed', exitCode: 137 });
  });

  test('by the kernel for want of memory says so, and start() goes on with the files', async ({ host }) => {
    await using sandbox = await host.create({ limits: { memory: 128 * 1024 * 1024 } });
    await sandbox.fs.writeFile('file', 'kept');
    const pid = await firstProcess(sandbox);
    const ids = await readFile(`/proc/${pid}/cgroup`, 'utf8');
    const [, path = ''] = /^\d+:memory:(.*)$/m.exec(ids) ?? /^0::(.*)$/m.exec(ids) ?? [];
    const group = [`/sys/fs/cgroup/memory${path}`, `/sys/fs/cgroup${path}`].find((folder) => existsSync(folder));
    // Takes all of its memory from outside, and is not the first that is killed for it.
    await writeFile(`/proc/${pid}/oom_score_adj`, '1000');
    const greedy = `echo $$ > ${group}/cgroup.procs; exec tail /dev/zero`;
    const hog = spawn('/bin/sh', ['-c', greedy], { stdio: 'ignore' });
    const gone = once(hog, 'exit');
    onTestFinished(() => void hog.kill('SIGKILL'));
    await expect
      .poll(async () => (await sandbox.info()).end, { timeout: 20_000 })
      .toEqual({
        reason: 'oom',
        exitCode: 137,
      });
    await expect(sandbox.exec('true')).rejects.toMatchObject({ code: 'sandbox_died', meta: { reason: 'oom' } });
    hog.kill('SIGKILL');
    await gone;
    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
  });
});

test('a sandbox that somebody restarted says so to who waits, and works', async ({ sandbox }) => {
  await sandbox.fs.writeFile('file', 'kept');
  const { result: waiting } = await running(sandbox);
  await container(sandbox).restart();
  const error: unknown = await waiting.catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(SandboxDiedError);
  // The second, when it ran again before the end of the connection was seen.
  expect((error as SandboxDiedError).meta.reason).toMatch(/^(stopped|restarted)$/);
  expect(await sandbox.fs.readFile('file')).toBe('kept');
});
