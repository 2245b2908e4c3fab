import { mkdtemp, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { describe, expect, onTestFinished } from 'vitest';
import { FileError, ProcessLimitError, SandboxDiedError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const docker = new Docker();
const isRoot = process.getuid?.() === 0;
const checkout = join(import.meta.dirname, '../..');
const MiB = 1024 * 1024;

/** Of the sandbox-agent, as this machine sees it. */
async function agentPid({ id }: Sandbox): Promise<number> {
  return (await docker.getContainer(`berth-${id}`).inspect()).State.Pid;
}

describe('a sandbox-agent that is killed', () => {
  test.skipIf(!isRoot)('ends every call at once with why, and start() brings the files back', async ({ sandbox }) => {
    await sandbox.fs.writeFile('file', 'kept');
    const pid = await agentPid(sandbox);
    const kill = () => void process.kill(pid, 'SIGKILL');
    const calls = [
      sandbox.exec('echo up; sleep 1000', { onStdout: kill }),
      sandbox.exec('sleep 1000'),
      sandbox.fs.grep('x', { path: '/' }),
    ];
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toEqual({ status: 'rejected', reason: expect.any(SandboxDiedError) });
    }
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end: { reason: 'killed' } });
    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
    expect(await sandbox.exec('pgrep sleep')).toMatchObject({ exitCode: 1 });
  });
});

describe('a full disk', () => {
  test('is an error of each write, leaves the old content, and is over when there is room again', async ({ host }) => {
    const options = { type: 'tmpfs', device: 'tmpfs', o: 'size=4m' };
    const volume = await docker.createVolume({ Driver: 'local', DriverOpts: options });
    const { name } = volume;
    onTestFinished(() => volume.remove());
    await using sandbox = await host.create({ workspace: { volume: name } });
    await sandbox.fs.writeFile('file', 'old');
    const large = Buffer.alloc(8 * MiB, 'x');
    const noRoom = { name: FileError.name, code: 'ENOSPC' };
    await expect(sandbox.fs.writeFile('file', large)).rejects.toMatchObject(noRoom);
    await expect(sandbox.fs.appendFile('other', large)).rejects.toMatchObject(noRoom);
    expect(await sandbox.exec('cat /dev/zero > zeros')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('No space left on device'),
    });
    await expect(sandbox.fs.copy('other', 'copy')).rejects.toMatchObject(noRoom);
    expect(await sandbox.fs.readFile('file')).toBe('old');
    await sandbox.exec('rm zeros other');
    expect(await sandbox.fs.readdir('.')).toEqual(['file']);
    await sandbox.fs.writeFile('file', 'new');
    expect(await sandbox.fs.readFile('file')).toBe('new');
  });

  test.skipIf(!isRoot)('of the host: a file that is brought out replaces nothing', async ({ sandbox }) => {
    const directory = await mkdtemp(join(tmpdir(), 'berth-test-full-'));
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
    onTestFinished(async () => {
      await execa('umount', ['-l', directory]);
      await rmdir(directory);
    });
    const file = join(directory, 'file');
    await writeFile(file, 'old');
    await sandbox.exec('head -c 3000000 /dev/urandom > large; echo new > small');
    await expect(sandbox.fs.downloadTo('large', file)).rejects.toMatchObject({
      name: 'FileError',
      code: 'ENOSPC',
      path: file,
    });
    expect(await readdir(directory)).toEqual(['file']);
    expect(await readFile(file, 'utf8')).toBe('old');
    await sandbox.fs.downloadTo('small', file);
    expect(await readFile(file, 'utf8')).toBe('new\n');
  });

  test.skipIf(!isRoot)(
    'where output is kept holds up no command and loses nothing of what is read',
    async ({ sandbox }) => {
      await sandbox.stop();
      const { Mounts } = await docker.getContainer(`berth-${sandbox.id}`).inspect();
      const kept = Mounts.find(({ Type, Destination }) => Type === 'volume' && Destination !== '/.berth')?.Source ?? '';
      await execa('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=755', 'tmpfs', kept]);
      onTestFinished(async () => {
        await execa('umount', ['-l', kept]);
      });
      await sandbox.start();
      const result = await sandbox.exec('head -c 20000000 /dev/zero | tr "\\0" x; echo end');
      expect(result).toMatchObject({ exitCode: 0, stdoutBytes: 20_000_004 });
      expect(result.stdout.endsWith('xend\n')).toBe(true);
      await using endless = await sandbox.spawn('yes');
      expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
      await endless.kill('SIGKILL');
      expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
    },
  );
});

test('a fork bomb: the sandbox is reachable, commands are refused with why, and its kill gives the room back', async ({
  host,
}) => {
  await using sandbox = await host.create({ limits: { pids: 100, cpus: 0.5 } });
  const bomb = await sandbox.spawn(['bash', '-c', 'bomb() { bomb | bomb & }; bomb; sleep 1000']);
  const refusal = async (): Promise<unknown> => {
    for (;;) {
      const error: unknown = await sandbox.exec(['true']).then(
        () => undefined,
        (cause: unknown) => cause,
      );
      if (error !== undefined) return error;
    }
  };
  expect(await refusal()).toBeInstanceOf(ProcessLimitError);
  await sandbox.fs.writeFile('file', 'written');
  expect(await sandbox.fs.readFile('file')).toBe('written');
  expect((await sandbox.processes()).map(({ id }) => id)).toContain(bomb.id);
  await bomb.kill('SIGKILL');
  await bomb.wait();
  expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
});

test('a process that prints for ever takes no memory, of the host or the sandbox, whether it is read or not', async ({
  sandbox,
}) => {
  await sandbox.exec('true');
  const before = process.memoryUsage().rss;
  const { memory } = await sandbox.stats();
  await using unread = await sandbox.spawn('yes');
  const read = await sandbox.exec('yes', { timeout: 3_000, maxOutput: 1_000 });
  expect(read).toMatchObject({ timedOut: true, truncated: true });
  expect(read.stdout).toBe('y\n'.repeat(500));
  expect((await sandbox.stats()).memory.used - memory.used).toBeLessThan(150 * MiB);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * MiB);
  await unread.kill('SIGKILL');
});

test('a host that is killed loses nothing: the next one has all that a command wrote meanwhile', async () => {
  await using opened = await openHost();
  const count = 'i=0; while [ $i -lt 300 ]; do echo $i; i=$((i + 1)); sleep 0.005; done';
  const script = `
    const { SandboxHost } = await import('${checkout}/src/sandbox/host.ts');
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(opened.stateDir)} });
    const sandbox = await host.create({ id: 'of-a-killed-host' });
    const { stdout } = await sandbox.spawn(${JSON.stringify(count)});
    stdout.once('data', () => process.kill(process.pid, 'SIGKILL'));`;
  const killed = await execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: checkout,
    reject: false,
  });
  expect(killed).toMatchObject({ signal: 'SIGKILL' });
  await using later = await SandboxHost.open({ stateDir: opened.stateDir });
  const sandbox = await later.connect('of-a-killed-host');
  const [found] = await sandbox.processes();
  const result = await (await sandbox.attach(found?.id ?? '')).wait();
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.stdout).toBe(Array.from({ length: 300 }, (_, index) => `${index}\n`).join(''));
});
