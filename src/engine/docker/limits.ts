import type { LimitName } from '../engine.ts';
import type { PodmanHost } from './podman.ts';
import type { EngineInfo } from './traits.ts';

/** Why the engine does not hold a sandbox to a limit. */
export interface Unenforced {
  reason: string;
  /** The commands that mend it, where there are such. */
  mend?: readonly string[];
}

/** Of storage drivers that can hold one container to a size, those that need a file system below that can. */
const needsBackingFilesystem: Record<string, string | undefined> = {
  overlay2: 'xfs',
  btrfs: undefined,
  zfs: undefined,
};

/** Gives the systemd of every user what can limit containers; once, also for those who come later. */
const delegate = [
  'sudo mkdir -p /etc/systemd/system/user@.service.d',
  "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf",
  'sudo systemctl daemon-reload && sudo systemctl restart "user@$(id -u)"',
];

/** The limits that this engine takes and does not hold anything to. */
export function unenforcedLimits(
  info: EngineInfo,
  { isRootless, podman }: { isRootless: boolean; podman: PodmanHost | undefined },
): Partial<Record<LimitName, Unenforced>> {
  const off: Partial<Record<LimitName, Unenforced>> = {};
  // Podman says that it can what its kernel can.
  const controllers = podman?.cgroupControllers ?? (podman ? [] : undefined);
  // An engine that does not say is taken to be able to.
  const isOff = (controller: string, ...features: (boolean | undefined)[]) =>
    controllers ? !controllers.includes(controller) : features.includes(false) || info.CgroupDriver === 'none';
  const why = (kernel: string): Unenforced => {
    if (isRootless && info.CgroupVersion === '1') {
      return {
        reason:
          'it is rootless, and has no cgroups in version 1 of them. Start the machine with ' +
          'systemd.unified_cgroup_hierarchy=1 on the command line of its kernel, or take an engine of root',
      };
    }
    if (isRootless)
      return { reason: "it is rootless, and its user's systemd has no such cgroup to give", mend: delegate };
    return { reason: info.CgroupDriver === 'none' ? 'the engine may not use cgroups' : kernel };
  };
  if (isOff('memory', info.MemoryLimit)) off.memory = why('the kernel has no memory cgroup');
  if (isOff('cpu', info.CpuCfsPeriod, info.CpuCfsQuota)) off.cpus = why('the kernel has no CPU quota for cgroups');
  if (isOff('pids', info.PidsLimit)) off.pids = why('the kernel has no pids cgroup');
  const driver = info.Driver ?? 'unknown';
  const backing = info.DriverStatus?.find(([name]) => name === 'Backing Filesystem')?.[1] ?? 'unknown';
  const needed = needsBackingFilesystem[driver];
  if (!(driver in needsBackingFilesystem) || (needed !== undefined && needed !== backing)) {
    off.disk = {
      reason:
        `it keeps files with ${driver} on ${backing}; overlay2 on xfs (mounted with pquota), btrfs and zfs ` +
        'can limit them',
    };
  }
  return off;
}
