import { describe, expect, onTestFinished } from 'vitest';
import { InvalidOptionsError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const MiB = 1024 * 1024;
// A line without an end, which tail keeps: it takes all the memory there is.
const greedy = ['tail', '/dev/zero'];

async function withMemory(host: SandboxHost, memory: number): Promise<Sandbox> {
  const sandbox = await host.create({ limits: { memory } });
  onTestFinished(() => sandbox.remove());
  return sandbox;
}

describe.for([128, 256])('with %i MiB', (size) => {
  test.for(['berth', 'root', '4711'])(
    'a greedy command of %s is killed, and the sandbox goes on',
    async (user, { host }) => {
      const sandbox = await withMemory(host, size * MiB);
      expect(await sandbox.exec(greedy, { user })).toMatchObject({
        signal: 'SIGKILL',
        oomKilled: true,
        timedOut: false,
      });
      expect(await sandbox.exec('echo on', { user })).toMatchObject({ stdout: 'on\n', oomKilled: false });
    },
  );

  test('children that are killed are told of when their parent goes on', async ({ host }) => {
    const sandbox = await withMemory(host, size * MiB);
    // Several: each has less than the sandbox-agent when the memory is gone.
    const result = await sandbox.exec(
      `for i in 1 2 3 4; do ${greedy.join(' ')} & done; wait; wait $!; echo "child: $?"`,
    );
    expect(result).toMatchObject({ exitCode: 0, stdout: 'child: 137\n', oomKilled: true });
    expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
  });

  test('what is left in /dev/shm takes no more than a part of it', async ({ host }) => {
    const sandbox = await withMemory(host, size * MiB);
    expect((await sandbox.exec('cat /dev/zero > /dev/shm/file')).stderr).toContain('No space left on device');
    expect((await sandbox.exec('stat -c %s /dev/shm/file')).stdout).toBe(`${Math.min(64, size / 4) * MiB}\n`);
  });
});

test('30 greedy commands at once all go before the sandbox-agent, however many are just starting', async ({ host }) => {
  const sandbox = await withMemory(host, 128 * MiB);
  const results = await Promise.all(Array.from({ length: 30 }, () => sandbox.exec(greedy)));
  expect(new Set(results.map(({ signal, oomKilled }) => `${signal} ${oomKilled}`))).toEqual(new Set(['SIGKILL true']));
  expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
});

test('a child that is killed is told of while its parent goes on', async ({ host }) => {
  const sandbox = await withMemory(host, 256 * MiB);
  const counts: number[] = [];
  const command = 'tail /dev/zero; while [ ! -e told ]; do sleep 0.01; done; echo on';
  const onOomKill = (count: number) => {
    counts.push(count);
    void sandbox.fs.writeFile('told', '');
  };
  expect(await sandbox.exec(command, { onOomKill })).toMatchObject({ exitCode: 0, stdout: 'on\n', oomKilled: true });
  expect(counts).toEqual([1]);
});

test('commands, and all that they start, go before the sandbox-agent when memory runs out', async ({ sandbox }) => {
  for (const user of ['berth', 'root', '4711']) {
    // While it starts a command the sandbox-agent's is higher, and a quick one may see that.
    const difference = async () => {
      const read = 'for p in 1 self; do cat /proc/$p/oom_score_adj; done';
      const [agent = 0, command = 0] = (await sandbox.exec(read, { user })).stdout.split('\n').map(Number);
      return command - agent;
    };
    await expect.poll(difference, { message: user }).toBeGreaterThan(900);
    // One that may be executed but not read, too: what the kernel shows of it is root's.
    await sandbox.exec(`cp $(command -v sleep) /tmp/only-${user}; chmod 111 /tmp/only-${user}`, { user });
    await using secret = await sandbox.spawn([`/tmp/only-${user}`, '1000'], { user });
    expect(await sandbox.exec(`cat /proc/${secret.pid}/oom_score_adj`)).toMatchObject({ stdout: '1000\n' });
  }
});

test('a sandbox that was stopped is not taken for one that ran out of memory before', async () => {
  await using opened = await openHost();
  const sandbox = await opened.host.create({ limits: { memory: 128 * MiB } });
  await sandbox.exec(greedy);
  await sandbox.stop();
  await using later = await SandboxHost.open({ stateDir: opened.stateDir });
  expect((await later.list()).map(({ end }) => end)).toEqual([{ reason: 'stopped', exitCode: 0 }]);
});

test('less memory than the sandbox-agent needs for itself is refused', async ({ host }) => {
  const creating = host.create({ limits: { memory: 128 * MiB - 1 } });
  await expect(creating).rejects.toBeInstanceOf(InvalidOptionsError);
  await expect(creating).rejects.toThrow('limits.memory: is less than 128 MiB');
});

test('what a large output took of the sandbox-agent’s memory is given back when there is nothing to do', async ({
  sandbox,
}) => {
  const anonymous = async () => {
    const { stdout } = await sandbox.exec('grep RssAnon /proc/1/status');
    return Number(/(\d+) kB/.exec(stdout)?.[1]) * 1024;
  };
  for (let round = 0; round < 3; round++) await sandbox.exec(['head', '-c', String(512 * MiB), '/dev/zero']);
  expect(await anonymous()).toBeGreaterThan(32 * MiB); // else there is nothing to show
  // Looked at less often than it takes to have nothing to do.
  await expect.poll(anonymous, { interval: 5_000, timeout: 60_000 }).toBeLessThan(24 * MiB);
});
