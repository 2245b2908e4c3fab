import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RuntimeNotFoundError } from '../../../src/engine/errors.ts';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { install, reasonToSkip, type SecondEngine, startPodman } from './second-engine.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const name = `Podman${reasonToSkip === undefined ? '' : `: ${reasonToSkip}`}`;
describe.skipIf(reasonToSkip !== undefined)(name, () => {
  let engine: SecondEngine;
  let opened: HostOnEngine;
  beforeAll(async () => {
    await install({ podman: 'podman', crun: 'crun' });
    engine = await startPodman();
    opened = await openHostOn(engine);
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  testSandboxes(
    () => opened.host,
    (id) => opened.wireOf(id),
    { wire: 'unix' },
  );

  test('a runtime that its Docker API would not take is refused, also one that Podman has heard of', async () => {
    for (const runtime of ['runsc', 'kata', 'io.containerd.kata.v2', 'nonsense']) {
      const making = opened.host.create({ runtime });
      await expect(making).rejects.toBeInstanceOf(RuntimeNotFoundError);
      await expect(making).rejects.toMatchObject({ meta: { known: ['crun'] } });
    }
    await using sandbox = await opened.host.create({ runtime: 'crun' });
    expect((await sandbox.exec('echo runs')).stdout).toBe('runs\n');
  });

  test('a fork has a copy of a volume', async () => {
    const volume = `berth-test-${process.pid}`;
    const parent = await opened.host.create({ workspace: { volume } });
    await parent.exec('mkdir a && echo content > a/file && chmod 640 a/file && touch -d 2001-02-03 a/file');
    const stream = parent.fs.createWriteStream('half');
    await new Promise((resolve) => stream.write('half', resolve));
    while ((await parent.fs.readdir('.')).length === 1) await parent.exec('true');
    const [fork] = await opened.host.fork(parent, { keys: ['copy'] });
    const { stdout } = (await fork?.exec('cat a/file; stat -c "%a %U %Y" a/file; ls -A')) ?? {};
    expect(stdout).toBe('content\n640 berth 981158400\na\n');
    stream.destroy();
    await fork?.remove();
    await parent.remove();
    await engine.docker.getVolume(volume).remove();
  });

  test('makes the base image by itself, and lists it under its own name', async () => {
    for (const { Id } of await engine.docker.listImages()) await engine.docker.getImage(Id).remove({ force: true });
    const env = { DOCKER_HOST: `unix://${engine.address.socketPath}` };
    const berth = (...args: string[]) => execa(process.execPath, ['dist/cli/main.js', ...args], { cwd: root, env });
    const { image } = JSON.parse((await berth('image', 'build', '--json')).stdout);
    const listed = JSON.parse((await berth('image', 'ls', '--json')).stdout);
    expect(listed).toContainEqual(expect.objectContaining({ name: image, current: true }));
    await using sandbox = await opened.host.create();
    expect((await sandbox.exec('id -un; pwd')).stdout).toBe('berth\n/workspace\n');
  });
});
