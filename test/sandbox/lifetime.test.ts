import { once } from 'node:events';
import { setTimeout as pass } from 'node:timers/promises';
import Docker from 'dockerode';
import { describe, expect } from 'vitest';
import { InvalidOptionsError, SandboxDiedError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

/** Resolves when the engine says that it ended. Times are what is tested here: this file lets them pass. */
async function ended({ id }: Sandbox): Promise<void> {
  await new Docker().getContainer(`berth-${id}`).wait();
}

const idleTimeout = 1_000;

describe('an idle sandbox', () => {
  test('stops by itself, says why, and begins anew with its files', async ({ host }) => {
    await using sandbox = await host.create({ idleTimeout });
    await sandbox.fs.writeFile('file', 'kept');
    const since = performance.now();
    await ended(sandbox);
    expect(performance.now() - since).toBeGreaterThan(idleTimeout - 200);
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end: { reason: 'idle' } });
    const error: unknown = await sandbox.exec('true').catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(SandboxDiedError);
    expect(error).toMatchObject({ meta: { reason: 'idle' } });

    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
    expect(await sandbox.exec('sleep 1.5')).toMatchObject({ exitCode: 0 });
    await ended(sandbox);
    await sandbox.stop();
    expect((await sandbox.info()).end).toMatchObject({ reason: 'idle' });
  });

  test('is not one that is only looked at', async ({ host }) => {
    await using sandbox = await host.create({ idleTimeout, network: 'open' });
    let over = false;
    const end = ended(sandbox).finally(() => {
      over = true;
    });
    sandbox.observePorts(() => {});
    const looks = () => [
      sandbox.info(),
      sandbox.stats(),
      host.list(),
      sandbox.processes(),
      sandbox.ports(),
      host.connect(sandbox.id),
      sandbox.setNetwork('open'),
    ];
    // At the end some fail, and at once: the others let time go on.
    while (!over) await Promise.allSettled(looks());
    await end;
    expect((await sandbox.info()).end).toMatchObject({ reason: 'idle' });
  });

  test('is none while a command runs that nobody follows, and is one beside what a command left running', async ({
    host,
  }) => {
    await using opened = await openHost();
    const { id } = await opened.host.create({ idleTimeout });
    const sandbox = await opened.host.connect(id);
    await sandbox.spawn('sleep 2; touch done; setsid sleep 1000 &', { detached: true });
    await opened.host.close();
    await ended(sandbox);
    await using later = await SandboxHost.open({ stateDir: opened.stateDir });
    const again = await later.connect(id);
    expect((await again.info()).end).toMatchObject({ reason: 'idle' });
    await again.start();
    expect(await again.fs.exists('done')).toBe(true);
    await again.remove();
    expect(await host.list()).toEqual([]);
  });

  test('is none while a client has output to read or writes a file', async ({ host }) => {
    await using sandbox = await host.create({ idleTimeout });
    const process = await sandbox.spawn('head -c 5000000 /dev/zero');
    await pass(2 * idleTimeout); // it ended long ago; most of its output waits for the reader
    expect(await process.wait()).toMatchObject({ stdoutBytes: 5_000_000 });

    const file = sandbox.fs.createWriteStream('file');
    file.write('half, ');
    await pass(2 * idleTimeout);
    file.end('whole');
    await once(file, 'close');
    expect(await sandbox.fs.readFile('file')).toBe('half, whole');
  });

  test('is none for the time that it was paused', async ({ host }) => {
    await using sandbox = await host.create({ idleTimeout });
    await sandbox.pause();
    await pass(2 * idleTimeout);
    await sandbox.resume();
    expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
    await ended(sandbox);
    expect((await sandbox.info()).end).toMatchObject({ reason: 'idle' });
  });
});

test('stops, starts and is idle in the same way over the exec stream of the engine', async () => {
  await using opened = await openHost('exec');
  const sandbox = await opened.host.create({ idleTimeout: 3_000 });
  await sandbox.spawn('trap "echo bye > bye; exit" TERM; touch up; while :; do sleep 0.05; done', { detached: true });
  await sandbox.exec('until [ -e up ]; do sleep 0.01; done');
  await sandbox.stop();
  expect((await sandbox.info()).end).toMatchObject({ reason: 'stopped', exitCode: 0 });
  await sandbox.start();
  expect(await sandbox.fs.readFile('bye')).toBe('bye\n');
  await ended(sandbox);
  await expect(sandbox.exec('true')).rejects.toMatchObject({ meta: { reason: 'idle' } });
});

describe('a sandbox with a longest life', () => {
  test('ends when that is over, whatever runs and whoever has gone, and no command can hinder it', async () => {
    await using opened = await openHost();
    const sandbox = await opened.host.create({ maxLifetime: 2_000, user: 'root' });
    const program = 'trap "" TERM; for s in TERM ABRT KILL STOP USR1 SEGV; do kill -$s 1; done; sleep 1000; exit 80';
    const command = sandbox.exec(program);
    await expect(command).rejects.toMatchObject({ code: 'sandbox_died', meta: { reason: 'expired' } });
    await sandbox.start();
    await sandbox.spawn(program, { detached: true });
    await opened.host.close();
    await ended(sandbox);
    await using later = await SandboxHost.open({ stateDir: opened.stateDir });
    expect((await (await later.find(sandbox.id)).info()).end).toMatchObject({ reason: 'expired' });
    await later.remove(sandbox.id);
  });

  test('refuses times that are none', async ({ host }) => {
    for (const time of [0, -1, 1.5, Number.POSITIVE_INFINITY, 2 ** 31, '5']) {
      const options = { idleTimeout: time, maxLifetime: time };
      // @ts-expect-error one is no number
      const error: InvalidOptionsError = await host.create(options).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(InvalidOptionsError);
      expect(new Set(error.meta.issues.map(({ path }) => path))).toEqual(new Set(['idleTimeout', 'maxLifetime']));
    }
  });
});

describe('stop', () => {
  test('lets processes end by themselves, also a stopped one', async ({ sandbox }) => {
    const program = (name: string) =>
      `trap "echo bye > ${name}; exit" TERM; touch up-${name}; while :; do sleep 0.05; done`;
    await sandbox.spawn(program('one'), { detached: true });
    const { pid } = await sandbox.spawn(program('two'), { detached: true });
    await sandbox.exec(`until [ -e up-one ] && [ -e up-two ]; do sleep 0.01; done; kill -STOP ${pid}`);
    await sandbox.stop();
    expect((await sandbox.info()).end).toMatchObject({ reason: 'stopped', exitCode: 0 });
    await sandbox.start();
    expect((await sandbox.exec('cat one two')).stdout).toBe('bye\nbye\n');
  });

  test('kills after 2 s what does not end', async ({ sandbox }) => {
    const waiting = sandbox.exec('trap "" TERM; touch up; while :; do sleep 0.05; done');
    await Promise.all([
      expect(waiting).rejects.toMatchObject({ code: 'sandbox_died', meta: { reason: 'stopped' } }),
      (async () => {
        await sandbox.exec('until [ -e up ]; do sleep 0.01; done');
        const since = performance.now();
        await sandbox.stop();
        const took = performance.now() - since;
        expect(took).toBeGreaterThan(1_900);
        expect(took).toBeLessThan(20_000);
      })(),
    ]);
  });
});
