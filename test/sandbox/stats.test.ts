import { expect } from 'vitest';
import { InvalidOptionsError, SandboxNotFoundError } from '../../src/sandbox/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

const MiB = 1024 * 1024;

test('stats say what is used, and the limits', async ({ host }) => {
  await using sandbox = await host.create({ limits: { memory: 256 * MiB, cpus: 1, pids: 100 } });
  const before = await sandbox.stats();
  expect(before).toEqual({
    state: 'running',
    uptime: expect.any(Number),
    memory: { used: expect.any(Number), limit: 256 * MiB },
    cpu: { time: expect.any(Number), share: expect.any(Number), limit: 1 },
    processes: { count: expect.any(Number), limit: 100 },
  });
  expect(before.memory.used).toBeGreaterThan(4 * MiB);

  // A shell that holds 40 MiB and has three children.
  const program = 'x=$(head -c 40000000 /dev/zero | tr "\\0" x); for i in 1 2 3; do sleep 1000 & done; echo up; wait';
  await using process_ = await sandbox.spawn(program);
  await new Promise((resolve) => process_.stdout.once('data', resolve));
  const { memory, processes, cpu, uptime } = await sandbox.stats();
  expect(memory.used - before.memory.used).toBeGreaterThan(30 * MiB);
  expect(processes.count - before.processes.count).toBe(4);
  expect(cpu.time).toBeGreaterThan(before.cpu.time);
  expect(uptime).toBeGreaterThan(before.uptime);
});

test('the CPU share is that since the last look, and what is in files counts as given back', async ({ sandbox }) => {
  const asked = performance.now();
  const before = await sandbox.stats();
  const answered = performance.now();
  await sandbox.exec('i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done');
  const askedAgain = performance.now();
  const busy = await sandbox.stats();
  // How many CPUs it got is the machine's affair: what it used, it used between the two looks.
  const used = busy.cpu.time - before.cpu.time;
  expect(used).toBeGreaterThan(50);
  expect(busy.cpu.share).toBeGreaterThanOrEqual(used / (performance.now() - asked + 1));
  expect(busy.cpu.share).toBeLessThanOrEqual(used / (askedAgain - answered - 1));
  await sandbox.exec('sleep 1');
  expect((await sandbox.stats()).cpu.share).toBeLessThan(busy.cpu.share);

  await sandbox.exec('head -c 100000000 /dev/zero > file; sync; cat file > /dev/null');
  expect((await sandbox.stats()).memory.used - busy.memory.used).toBeLessThan(40 * MiB);
  expect((await sandbox.stats({ disk: true })).disk).toBeGreaterThan(95 * MiB);
});

test('a sandbox that does not run uses nothing, and one that is paused what it has', async ({ host, sandbox }) => {
  await sandbox.pause();
  expect(await sandbox.stats()).toMatchObject({ state: 'paused', processes: { count: expect.any(Number) } });
  expect((await sandbox.stats()).memory.used).toBeGreaterThan(4 * MiB);
  await sandbox.stop();
  expect(await sandbox.stats()).toMatchObject({
    state: 'exited',
    uptime: 0,
    memory: { used: 0, limit: 2048 * MiB },
    cpu: { time: 0, share: 0 },
    processes: { count: 0 },
  });
  const gone = await host.create();
  await gone.remove();
  await expect(gone.stats()).rejects.toBeInstanceOf(SandboxNotFoundError);
  // @ts-expect-error there is no such option
  await expect(sandbox.stats({ disks: true })).rejects.toBeInstanceOf(InvalidOptionsError);
});
