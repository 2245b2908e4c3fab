import { expect, test } from 'vitest';
import { unenforcedLimits } from '../../src/engine/docker/limits.ts';
import type { EngineInfo } from '../../src/engine/docker/traits.ts';

const onXfs: EngineInfo = { Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'xfs']] };
const ofRoot = { isRootless: false, podman: undefined };

test('an engine is taken at its word, and able to what it does not tell', () => {
  expect(unenforcedLimits(onXfs, ofRoot)).toEqual({});
  expect(Object.keys(unenforcedLimits({ ...onXfs, MemoryLimit: false }, ofRoot))).toEqual(['memory']);
  expect(Object.keys(unenforcedLimits({ ...onXfs, Driver: 'vfs' }, ofRoot))).toEqual(['disk']);
  expect(Object.keys(unenforcedLimits({ ...onXfs, CgroupDriver: 'none' }, ofRoot))).toEqual(['memory', 'cpus', 'pids']);
});

test('rootless Docker limits what systemd gives to its user, and on cgroup v1 nothing', () => {
  const rootless = { isRootless: true, podman: undefined };
  const v1 = unenforcedLimits({ ...onXfs, CgroupDriver: 'none', CgroupVersion: '1' }, rootless);
  expect(Object.keys(v1)).toEqual(['memory', 'cpus', 'pids']);
  expect(v1.memory?.reason).toContain('systemd.unified_cgroup_hierarchy=1');
  const v2 = unenforcedLimits({ ...onXfs, CgroupDriver: 'systemd', CgroupVersion: '2', CpuCfsQuota: false }, rootless);
  expect(v2).toEqual({ cpus: expect.objectContaining({ mend: expect.any(Array) }) });
});

test('of Podman’s word counts which cgroups it has, not what its kernel could do', () => {
  const said = { ...onXfs, MemoryLimit: true, CpuCfsPeriod: true, CpuCfsQuota: true, PidsLimit: true };
  const rootless = (cgroupControllers: string[] | null) =>
    Object.keys(unenforcedLimits(said, { isRootless: true, podman: { cgroupControllers } }));
  expect(rootless([])).toEqual(['memory', 'cpus', 'pids']);
  expect(rootless(null)).toEqual(['memory', 'cpus', 'pids']);
  expect(rootless(['memory', 'pids'])).toEqual(['cpus']);
  expect(rootless(['cpu', 'memory', 'pids'])).toEqual([]);
});
