import { expect, test } from 'vitest';
import { engineFindings, spaceFindings, watchFindings } from '../../src/cli/engine-findings.ts';
import type { EngineTraits } from '../../src/engine/docker/traits.ts';

const plain: EngineTraits = {
  isRootless: false,
  remapsUsers: false,
  unenforced: { disk: { reason: 'it keeps files with overlay2 on extfs' } },
  ulimits: [],
  runtimes: { runc: { path: 'runc' } },
  storageDriver: 'overlay2',
  kernelVersion: '6.1.0',
};

test('an engine of root, on most machines, lacks nothing that is worth a word', () => {
  expect(engineFindings(plain)).toEqual([]);
  expect(spaceFindings('/var/lib/docker', 100 * 1024 ** 3)).toEqual([]);
  expect(watchFindings({ watches: 192_536, instances: 128 })).toEqual([]);
  expect(watchFindings({ watches: Number.NaN, instances: Number.NaN })).toEqual([]);
});

test('limits that are off are named together with their reason and what mends it', () => {
  const delegated = { reason: 'nobody gave it that', mend: ['give it'] };
  const unenforced = { memory: { reason: 'no such cgroup' }, cpus: delegated, pids: delegated };
  expect(engineFindings({ ...plain, unenforced })).toMatchObject([
    { name: 'limits', ok: true, warning: true, detail: expect.stringMatching(/limits of memory: no such cgroup$/) },
    { name: 'limits', detail: expect.stringMatching(/limits of cpus, pids: nobody gave it that$/), mend: ['give it'] },
  ]);
});

test('a rootless Podman whose user has no ids for containers can make no sandbox', () => {
  const withIds = (...sizes: number[]) =>
    engineFindings({
      ...plain,
      isRootless: true,
      podman: { idMappings: { uidmap: sizes.map((size) => ({ size })) } },
    });
  expect(withIds(1)).toMatchObject([
    { name: 'user ids', ok: false, mend: [expect.stringContaining('usermod'), 'podman system migrate'] },
  ]);
  expect(withIds(1, 65_536)).toEqual([]);
});

test('users that are remapped, whole copies of images, and few open files are told', () => {
  expect(engineFindings({ ...plain, remapsUsers: true })).toMatchObject([{ name: 'workspace', warning: true }]);
  expect(engineFindings({ ...plain, storageDriver: 'vfs' })).toMatchObject([{ name: 'storage driver', warning: true }]);
  const files = (Hard: number) => engineFindings({ ...plain, ulimits: [{ Name: 'nofile', Soft: Hard, Hard }] });
  expect(files(1_024)).toMatchObject([{ name: 'open files', detail: expect.stringContaining('1024') }]);
  expect(files(20_000)).toEqual([]);
});

test('what the machine is short of is told with the command that mends it', () => {
  expect(spaceFindings('/data', 300 * 1024 ** 2)).toMatchObject([
    { name: 'disk space', detail: expect.stringContaining('300 MiB left, in /data'), mend: ['berth gc'] },
  ]);
  expect(watchFindings({ watches: 8_192, instances: 128 })).toMatchObject([
    { name: 'watching files', mend: ['sudo sysctl fs.inotify.max_user_watches=524288'] },
  ]);
});
