import { chown, mkdir, mkdtemp, readdir, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { PassThrough } from 'node:stream';
import Docker from 'dockerode';
import { execa } from 'execa';
import { describe, expect, onTestFinished } from 'vitest';
import { ContainerStartError, EngineError, ImageNotFoundError } from '../../src/engine/errors.ts';
import { EngineUnreachableError } from '../../src/engine/socket.ts';
import {
  InvalidOptionsError,
  SandboxDiedError,
  SandboxExistsError,
  SandboxNotFoundError,
} from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const docker = new Docker();
const container = (id: string) => docker.getContainer(`berth-${id}`);

describe('create', () => {
  test('has safe defaults, and labels on the container', async ({ sandbox }) => {
    const { HostConfig, Config } = await container(sandbox.id).inspect();
    expect(HostConfig).toMatchObject({
      NetworkMode: 'none',
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      Privileged: false,
      Memory: 2 * 1024 ** 3,
      MemorySwap: 2 * 1024 ** 3,
      PidsLimit: 1_024,
    });
    expect(Config.Labels).toMatchObject({ 'berth.sandbox': sandbox.id, 'berth.host': expect.any(String) });
  });

  test('has its own loopback and nothing else of a network, and a name for that', async ({ sandbox }) => {
    const { stdout } = await sandbox.exec('ls /sys/class/net; tail -n +2 /proc/net/route; getent hosts localhost');
    expect(stdout).toMatch(/^lo\n(127\.0\.0\.1|::1) +localhost.*\n$/);
    const server =
      'import socket; s = socket.create_server(("127.0.0.1", 80)); socket.create_connection(("localhost", 80))';
    expect(await sandbox.exec(['python3', '-c', server])).toMatchObject({ exitCode: 0 });
    expect((await sandbox.exec('readlink /proc/self/ns/net')).stdout.trim()).not.toBe(
      await readlink('/proc/self/ns/net'),
    );
  });

  test('says of a taken id how to connect to it', async ({ host, sandbox }) => {
    const error: unknown = await host.create({ id: sandbox.id }).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(SandboxExistsError);
    expect(String(error)).toContain(`host.connect('${sandbox.id}')`);
    expect((await sandbox.exec('echo fine')).stdout).toBe('fine\n');
  });

  test('names an image that is not there, and leaves nothing', async ({ host }) => {
    await expect(host.create({ id: 'no-image', image: 'no/such:image' })).rejects.toMatchObject({
      name: 'ImageNotFoundError',
      code: 'image_not_found',
      meta: { image: 'no/such:image' },
    });
    expect(new ImageNotFoundError({ image: 'x' }).message).toContain('docker pull x');
    expect((await host.list()).map(({ id }) => id)).not.toContain('no-image');
    expect((await host.collect({ dryRun: true })).removed).not.toContainEqual(
      expect.objectContaining({ kind: 'files' }),
    );
  });

  test('takes no name for an id that leads out of the state directory, and removes nothing', async () => {
    await using opened = await openHost();
    const { host, stateDir } = opened;
    const beside = `${stateDir}-beside`;
    onTestFinished(() => rm(beside, { recursive: true, force: true }));
    await mkdir(beside);
    await using sandbox = await host.create();
    for (const id of [`../../${basename(beside)}`, '..', '.', '', '../owners', undefined]) {
      // @ts-expect-error one of them is no string
      const calls = [() => host.remove(id), () => host.connect(id), () => host.find(id)];
      for (const call of calls)
        await expect(call(), String(id)).rejects.toMatchObject({ meta: { issues: [{ path: 'id' }] } });
    }
    expect(await readdir(beside)).toEqual([]);
    expect((await sandbox.exec('echo fine')).stdout).toBe('fine\n');
    // Its socket is there, too.
    await using other = await SandboxHost.open({ stateDir });
    expect((await (await other.connect(sandbox.id)).exec('echo fine')).stdout).toBe('fine\n');
  });

  test('refuses for the whole of a sandbox what is no text: the engine would make other bytes of it', async ({
    host,
  }) => {
    await expect(host.create({ env: { NAME: 'a\udcff' } })).rejects.toThrow('env: holds bytes that are no UTF-8');
  });

  test('names each option that is wrong', async ({ host }) => {
    // @ts-expect-error there is no such option
    const error: InvalidOptionsError = await host.create({ limits: { memory: 1 }, colour: 1 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(InvalidOptionsError);
    expect(error.meta.issues.map(({ path }) => path).sort()).toEqual(['colour', 'limits.memory']);
    await expect(host.create({ labels: { 'berth.host': 'x' } })).rejects.toBeInstanceOf(InvalidOptionsError);
  });

  test('takes environment, user, directory, limits and labels', async ({ host }) => {
    await using sandbox = await host.create({
      env: { NAME: 'value', NODE_OPTIONS: '--no-warnings', LD_LIBRARY_PATH: '/x' },
      user: 'root',
      cwd: '/work/here',
      limits: { memory: 256 * 1024 * 1024, cpus: 0.5, pids: 100 },
      labels: { team: 'blue' },
    });
    const { stdout } = await sandbox.exec('echo $NAME $NODE_OPTIONS $LD_LIBRARY_PATH $(id -u) $PWD');
    expect(stdout).toBe('value --no-warnings /x 0 /work/here\n');
    expect(await sandbox.info()).toMatchObject({
      state: 'running',
      labels: { team: 'blue' },
      limits: { memory: 256 * 1024 * 1024, cpus: 0.5, pids: 100 },
    });
    expect((await host.list({ labels: { team: 'blue' } })).map(({ id }) => id)).toEqual([sandbox.id]);
  });

  test('makes the working directory also where it is the user who may', async ({ host }) => {
    await using sandbox = await host.create({ cwd: '/workspace/new/app' });
    const { stdout } = await sandbox.exec('pwd; stat -c %U . ..');
    expect(stdout).toBe('/workspace/new/app\nberth\nberth\n');
  });

  test.for(['root', 'nobody'])('lets %s write in the working directory, as its user', async (user, { host }) => {
    await using sandbox = await host.create({ user });
    await sandbox.fs.writeFile('file', 'content');
    expect((await sandbox.exec('id -un; cat file')).stdout).toBe(`${user}\ncontent`);
  });

  test('works in a directory of the host when that is the workspace', async ({ host }) => {
    const directory = await mkdtemp(join(tmpdir(), 'berth-test-workspace-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    // As root, which these tests may run as, for somebody else.
    if (process.getuid?.() === 0) await chown(directory, 1234, 4321);
    await using sandbox = await host.create({ workspace: { bind: directory } });
    await sandbox.fs.writeFile('made-inside', '');
    await sandbox.exec('touch by-a-command');
    const { uid, gid } = await stat(directory);
    expect((await readdir(directory)).sort()).toEqual(['by-a-command', 'made-inside']);
    for (const name of await readdir(directory)) expect(await stat(join(directory, name))).toMatchObject({ uid, gid });
  });
});

describe('lifecycle', () => {
  test('another host of the state directory finds it and connects', async () => {
    await using first = await openHost();
    const sandbox = await first.host.create();
    await sandbox.fs.writeFile('file', 'kept');
    await first.host.close();
    await expect(sandbox.exec('true')).rejects.toMatchObject({ code: 'wire_closed' });
    await using second = await SandboxHost.open({ stateDir: first.stateDir });
    expect((await second.list()).map(({ id }) => id)).toEqual([sandbox.id]);
    const again = await second.connect(sandbox.id);
    expect(await again.fs.readFile('file')).toBe('kept');
    await again.remove();
  });

  test('stop and start keep the files', async ({ sandbox }) => {
    await sandbox.fs.writeFile('file', 'kept');
    await sandbox.stop();
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end: { reason: 'stopped' } });
    await expect(sandbox.exec('true')).rejects.toBeInstanceOf(SandboxDiedError);
    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
  });

  test('pause holds everything until resume', async ({ sandbox }) => {
    const waiting = sandbox.exec('sleep 0.2; echo on');
    await sandbox.pause();
    expect((await sandbox.info()).state).toBe('paused');
    await sandbox.resume();
    expect((await waiting).stdout).toBe('on\n');
  });

  test('a state that it has already is no error', async ({ sandbox }) => {
    for (const state of ['paused', 'running'] as const) {
      for (let time = 0; time < 2; time++) await (state === 'paused' ? sandbox.pause() : sandbox.resume());
      expect((await sandbox.info()).state).toBe(state);
    }
    await sandbox.start();
    for (let time = 0; time < 2; time++) await sandbox.stop();
    await expect(sandbox.pause()).rejects.toBeInstanceOf(EngineError);
  });

  test('is told to be gone when somebody else removed it', async ({ sandbox }) => {
    await new Docker().getContainer(`berth-${sandbox.id}`).remove({ force: true });
    for (const change of ['start', 'pause', 'resume', 'stop'] as const) {
      await expect(sandbox[change]()).rejects.toBeInstanceOf(SandboxNotFoundError);
    }
  });

  test('stop ends also what does not answer, as it is paused', async ({ sandbox }) => {
    await sandbox.fs.writeFile('file', 'kept');
    await sandbox.pause();
    await sandbox.stop();
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end: { reason: 'stopped' } });
    await sandbox.start();
    expect(await sandbox.fs.readFile('file')).toBe('kept');
  });

  test.for(['killed', 'removed'] as const)(
    'tells every pending call that the container was %s',
    async (how, { host }) => {
      const sandbox = await host.create();
      const { promise: started, resolve } = signalled();
      const calls = Promise.allSettled([
        sandbox.exec('echo up; sleep 1000', { onStdout: resolve }),
        sandbox.exec('sleep 1000'),
        sandbox.fs.upload(new PassThrough(), '.'), // nothing to send now
      ]);
      await started;
      await (how === 'killed' ? container(sandbox.id).kill() : container(sandbox.id).remove({ force: true }));
      for (const call of await calls) {
        expect(call).toEqual({ status: 'rejected', reason: expect.any(SandboxDiedError) });
      }
      await expect(sandbox.exec('true')).rejects.toBeInstanceOf(SandboxDiedError);
      await sandbox.remove();
    },
  );

  test('remove and connect say what is not there', async ({ host }) => {
    await host.remove('never-was');
    await expect(host.connect('never-was')).rejects.toBeInstanceOf(SandboxNotFoundError);
  });
});

function signalled(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

test('works over the exec stream of the engine alone', async () => {
  await using opened = await openHost('exec');
  const sandbox = await opened.host.create();
  const { Mounts } = await container(sandbox.id).inspect();
  expect(Mounts.map(({ Type }) => Type)).not.toContain('bind');
  const results = await Promise.all(Array.from({ length: 20 }, (_, index) => sandbox.exec(`echo ${index}`)));
  expect(results.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 20 }, (_, index) => `${index}\n`));
  const bytes = Buffer.alloc(8_000_000, 'exec stream ');
  await sandbox.fs.writeFile('file', bytes);
  expect(bytes.equals(await sandbox.fs.readFileBuffer('file'))).toBe(true);
});

test('a state directory with a long path works too', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'berth-test-'));
  onTestFinished(() => rm(parent, { recursive: true, force: true }));
  await using host = await SandboxHost.open({ stateDir: join(parent, 'x'.repeat(120)) });
  await using sandbox = await host.create();
  expect((await sandbox.exec('echo ok')).stdout).toBe('ok\n');
});

test('collect removes what a dead process left of a run, and nothing that lives', async ({ host, sandbox }) => {
  await using other = await openHost();
  const script = `
    import { SandboxHost } from '${join(import.meta.dirname, '../../src/sandbox/host.ts')}';
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(other.stateDir)} });
    await host.create({ id: 'run', labels: { 'berth.run': 'r1' } });
    await host.create({ id: 'instance', labels: { 'berth.instance': 'helper/a' } });
    await host.create({ id: 'lasting', labels: { 'berth.instance': 'helper/b', 'berth.keep': 'true' } });
    await host.create({ id: 'kept' });
    process.kill(process.pid, 'SIGKILL');`;
  await execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { reject: false });
  const expected = [
    { kind: 'sandbox', name: 'instance', reason: 'its agent instance has no process' },
    { kind: 'sandbox', name: 'run', reason: 'its run has no process' },
  ];
  const ids = async () => (await other.host.list()).map(({ id }) => id).sort();
  expect((await other.host.collect({ dryRun: true })).removed).toEqual(expect.arrayContaining(expected));
  expect(await ids()).toEqual(['instance', 'kept', 'lasting', 'run']);
  expect((await other.host.collect()).removed).toEqual(expect.arrayContaining(expected));
  expect(await ids()).toEqual(['kept', 'lasting']);
  await host.collect();
  expect((await sandbox.exec('echo lives')).stdout).toBe('lives\n');
});

test('a container that ends at once is told of with what it printed', () => {
  const error = new ContainerStartError({ reason: 'it ended at once', exitCode: 1, log: 'no such file\n' });
  expect(error.message).toContain('no such file');
});

test('an engine that is not there is told of with what to do', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const error: unknown = await SandboxHost.open({ stateDir, docker: { socketPath: '/no/docker.sock' } }).catch(
    (e) => e,
  );
  expect(error).toBeInstanceOf(EngineUnreachableError);
});
