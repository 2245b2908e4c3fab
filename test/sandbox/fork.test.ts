import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import Docker from 'dockerode';
import { execa } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { baseImageTag } from '../../src/engine/docker/base-image.ts';
import { ContainerStartError } from '../../src/engine/errors.ts';
import { InvalidOptionsError, SandboxKeyConflictError, SandboxNotFoundError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { StateDir } from '../../src/sandbox/state-dir.ts';
import { openHost } from '../support/sandbox-fixture.ts';

const checkout = join(import.meta.dirname, '../..');
const docker = new Docker();

/** What the engine has of a state directory. */
async function onEngine(stateDir: string) {
  const { hostId } = JSON.parse(await readFile(join(stateDir, 'identity.json'), 'utf8'));
  const filters = JSON.stringify({ label: [`berth.host=${hostId}`] });
  const [images, containers, { Volumes }] = await Promise.all([
    docker.listImages({ all: true, filters }),
    docker.listContainers({ all: true, filters }),
    docker.listVolumes({ filters }),
  ]);
  const volumes = Volumes.filter(({ Labels }) => Labels['berth.volume'] !== 'agent');
  return { images: images.length, containers: containers.length, volumes: volumes.length };
}

async function fork(host: SandboxHost, parent: Sandbox, key: string): Promise<Sandbox> {
  const [made] = await host.fork(parent, { keys: [key] });
  if (!made) throw new Error('it gives one a key');
  return made;
}

async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'berth-test-fork-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** An image for one test, of the base image. */
async function buildImage(name: string, lines: readonly string[]): Promise<string> {
  const tag = `berth-test-fork-${name}-${process.pid}`;
  const input = [`FROM ${await baseImageTag()}`, ...lines].join('\n');
  await execa('docker', ['build', '-q', '--network=none', '-t', tag, '-'], { input, env: { DOCKER_BUILDKIT: '0' } });
  onTestFinished(async () => {
    await docker.getImage(tag).remove({ force: true });
  });
  return tag;
}

const nothing = { images: 0, containers: 0, volumes: 0 };

test('forks have the files that their parent has at that moment, and each its own from then on', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create({
    labels: { of: 'parent', 'berth.run': 'r' },
    env: { OF_PARENT: 'x', NODE_OPTIONS: '--x' },
    key: 'p',
  });
  await parent.exec(
    'mkdir sub && echo one > sub/file && ln sub/file hard && ln -s sub/file link && chmod 640 sub/file',
  );
  await parent.exec('echo outside > /tmp/outside && rm /home/berth/.bashrc');
  const running = await parent.spawn('sleep 1000', { key: 'command' });

  const forks = await host.fork(parent, {
    keys: ['b', 'a'],
    options: { env: { OF_FORK: 'y' }, labels: { of: 'fork' } },
  });
  const [b, a] = forks;
  if (!a || !b) throw new Error('there are two keys');
  for (const fork of forks) {
    expect(await fork.processes({ all: true })).toEqual([]);
    expect(
      (await fork.exec('stat -c "%n %a %U %h %F" sub/file link; cat link hard /tmp/outside; ls -A ~')).stdout,
    ).toBe(
      'sub/file 640 berth 2 regular file\nlink 777 berth 1 symbolic link\none\none\noutside\n.bash_logout\n.profile\n',
    );
    const { stdout } = await fork.exec('env');
    expect(stdout).toContain('OF_FORK=y\n');
    expect(stdout).not.toMatch(/OF_PARENT|NODE_OPTIONS|BERTH/);
    expect((await fork.exec('echo anew', { key: 'command' })).stdout).toBe('anew\n');
    expect(fork.isNew).toBe(true);
  }
  const { image, limits } = await parent.info();
  expect(await a.info()).toMatchObject({ image, limits, labels: { of: 'fork' }, key: 'a', state: 'running' });
  expect((await host.list({ labels: { 'berth.run': 'r' } })).map(({ id }) => id)).toEqual([parent.id]);
  await a.fs.writeFile('sub/file', 'two');
  await parent.fs.writeFile('sub/file', 'three');
  expect(await b.fs.readFile('sub/file')).toBe('one\n');
  expect(await a.fs.readFile('hard')).toBe('one\n');
  expect(await running.kill()).toBeUndefined();

  const [again, c] = await host.fork(parent, {
    keys: ['a', 'c'],
    options: { env: { OF_FORK: 'y' }, labels: { of: 'fork' } },
  });
  expect(again).toMatchObject({ id: a.id, isNew: false });
  expect(await again?.fs.readFile('sub/file')).toBe('two');
  expect(await c?.fs.readFile('sub/file')).toBe('three');

  for (const fork of forks) await fork.remove();
  await c?.remove();
  await parent.remove();
  await expect(host.fork(parent, { keys: ['d'] })).rejects.toBeInstanceOf(SandboxNotFoundError);
  expect(await onEngine(stateDir)).toEqual(nothing);
});

describe('what is mounted in the parent', () => {
  /** Of everything below the directory, in bytes: what a copy must have too. */
  const listing = String.raw`find . -printf '%P|%y|%m|%u|%g|%n|%s|%l|%T@\n' | sed -E '/^[^|]*\|d/s/\|[0-9]+\|[^|]*\|([0-9]+)\.[0-9]+$/|\1/; s/\.[0-9]+$//' | LC_ALL=C sort | sha256sum`;
  const fill = String.raw`
    umask 0
    mkdir -p a/b "$(printf 'new\nline')" closed
    printf x > "$(printf 'a/not-utf8-\377')"
    printf content > a/b/file && ln a/b/file a/b/hard && ln -s ../../etc/passwd a/link && ln -s /nowhere a/dangling
    chmod 4711 a/b/file && touch -d '2001-02-03 04:05:06' a/b/file && mkfifo a/fifo && truncate -s 5M a/sparse
    touch closed/secret && chmod 0 closed/secret && chmod 500 closed
    for i in $(seq 300); do echo $i > a/$i; done`;

  test.each(['bind', 'volume'])('as a %s is copied whole, and what a fork writes does not come there', async (kind) => {
    await using opened = await openHost();
    const { host, stateDir } = opened;
    const folder = await temporary();
    const volume = `berth-test-fork-${process.pid}`;
    onTestFinished(async () => {
      if (kind === 'volume') await docker.getVolume(volume).remove({ force: true });
    });
    // What the image has where something is mounted does not show, in a fork neither.
    const image = await buildImage(kind, [
      'USER root',
      'RUN mkdir -p /workspace && touch /workspace/below',
      'USER berth',
    ]);
    const options = { image, workspace: kind === 'bind' ? { bind: folder } : { volume }, key: 'parent' };
    const parent = await host.create(options);
    expect((await parent.exec(fill)).stderr).toBe('');
    const { stdout } = await parent.exec(listing);
    const { id, uid } = (({ stdout: ids }) => ({ id: ids, uid: Number(ids) }))(await parent.exec('id -u'));

    const [one, two] = await host.fork(parent, { keys: ['one', 'two'], options: { workspace: options.workspace } });
    if (!one || !two) throw new Error('there are two keys');
    for (const sandbox of [one, two]) {
      expect((await sandbox.exec(listing)).stdout).toBe(stdout);
      expect((await sandbox.exec('id -u')).stdout).toBe(id);
    }
    await one.exec('echo changed > a/b/file; rm a/1; echo new > made');
    expect((await two.exec(listing)).stdout).toBe(stdout);
    expect((await parent.exec(listing)).stdout).toBe(stdout);
    if (kind === 'bind') expect((await stat(join(folder, 'a/b/file'))).uid).toBe(uid);
    const found = await host.findByKey('one', { workspace: options.workspace });
    expect(await found?.fs.readFile('made')).toBe('new\n');

    // And once more: what is the fork's own is in its forks.
    const again = await fork(host, one, 'again');
    expect(await again.fs.readFile('made')).toBe('new\n');
    expect(await again.fs.exists('a/1')).toBe(false);
    for (const sandbox of [one, two, again, parent]) await sandbox.remove();
    expect(await onEngine(stateDir)).toEqual(nothing);
  });

  test('as a volume that the image asks for is a volume of each fork, with what the parent has changed', async () => {
    await using opened = await openHost();
    const { host, stateDir } = opened;
    const image = await buildImage('volumes', [
      'USER root',
      'RUN mkdir -p /workspace /data/db && echo image > /data/db/file && echo image > /data/db/gone && touch /workspace/gone',
      'RUN chown -R 4321 /data/db && chmod 700 /data/db && chown -R berth /workspace',
      'USER berth',
      'VOLUME /workspace',
      'VOLUME ["/data", "/data/db"]',
    ]);
    const parent = await host.create({ image });
    await parent.exec('echo parent > /data/db/file; rm /data/db/gone', { user: '4321' });
    await parent.exec('rm gone; echo parent > mine');
    const one = await fork(host, parent, 'one');
    const look = 'ls /data/db /workspace; cat /data/db/file /workspace/mine; stat -c %a.%u /data/db';
    const seen = '/data/db:\nfile\n\n/workspace:\nmine\nparent\nparent\n700.4321\n';
    const asOwner = { user: '4321' };
    expect((await one.exec(look, asOwner)).stdout).toBe(seen);
    await one.exec('echo fork > /data/db/file', asOwner);
    const two = await fork(host, one, 'two');
    expect((await parent.exec(look, asOwner)).stdout).toBe(seen);
    expect((await two.exec(look, asOwner)).stdout).toBe(seen.replace('parent', 'fork'));
    for (const sandbox of [one, two, parent]) await sandbox.remove();
    expect(await onEngine(stateDir)).toEqual(nothing);
  });
});

test.each(['paused', 'stopped'])('a parent that is %s has forks as any other, and stays so', async (state) => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create({ workspace: { bind: await temporary() } });
  await parent.fs.writeFile('mounted', 'content');
  await parent.exec('echo layer > /tmp/layer');
  await (state === 'paused' ? parent.pause() : parent.stop());
  const made = await fork(host, parent, 'a');
  expect((await made.exec('cat mounted /tmp/layer')).stdout).toBe('contentlayer\n');
  expect((await parent.info()).state).toBe(state === 'paused' ? 'paused' : 'exited');
  await made.remove();
  await parent.remove();
  expect(await onEngine(stateDir)).toEqual(nothing);
});

test('while forks are made the parent stands still, and its calls wait, in every process that has it', async () => {
  await using opened = await openHost();
  const { host } = opened;
  await using other = await SandboxHost.open({ stateDir: opened.stateDir });
  const parent = await host.create({ workspace: { bind: await temporary() } });
  await parent.exec('head -c 50000000 /dev/urandom > /tmp/layer');
  const views = [parent, await other.connect(parent.id)];
  const forking = new AbortController();
  let calls = 0;
  const callAllAlong = async (view: Sandbox, name: number) => {
    while (!forking.signal.aborted) {
      await view.fs.writeFile(`${name}/${calls++}`, 'x'.repeat(100_000));
      expect((await view.exec('echo fine')).stdout).toBe('fine\n');
      expect(await view.fs.readFile(`${name}/${calls - 1}`).catch(() => '')).toMatch(/^(x*)$/);
    }
  };
  const calling = Promise.all(views.map(callAllAlong));
  const forks = await host.fork(parent, { keys: ['a', 'b'] }).finally(() => forking.abort());
  await calling;
  expect(calls).toBeGreaterThan(0);
  // Nor has a fork what was half written.
  for (const made of forks) {
    expect((await made.exec('find . -name ".berth*" -o -type f ! -size 100000c')).stdout).toBe('');
    await made.remove();
  }
  await parent.remove();
});

test('what a stream was writing into the parent goes on there, and is not in the fork', async () => {
  await using opened = await openHost();
  const { host } = opened;
  const parent = await host.create();
  await parent.fs.mkdir('sub');
  const stream = parent.fs.createWriteStream('sub/file');
  await new Promise((resolve) => stream.write('half', resolve));
  while ((await parent.fs.readdir('sub')).length === 0) await parent.exec('true');
  const made = await fork(host, parent, 'a');
  expect((await made.exec('ls -A sub')).stdout).toBe('');
  await new Promise<void>((resolve) => stream.end(' and the rest', resolve));
  expect(await parent.fs.readFile('sub/file')).toBe('half and the rest');
});

test('what keeps one of the forks from being made is told, and leaves none', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create();
  const before = await onEngine(stateDir);
  const unknownUser = host.fork(parent, { keys: ['a', 'b', 'c'], options: { user: 'nobody-of-this-name' } });
  await expect(unknownUser).rejects.toBeInstanceOf(ContainerStartError);
  await expect(host.fork(parent, { keys: ['a', 'a'] })).rejects.toBeInstanceOf(InvalidOptionsError);
  await expect(host.fork(parent, { keys: [] })).rejects.toBeInstanceOf(InvalidOptionsError);
  expect(await onEngine(stateDir)).toEqual(before);
  const made = await fork(host, parent, 'a');
  const otherwise = host.fork(parent, { keys: ['a', 'b'], options: { env: { A: 'other' } } });
  await expect(otherwise).rejects.toBeInstanceOf(SandboxKeyConflictError);
  expect((await host.list()).map(({ id }) => id).sort()).toEqual([made.id, parent.id].sort());
});

test('a fork that is given up on at any moment leaves nothing, and its parent as it was', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create({ workspace: { bind: await temporary() } });
  await parent.exec('head -c 20000000 /dev/urandom | tee file > /tmp/file');
  const before = await onEngine(stateDir);
  const { hostId } = JSON.parse(await readFile(join(stateDir, 'identity.json'), 'utf8'));
  /** Aborts at one of the events that a fork has on the engine. */
  for (const event of ['pause', 'commit', 'create', 'attach', 'start', 'die', undefined]) {
    const aborting = new AbortController();
    const events = await docker.getEvents({ filters: { label: [`berth.host=${hostId}`] } });
    events.on('data', (line: Buffer) => {
      if (event !== undefined && line.includes(`"Action":"${event}"`)) aborting.abort(new Error(event));
    });
    if (event === undefined) aborting.abort();
    const forking = host.fork(parent, { keys: ['a', 'b'], signal: aborting.signal });
    const [outcome] = await Promise.allSettled([forking]);
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ name: 'AbortError' });
    // The event came when all was done.
    else await Promise.all(outcome.value.map((made) => made.remove()));
    if (event === undefined) expect(outcome.status).toBe('rejected');
    (events as Readable).destroy();
    expect(await onEngine(stateDir)).toEqual(before);
    expect((await parent.exec('echo fine')).stdout).toBe('fine\n');
  }
  expect((await host.collect({ dryRun: true })).removed).toEqual([]);
});

test('of forks whose process was killed the same keys make what is missing, and collect finds what is left', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const options = { key: 'parent', workspace: { bind: await temporary() } };
  const parent = await host.create(options);
  await parent.exec('head -c 20000000 /dev/urandom > file');
  const { hostId } = JSON.parse(await readFile(join(stateDir, 'identity.json'), 'utf8'));
  for (const event of ['commit', 'create', 'start']) {
    const script = `
      import { createRequire } from 'node:module';
      import { SandboxHost } from '${checkout}/src/sandbox/host.ts';
      const Docker = createRequire('${checkout}/package.json')('dockerode');
      const host = await SandboxHost.open({ stateDir: ${JSON.stringify(stateDir)} });
      const parent = await host.create(${JSON.stringify(options)});
      const events = await new Docker().getEvents({ filters: { label: ['berth.host=${hostId}'], event: ['${event}'] } });
      events.on('data', () => process.kill(process.pid, 'SIGKILL'));
      await host.fork(parent, { keys: ['a', 'b'] });
      console.log('not killed');`;
    const loader = `${checkout}/node_modules/tsx/dist/loader.mjs`;
    const killed = await execa('node', ['--import', loader, '--input-type=module', '-e', script], { reject: false });
    expect(killed).toMatchObject({ signal: 'SIGKILL' });
    // As whoever goes on with the work does: it was left frozen where that was its last moment.
    await host.create(options);
    const forks = await host.fork(parent, { keys: ['a', 'b'] });
    for (const made of forks) {
      expect((await made.exec('stat -c %s file')).stdout).toBe('20000000\n');
      await made.remove();
    }
    await host.collect();
    expect(await onEngine(stateDir)).toEqual({ images: 0, containers: 1, volumes: 1 });
  }
});

test('collect removes an image that no fork uses, but not while forks are being made, and none that has a name', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create();
  const made = await fork(host, parent, 'a');
  const child = await fork(host, made, 'b');
  expect(await onEngine(stateDir)).toMatchObject({ images: 2 });
  expect((await host.collect({ dryRun: true })).removed).toEqual([]);
  // Somebody removes them who knows nothing of images.
  const imageOf = async ({ id }: Sandbox) => (await docker.getContainer(`berth-${id}`).inspect()).Image;
  const names = [await imageOf(child), await imageOf(made)];
  for (const { id } of [made, child]) await docker.getContainer(`berth-${id}`).remove({ force: true, v: true });
  const images = names.map((name) => ({ kind: 'image', name, reason: 'unused' }));

  const state = await StateDir.open(stateDir);
  const locks = await Promise.all([parent, made].map(({ id }) => state.lockFrozen(id)));
  expect((await host.collect()).removed).not.toContainEqual(expect.objectContaining({ kind: 'image' }));
  for (const lock of locks) await lock[Symbol.asyncDispose]();
  state.close();
  const tag = `berth-test-fork-kept-${process.pid}`;
  await docker.getImage(names[1] ?? '').tag({ repo: tag });
  const { removed } = await host.collect({ dryRun: true });
  expect(removed.filter(({ kind }) => kind === 'image')).toEqual(images.slice(0, 1));
  await host.collect();
  expect(await onEngine(stateDir)).toMatchObject({ images: 1 });
  await docker.getImage(tag).remove({ noprune: true });
  await host.collect();
  expect(await onEngine(stateDir)).toMatchObject({ images: 0, containers: 1 });
});

test('a fork of a fork stays when that goes, and with the last one all of their images go', async () => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const parent = await host.create({ env: { OF_PARENT: 'x' }, user: 'root' });
  await parent.exec('echo one > file');
  const [first] = await host.fork(parent, { keys: ['first'], options: { env: { OF_FIRST: 'y' } } });
  await first?.exec('echo two >> file; echo gone > /etc/berth-gone');
  const second = await fork(host, first ?? parent, 'second');
  await first?.remove();
  await parent.remove();
  expect((await second.exec('cat file; id -un; env')).stdout).toMatch(/^one\ntwo\nroot\n((?!OF_).*\n)*$/);
  await host.remove(second.id);
  expect(await onEngine(stateDir)).toEqual(nothing);
});

test('a fork of a sandbox from the pool is as asked for, and no longer of the pool', async () => {
  await using opened = await openHost();
  const { stateDir } = opened;
  await using host = await SandboxHost.open({ stateDir, pool: 1 });
  await host.warm();
  const parent = await host.create({ key: 'p', user: '1234', env: { A: 'b' }, labels: { of: 'parent' } });
  await parent.exec('echo mine > file');
  const [made] = await host.fork(parent, { keys: ['a'], options: { user: '1234', env: { A: 'c' } } });
  expect((await made?.exec('cat file; echo $A; id -u'))?.stdout).toBe('mine\nc\n1234\n');
  expect(await made?.info()).toMatchObject({ key: 'a', labels: {}, image: (await parent.info()).image });
  expect((await opened.host.list()).map(({ key }) => key).sort()).toEqual(['a', 'p']);
});

test('forks asked for at once, also by several processes and in several orders, are made once each', async () => {
  await using opened = await openHost();
  await using other = await SandboxHost.open({ stateDir: opened.stateDir });
  const parent = await opened.host.create();
  const theirs = await other.connect(parent.id);
  const asked = await Promise.all([
    opened.host.fork(parent, { keys: ['a', 'b', 'c', 'd', 'e', 'f'] }),
    other.fork(theirs, { keys: ['f', 'd', 'a'] }),
    opened.host.fork(parent, { keys: ['c', 'a'] }),
  ]);
  const ids = asked.map((forks) => forks.map(({ id }) => id));
  const [a, , c, d, , f] = ids[0] ?? [];
  expect(ids.slice(1)).toEqual([
    [f, d, a],
    [c, a],
  ]);
  expect(await opened.host.list()).toHaveLength(7);
});
