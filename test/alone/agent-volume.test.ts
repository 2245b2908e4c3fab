import Docker from 'dockerode';
import { expect, onTestFinished, test } from 'vitest';
import { ensureAgentVolume } from '../../src/engine/docker/agent-volume.ts';
import { baseImageTag } from '../../src/engine/docker/base-image.ts';
import { ContainerStartError } from '../../src/engine/errors.ts';
import { openHost } from '../support/sandbox-fixture.ts';

const docker = new Docker();

test('fills the volume of the sandbox-agent again when somebody has removed it', async () => {
  await using opened = await openHost();
  const first = await opened.host.create();
  const { Mounts } = await docker.getContainer(`berth-${first.id}`).inspect();
  const volume = Mounts.find(({ Destination }) => Destination === '/.berth')?.Name ?? '';
  await first.remove();
  // In use by a sandbox of somebody else, it can't be removed, and nothing is to be tried.
  const removed = await docker
    .getVolume(volume)
    .remove()
    .then(
      () => true,
      () => false,
    );
  const second = await opened.host.create();
  expect((await second.exec('echo up')).stdout).toBe('up\n');
  if (removed) expect((await docker.getVolume(volume).inspect()).Labels).toMatchObject({ 'berth.volume': 'agent' });
});

test('two hosts that come first at once both get a sandbox', async () => {
  const { Volumes } = await docker.listVolumes({ filters: { label: ['berth.volume=agent'], dangling: ['true'] } });
  for (const { Name } of Volumes) await docker.getVolume(Name).remove();
  await using one = await openHost();
  await using other = await openHost();
  const made = await Promise.all([one.host, other.host].map((host) => host.create()));
  for (const sandbox of made) expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
});

const ensure = (hungMs?: number) => ensureAgentVolume(docker, {}, [], () => {}, hungMs);

test('a volume of its name that it can neither label nor remove is an error that names it, and no fill without end', async () => {
  const { name } = await ensure();
  // In use, by a sandbox of somebody else, it can't be taken away.
  if (
    !(await docker
      .getVolume(name)
      .remove()
      .then(
        () => true,
        () => false,
      ))
  )
    return;
  const user = await docker.createContainer({
    Image: await baseImageTag(),
    Cmd: ['true'],
    HostConfig: { Mounts: [{ Type: 'volume', Source: name, Target: '/mnt' }] },
  });
  onTestFinished(() => user.remove({ force: true, v: true }).catch(() => {}));
  await expect(ensure()).rejects.toThrow(`docker volume rm ${name}`);
  await user.remove();
  expect(await ensure()).toMatchObject({ name });
});

test('another process whose fill hangs is not waited for without end', async () => {
  const { name } = await ensure();
  const fill = name.replace('agent', 'fill');
  const common = { Image: await baseImageTag(), Entrypoint: ['sleep', '1000'], HostConfig: { NetworkMode: 'none' } };
  const lock = await docker.createContainer({ ...common, name: `${fill}-lock` });
  onTestFinished(() => lock.remove({ force: true }));
  const hanging = await docker.createContainer({ ...common, name: fill });
  onTestFinished(() => hanging.remove({ force: true }));
  await hanging.start();
  await expect(ensure(1_000)).rejects.toThrow(ContainerStartError);
});
