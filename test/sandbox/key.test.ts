import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import { ImageNotFoundError } from '../../src/engine/errors.ts';
import { InvalidOptionsError, SandboxExistsError, SandboxKeyConflictError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { hash } from '../../src/sandbox/key.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const checkout = join(import.meta.dirname, '../..');

/** Runs a program in a process of its own, with a `host` of this state directory. */
function runElsewhere(stateDir: string, body: string) {
  const script = `
    const { SandboxHost } = await import('${checkout}/src/sandbox/host.ts');
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(stateDir)} });
    ${body}`;
  return execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { cwd: checkout, reject: false });
}

test('a key gives one sandbox, asked for at once from several processes, and again after they have gone', async () => {
  await using opened = await openHost();
  await using other = await SandboxHost.open({ stateDir: opened.stateDir });
  const asking = `
    const sandbox = await host.create({ key: 'build of a=b, *' });
    await sandbox.exec('echo x >> asked');
    console.log(sandbox.id);
    await host.close();`;
  const ids = await Promise.all([
    ...[1, 2].map(async () => (await runElsewhere(opened.stateDir, asking)).stdout),
    ...[opened.host, other, other].map(async (host) => {
      const sandbox = await host.create({ key: 'build of a=b, *' });
      await sandbox.exec('echo x >> asked');
      return sandbox.id;
    }),
  ]);
  const [id = ''] = ids;
  expect(ids).toEqual(Array(5).fill(id));
  expect(await opened.host.list()).toMatchObject([{ id, key: 'build of a=b, *' }]);
  await opened.host.close();
  await using later = await SandboxHost.open({ stateDir: opened.stateDir });
  const again = await later.create({ key: 'build of a=b, *' });
  expect(again.id).toBe(id);
  expect(await again.fs.readFile('asked')).toBe('x\n'.repeat(5));
  expect((await later.create({ key: 'another' })).id).not.toBe(id);
  await later.remove(id);
  for (const one of await later.list()) await later.remove(one.id);
  await later.close();
});

test('names what is different in another request with the same key, and takes the same in another order', async () => {
  await using opened = await openHost();
  const { host } = opened;
  const options = {
    env: { A: '1', B: '2' },
    limits: { memory: 256 * 1024 * 1024, pids: 50 },
    labels: { a: 'x', b: 'y' },
  };
  const { id } = await host.create({ key: 'k', ...options });
  const same = { env: { B: '2', A: '1' }, limits: { pids: 50, memory: 256 * 1024 * 1024 }, labels: { b: 'y', a: 'x' } };
  expect((await host.create({ key: 'k', ...same })).id).toBe(id);
  expect((await host.create({ key: 'k', id, ...same, cwd: '/workspace' })).id).toBe(id);
  const different = host.create({
    key: 'k',
    id: 'other',
    env: { A: '1', B: '3' },
    limits: { memory: 256 * 1024 * 1024 },
    labels: { a: 'x', b: 'y' },
    idleTimeout: 5_000,
  });
  const error: unknown = await different.catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(SandboxKeyConflictError);
  expect(error).toMatchObject({ meta: { key: 'k', sandboxId: id } });
  const { options: differing } = (error as SandboxKeyConflictError).meta;
  expect([...differing].sort()).toEqual(['env', 'id', 'idleTimeout', 'limits.pids']);
  expect(await host.list()).toHaveLength(1);

  await host.remove(id);
  const next = await host.create({ key: 'k', id: 'other' });
  expect(next.id).toBe('other');
});

test('of two processes that ask for one key with ids of their own, one is refused, also after a dead one', async () => {
  await using opened = await openHost();
  await using other = await SandboxHost.open({ stateDir: opened.stateDir });
  await writeFile(join(opened.stateDir, 'keys', hash('k')), 'dead');
  const asked = await Promise.allSettled([
    opened.host.create({ key: 'k', id: 'one' }),
    other.create({ key: 'k', id: 'two' }),
  ]);
  const refused = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
  expect(refused).toEqual([expect.any(SandboxKeyConflictError)]);
  expect(refused[0].meta.options).toEqual(['id']);
  expect(await opened.host.list()).toHaveLength(1);
});

test('a sandbox of a key that does not run is started, with its files', async () => {
  await using opened = await openHost();
  const sandbox = await opened.host.create({ key: 'k' });
  await sandbox.fs.writeFile('file', 'kept');
  await sandbox.stop();
  expect(await (await opened.host.create({ key: 'k' })).fs.readFile('file')).toBe('kept');
  await sandbox.pause();
  expect(await (await opened.host.create({ key: 'k' })).fs.readFile('file')).toBe('kept');
});

test('a key gives the sandbox again that works in a directory of this machine', async () => {
  await using opened = await openHost();
  const bind = await mkdtemp(join(tmpdir(), 'berth-test-key-'));
  onTestFinished(() => rm(bind, { recursive: true, force: true }));
  const options = { key: 'k', workspace: { bind } };
  const { id } = await opened.host.create(options);
  expect((await opened.host.create(options)).id).toBe(id);
  expect((await opened.host.findByKey('k', { workspace: { bind } }))?.id).toBe(id);
});

test('a creation that failed, or whose process was killed, leaves the key to the next one', async () => {
  await using opened = await openHost();
  const { host } = opened;
  await expect(host.create({ key: 'k', image: 'no/such:image' })).rejects.toBeInstanceOf(ImageNotFoundError);
  const killed = await runElsewhere(
    opened.stateDir,
    `void host.create({ key: 'k' });
     while ((await host.list()).length === 0);
     process.kill(process.pid, 'SIGKILL');`,
  );
  expect(killed).toMatchObject({ signal: 'SIGKILL' });
  const [half] = await host.list();
  const before = await new Docker().getContainer(`berth-${half?.id}`).inspect();
  const sandbox = await host.create({ key: 'k' });
  expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
  expect((await new Docker().getContainer(`berth-${sandbox.id}`).inspect()).Id).not.toBe(before.Id);
  expect(await host.list()).toHaveLength(1);
});

test('refuses a key that is none, and an id that a sandbox without the key has', async ({ host, sandbox }) => {
  for (const key of ['', 'x'.repeat(257), 'a\0b']) {
    await expect(host.create({ key })).rejects.toBeInstanceOf(InvalidOptionsError);
  }
  await expect(host.create({ key: 'k', id: sandbox.id })).rejects.toBeInstanceOf(SandboxExistsError);
  expect((await sandbox.exec('echo fine')).stdout).toBe('fine\n');
});
