import type Docker from 'dockerode';
import type { LimitName } from '../engine.ts';

/** Of storage drivers that can hold one container to a size, those that need a file system below that can. */
const needsBackingFilesystem: Record<string, string | undefined> = {
  overlay2: 'xfs',
  btrfs: undefined,
  zfs: undefined,
};

interface EngineInfo {
  MemoryLimit?: boolean;
  CpuCfsPeriod?: boolean;
  CpuCfsQuota?: boolean;
  PidsLimit?: boolean;
  CgroupDriver?: string;
  Driver?: string;
  DriverStatus?: [string, string][] | null;
}

/** The limits that this engine takes and does not hold anything to, each with the reason. */
export async function unenforcedLimits(docker: Docker): Promise<Partial<Record<LimitName, string>>> {
  const info: EngineInfo = await docker.info();
  const off: Partial<Record<LimitName, string>> = {};
  const noCgroup = info.CgroupDriver === 'none' ? 'the engine may not use cgroups' : undefined;
  // An engine that does not say is taken to be able to.
  const isOff = (...features: (boolean | undefined)[]) => features.includes(false) || noCgroup !== undefined;
  if (isOff(info.MemoryLimit)) off.memory = noCgroup ?? 'the kernel has no memory cgroup';
  if (isOff(info.CpuCfsPeriod, info.CpuCfsQuota)) off.cpus = noCgroup ?? 'the kernel has no CPU quota for cgroups';
  if (isOff(info.PidsLimit)) off.pids = noCgroup ?? 'the kernel has no pids cgroup';
  const driver = info.Driver ?? 'unknown';
  const backing = info.DriverStatus?.find(([name]) => name === 'Backing Filesystem')?.[1] ?? 'unknown';
  const needed = needsBackingFilesystem[driver];
  if (!(driver in needsBackingFilesystem) || (needed !== undefined && needed !== backing)) {
    off.disk =
      `it keeps files with ${driver} on ${backing}; overlay2 on xfs (mounted with pquota), btrfs and zfs ` +
      'can limit them';
  }
  return off;
}
