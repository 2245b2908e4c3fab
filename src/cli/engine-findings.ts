import type { EngineTraits } from '../engine/docker/traits.ts';
import { bytes } from './print/bytes.ts';

/** One thing that Berth needs or uses. */
export interface Finding {
  name: string;
  ok: boolean;
  /** Sandboxes are made all the same, and lack something. */
  warning?: true;
  detail: string;
  /** The commands that bring what is missing. */
  mend?: readonly string[];
}

/** What people are given for containers by default, and what images and the sandbox-agent count on. */
const neededIds = 65_536;
/** In one sandbox, at most. */
const watchedDirectories = 32_768;

/** What sandboxes of this engine lack. */
export function engineFindings(traits: EngineTraits): Finding[] {
  const { podman, isRootless, remapsUsers, storageDriver, ulimits } = traits;
  const findings = limitFindings(traits);
  const ids = podman?.idMappings?.uidmap?.reduce((sum, { size }) => sum + size, 0);
  if (isRootless && ids !== undefined && ids < neededIds) {
    findings.push({
      name: 'user ids',
      ok: false,
      detail: `images and sandboxes need ${neededIds} of them, and the user of this rootless engine has ${ids}`,
      mend: ['sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER"', 'podman system migrate'],
    });
  }
  if (remapsUsers) {
    findings.push({
      name: 'workspace',
      ok: true,
      warning: true,
      detail:
        'with userns-remap nobody in a sandbox has the ids of a user of this machine: in a directory of it as ' +
        'workspace, files belong to others. Take a volume, or copy the files',
    });
  }
  if (storageDriver === 'vfs') {
    findings.push({
      name: 'storage driver',
      ok: true,
      warning: true,
      detail: 'with vfs each sandbox is a whole copy of its image, in time and in space; overlay has one for all',
    });
  }
  const files = ulimits.find(({ Name }) => Name === 'nofile')?.Hard;
  if (files !== undefined && files < 4_096) {
    findings.push({
      name: 'open files',
      ok: true,
      warning: true,
      detail: `with Podman a program in a sandbox may have as many as this process: ${files}`,
      mend: ['ulimit -Hn 65536'],
    });
  }
  return findings;
}

function limitFindings({ unenforced }: EngineTraits): Finding[] {
  // That the disk has no limit is so on most machines.
  const { disk: _, ...others } = unenforced;
  const names = Object.keys(others) as (keyof typeof others)[]; // the keys of its type
  return [...new Set(names.map((name) => others[name]?.reason))].map((reason) => {
    const same = names.filter((name) => others[name]?.reason === reason);
    const mend = same.map((name) => others[name]?.mend)[0];
    return {
      name: 'limits',
      ok: true,
      warning: true,
      detail: `this engine holds no sandbox to limits of ${same.join(', ')}: ${reason}`,
      ...(mend && { mend }),
    };
  });
}

const GiB = 1024 ** 3;

/** @param free - bytes that the engine can still fill at `path` */
export function spaceFindings(path: string, free: number): Finding[] {
  if (free >= 2 * GiB) return [];
  return [
    {
      name: 'disk space',
      ok: true,
      warning: true,
      detail: `images and sandboxes have ${bytes(free)} left, in ${path}`,
      mend: ['berth gc'],
    },
  ];
}

/** @param kernel - how many directories a user may watch, and how many sandboxes may do so; NaN: not known */
export function watchFindings(kernel: { watches: number; instances: number }): Finding[] {
  const low = [
    // The kernel's own values, but for machines with little memory.
    ...(kernel.watches < watchedDirectories ? [{ setting: 'max_user_watches', value: 524_288 }] : []),
    ...(kernel.instances < 128 ? [{ setting: 'max_user_instances', value: 1_024 }] : []),
  ];
  if (low.length === 0) return [];
  return [
    {
      name: 'watching files',
      ok: true,
      warning: true,
      detail: `this machine lets one user watch ${kernel.watches} directories, for ${kernel.instances} sandboxes at once`,
      mend: low.map(({ setting, value }) => `sudo sysctl fs.inotify.${setting}=${value}`),
    },
  ];
}
