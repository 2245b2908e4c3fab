import Docker from 'dockerode';
import { expect, test } from 'vitest';
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
