import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import Docker from 'dockerode';
import { expect } from 'vitest';
import { SandboxNotFoundError } from '../../src/sandbox/errors.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

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
