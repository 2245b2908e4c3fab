import { text } from 'node:stream/consumers';
import Docker from 'dockerode';
import { describe, expect, onTestFinished } from 'vitest';
import { ProcessKeyConflictError, ProcessLostError, SandboxRequestError } from '../../../src/sandbox/errors.ts';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import type { Sandbox } from '../../../src/sandbox/sandbox.ts';
import { openHost, test } from '../../support/sandbox-fixture.ts';

async function containerOf(sandbox: Sandbox): Promise<Docker.Container> {
  const docker = new Docker();
  const [found] = await docker.listContainers({ all: true, filters: { label: [`berth.sandbox=${sandbox.id}`] } });
  return docker.getContainer(found?.Id ?? '');
}

/** As when its sandbox-agent dies: nothing gets a word. */
async function kill(sandbox: Sandbox): Promise<void> {
  const container = await containerOf(sandbox);
  await container.kill();
  await container.wait();
}

describe('a stop and a start', () => {
  test('leave the output and the end of what had ended, also for a new host', async () => {
    await using opened = await openHost();
    const sandbox = await opened.host.create();
    const process = await sandbox.spawn('printf "a\\0b"; echo error >&2; exit 3');
    const before = await process.wait();
    await sandbox.stop();
    await sandbox.start();
    expect(await (await sandbox.attach(process.id)).wait()).toEqual(before);

    await using later = await SandboxHost.open({ stateDir: opened.stateDir });
    const again = await (await later.connect(sandbox.id)).attach(process.id, { stdout: 1 });
    expect(await text(again.stdout)).toBe('\0b');
    expect(await again.wait()).toMatchObject({ exitCode: 3, stderr: 'error\n', stdoutBytes: 3, truncated: true });
  });

  test('leave the exact end of what ran: that which the stop gave it', async ({ sandbox }) => {
    const asked = await sandbox.spawn('echo up; exec sleep 1000');
    const obeying = await sandbox.spawn('trap "echo bye; exit 7" TERM; echo up; while :; do sleep 0.01; done');
    const deaf = await sandbox.spawn('trap "" TERM; echo up; while :; do sleep 0.01; done');
    const all = [asked, obeying, deaf];
    await Promise.all(all.map(({ stdout }) => new Promise((resolve) => stdout.once('data', resolve))));
    await sandbox.stop();
    await sandbox.start();
    const ends = await Promise.all(all.map(async ({ id }) => (await sandbox.attach(id)).wait()));
    expect(ends).toMatchObject([
      { exitCode: null, signal: 'SIGTERM', stdout: 'up\n' },
      { exitCode: 7, signal: null, stdout: 'up\nbye\n' },
      { exitCode: null, signal: 'SIGKILL', stdout: 'up\n' },
    ]);
    expect(await sandbox.processes()).toEqual([]);
  });

  test('do not start again what a key has started', async ({ sandbox }) => {
    const command = 'echo x >> runs; cat runs';
    await sandbox.exec(command, { key: 'once' });
    await sandbox.stop();
    await sandbox.start();
    expect(await sandbox.exec(command, { key: 'once' })).toMatchObject({ stdout: 'x\n', exitCode: 0 });
    expect(await sandbox.fs.readFile('runs')).toBe('x\n');
  });
});

describe('the death of the sandbox-agent', () => {
  test('leaves what had ended, and says of what ran that its end is not known', async ({ sandbox }) => {
    const [short, long] = ['echo x >> runs; head -c 300000 /dev/zero | tr "\\0" x', 'echo before; exec sleep 1000'];
    const ended = await sandbox.exec(short, { key: 'ended' });
    const running = await sandbox.spawn(long, { key: 'lost' });
    await new Promise((resolve) => running.stdout.once('data', resolve));
    await kill(sandbox);
    await sandbox.start();

    const listed = await sandbox.processes({ all: true });
    expect(listed.map(({ state, end }) => [state, end?.exitCode])).toEqual([
      ['ended', 0],
      ['lost', undefined],
    ]);
    expect(await sandbox.exec(short, { key: 'ended' })).toEqual(ended);
    expect(await sandbox.fs.readFile('runs')).toBe('x\n');
    await expect(sandbox.exec('another', { key: 'ended' })).rejects.toBeInstanceOf(ProcessKeyConflictError);
    const again = await sandbox.attach(running.id);
    expect(await text(again.stdout)).toBe('before\n');
    await expect(again.wait()).rejects.toBeInstanceOf(ProcessLostError);
    // The key is used: what it started may have done half of its work.
    await expect(sandbox.exec(long, { key: 'lost' })).rejects.toBeInstanceOf(ProcessLostError);
    expect(await sandbox.processes()).toEqual([]);
  });

  test('leaves a terminal that ran at it to be looked at', async ({ sandbox }) => {
    const pty = await sandbox.pty({ cols: 80, rows: 24, command: 'echo before; exec sleep 1000' });
    await new Promise((resolve) => pty.output.once('data', resolve));
    await kill(sandbox);
    await sandbox.start();
    const again = await sandbox.attachPty(pty.id, { from: 0 });
    expect(await text(again.output)).toBe('before\r\n');
    await expect(again.wait()).rejects.toBeInstanceOf(ProcessLostError);
    expect(await sandbox.exec('echo ok')).toMatchObject({ stdout: 'ok\n' });
  });
});

describe('what is kept', () => {
  test('is out of reach of commands, root among them', async ({ sandbox }) => {
    await sandbox.exec('echo secret');
    for (const user of ['root', 'berth', '4711']) {
      const result = await sandbox.exec(
        'ls /.berth/private/kept; cat /proc/1/fd/*; ls -R /proc/1/cwd/.berth/private; echo x > /.berth/private/kept/journal',
        { user },
      );
      expect(result).toMatchObject({ stdout: '' });
    }
    // Whose the directory is.
    await expect(sandbox.exec('true', { user: '65432' })).rejects.toBeInstanceOf(SandboxRequestError);
  });

  test('is gone with the sandbox, and with it its volume', async ({ host }) => {
    const sandbox = await host.create();
    onTestFinished(() => host.remove(sandbox.id));
    const docker = new Docker();
    const { Mounts } = await (await containerOf(sandbox)).inspect();
    const volume = docker.getVolume(Mounts.find(({ Destination }) => Destination.endsWith('/kept'))?.Name ?? '');
    expect(await volume.inspect()).toMatchObject({ Labels: { 'berth.volume': 'kept' } });
    await sandbox.remove();
    await expect(volume.inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  test('of somebody who removed the container alone is found, and removed by collect', async ({ host }) => {
    const sandbox = await host.create();
    await (await containerOf(sandbox)).remove({ force: true });
    const { removed } = await host.collect();
    expect(removed).toContainEqual(expect.objectContaining({ kind: 'volume' }));
  });
});
