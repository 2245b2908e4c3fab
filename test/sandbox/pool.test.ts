import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { InvalidOptionsError, SandboxNotFoundError } from '../../src/sandbox/errors.ts';
import { SandboxHost, type SandboxHostOptions } from '../../src/sandbox/host.ts';

/** A host whose pool is full; `containers` are the ids of those of its state directory, sandboxes or not. */
async function openPool(pool: SandboxHostOptions['pool'] & {}) {
  const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
  const host = await SandboxHost.open({ stateDir, pool });
  onTestFinished(async () => {
    for (const { id } of await host.list()) await host.remove(id);
    await host.close();
    await rm(stateDir, { recursive: true, force: true });
  });
  await host.warm();
  return { host, stateDir, containers: await containersOf(stateDir) };
}

async function containersOf(stateDir: string): Promise<string[]> {
  const { hostId } = JSON.parse(await readFile(join(stateDir, 'identity.json'), 'utf8'));
  const filters = { label: [`berth.host=${hostId}`, 'berth.sandbox'] };
  const found = await new Docker().listContainers({ all: true, filters });
  return found.map(({ Labels }) => Labels['berth.sandbox'] ?? '');
}

test('a sandbox from the pool is as one that was made for its options, to every process and after a restart', async () => {
  const { host, stateDir, containers } = await openPool(1);
  const [waiting = ''] = containers;
  expect(containers).toHaveLength(1);
  expect(await host.list()).toEqual([]);
  await expect(host.connect(waiting)).rejects.toBeInstanceOf(SandboxNotFoundError);

  const before = new Date();
  const options = {
    env: { NAME: 'value', NODE_OPTIONS: '--x' },
    user: 'nobody',
    cwd: '/work/here',
    idleTimeout: 600_000,
  };
  const sandbox = await host.create({ ...options, key: 'k', labels: { team: 'blue', 'berth.run': 'r' } });
  expect(sandbox.id).toBe(waiting);
  const look = 'echo $NAME $NODE_OPTIONS $(id -un) $PWD; touch file && stat -c %U file';
  const seen = 'value --x nobody /work/here\nnobody\n';
  expect((await sandbox.exec(look)).stdout).toBe(seen);
  await sandbox.fs.writeFile('kept', 'content');

  await using other = await SandboxHost.open({ stateDir });
  const [info, ...rest] = await other.list({ labels: { team: 'blue' } });
  expect(rest).toEqual([]);
  expect(info).toMatchObject({ id: waiting, state: 'running', key: 'k', labels: { team: 'blue', 'berth.run': 'r' } });
  expect(info?.createdAt.getTime()).toBeGreaterThanOrEqual(before.getTime());
  expect(await sandbox.info()).toEqual(info);
  expect(await other.list({ labels: { team: 'red' } })).toEqual([]);
  expect((await other.create({ ...options, key: 'k', labels: { team: 'blue', 'berth.run': 'r' } })).id).toBe(waiting);

  // What it was given is its own also when somebody restarts it who knows nothing of that.
  await new Docker().getContainer(`berth-${waiting}`).restart();
  const again = await other.connect(waiting);
  expect((await again.exec(look)).stdout).toBe(seen);
  expect(await again.fs.readFile('kept')).toBe('content');
  await again.remove();
  await expect(host.connect(waiting)).rejects.toBeInstanceOf(SandboxNotFoundError);
});

test('each is given away once, to those whom it fits, and another takes its place', async () => {
  const { host, stateDir, containers } = await openPool({ size: 2, limits: { pids: 100 } });
  const limits = { pids: 100 };
  const taken = await Promise.all([host.create({ limits }), host.create({ limits, labels: { a: 'b' } })]);
  expect(taken.map(({ id }) => id).sort()).toEqual([...containers].sort());
  await host.warm();
  const next = (await containersOf(stateDir)).filter((id) => !containers.includes(id));
  expect(next).toHaveLength(2);
  // Not for other limits, an id of one's own, another runtime, or a workspace; nor for a user whom it does not have.
  const others = [
    await host.create(),
    await host.create({ limits: { pids: 101 } }),
    await host.create({ limits, id: 'mine' }),
    await host.create({ limits, runtime: 'runc' }),
  ];
  for (const { id } of others) expect(next).not.toContain(id);
  await expect(host.create({ limits, user: 'no-such-user' })).rejects.toMatchObject({ code: 'container_start' });
  expect(await host.list()).toHaveLength(6);
});

test('close removes those that are nobody’s, and collect those of a process that was killed', async () => {
  const { host, stateDir } = await openPool(1);
  const sandbox = await host.create();
  await host.warm();
  await host.close();
  expect(await containersOf(stateDir)).toEqual([sandbox.id]);
  const script = `
    import { SandboxHost } from '${join(import.meta.dirname, '../../src/sandbox/host.ts')}';
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(stateDir)}, pool: 1 });
    await host.warm();
    process.kill(process.pid, 'SIGKILL');`;
  await execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { reject: false });
  await using later = await SandboxHost.open({ stateDir });
  expect((await later.list()).map(({ id }) => id)).toEqual([sandbox.id]);
  const left = (await containersOf(stateDir)).filter((id) => id !== sandbox.id);
  expect(left).toHaveLength(1);
  const { removed } = await later.collect();
  expect(removed).toContainEqual({ kind: 'sandbox', name: left[0], reason: 'its pool has no process' });
  expect(await containersOf(stateDir)).toEqual([sandbox.id]);
  expect((await (await later.connect(sandbox.id)).exec('echo lives')).stdout).toBe('lives\n');
  await later.remove(sandbox.id);
});

test('refuses a pool that is none', async () => {
  for (const pool of [-1, 1.5, 257, { size: 1, limits: { pids: 1 } }, { size: 1, color: 'red' }]) {
    await expect(SandboxHost.open({ pool })).rejects.toBeInstanceOf(InvalidOptionsError);
  }
});
