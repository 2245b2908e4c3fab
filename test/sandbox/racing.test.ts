import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Docker from 'dockerode';
import { expect } from 'vitest';
import { baseImageTag } from '../../src/engine/docker/base-image.ts';
import { ImageNotFoundError } from '../../src/engine/errors.ts';
import { SandboxExistsError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

function parted(results: PromiseSettledResult<Sandbox>[]) {
  return {
    made: results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])),
    refused: results.flatMap((one): unknown[] => (one.status === 'rejected' ? [one.reason] : [])),
  };
}

test('of creations at once with one id, here and in other processes, one makes it and the others hear of it', async () => {
  await using opened = await openHost();
  await using other = await SandboxHost.open({ stateDir: opened.stateDir });
  for (let round = 0; round < 5; round++) {
    const hosts = [opened.host, other, opened.host, other];
    const { made, refused } = parted(await Promise.allSettled(hosts.map((host) => host.create({ id: 'same' }))));
    expect(made).toHaveLength(1);
    for (const error of refused) {
      expect(error).toBeInstanceOf(SandboxExistsError);
      expect(error).toMatchObject({ meta: { sandboxId: 'same', ownedHere: true } });
    }
    expect((await made[0]?.exec('echo up'))?.stdout).toBe('up\n');
    await made[0]?.remove();
  }
});

test('a creation that fails takes nothing from one that has the same id', async () => {
  await using opened = await openHost();
  for (let round = 0; round < 5; round++) {
    const racing = [{}, { image: 'no/such:image' }].map((options) => opened.host.create({ id: 'same', ...options }));
    const { made, refused } = parted(await Promise.allSettled(racing));
    // When the one without an image was first, it had the id while the other one asked for it.
    for (const error of refused)
      expect(error).toSatisfy((one) => one instanceof SandboxExistsError || one instanceof ImageNotFoundError);
    const sandbox = made[0] ?? (await opened.host.create({ id: 'same' }));
    expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
    // The directory for its socket was not taken away.
    const { Config } = await new Docker().getContainer(`berth-${sandbox.id}`).inspect();
    expect(Config.Labels['berth.wire']).toBe('unix');
    await sandbox.remove();
  }
});

test('an id that another state directory has is told from one of this, also a second time', async () => {
  await using one = await openHost();
  await using two = await openHost();
  const racing = [one, two].map(({ host }) => host.create({ id: `race-${process.pid}` }));
  const { made, refused } = parted(await Promise.allSettled(racing));
  expect(made).toHaveLength(1);
  expect(refused).toMatchObject([{ meta: { ownedHere: false } }]);
  const loser = (await one.host.list()).length === 0 ? one : two;
  await expect(loser.host.create({ id: `race-${process.pid}` })).rejects.toMatchObject({ meta: { ownedHere: false } });
  expect((await loser.host.collect({ dryRun: true })).removed).toEqual([]);
  await made[0]?.remove();
  await (await loser.host.create({ id: `race-${process.pid}` })).remove();
});

test('an id that a process had taken which was killed can be used', async () => {
  await using opened = await openHost();
  await writeFile(join(opened.stateDir, 'owners/taken'), JSON.stringify({ process: 'killed', finished: false }));
  const sandbox = await opened.host.create({ id: 'taken' });
  expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
});

test('what the engine makes for a process that was killed is in nobody’s way, and is collected', async ({
  onTestFinished,
}) => {
  await using opened = await openHost();
  const { host, stateDir } = opened;
  const docker = new Docker();
  const { hostId } = JSON.parse(await readFile(join(stateDir, 'identity.json'), 'utf8'));
  const Image = await baseImageTag();
  const orphan = async (id: string) => {
    const Labels = { 'berth.host': hostId, 'berth.sandbox': id };
    const container = await docker.createContainer({ name: `berth-${id}`, Image, Labels });
    onTestFinished(() => container.remove().catch(() => {}));
  };
  const [taken, left] = [`orphan-${process.pid}-1`, `orphan-${process.pid}-2`];
  await orphan(taken);
  const sandbox = await host.create({ id: taken });
  expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
  await orphan(left);
  await writeFile(join(stateDir, 'half.part'), 'ha');
  await utimes(join(stateDir, 'half.part'), 0, 0);
  expect((await host.collect()).removed).toEqual([{ kind: 'sandbox', name: left, reason: 'never finished' }]);
  expect((await host.list()).map(({ id }) => id)).toEqual([taken]);
  expect(await readdir(stateDir)).not.toContain('half.part');
});
