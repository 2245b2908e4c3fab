import type Docker from 'dockerode';
import type { LimitName } from '../engine.ts';
import { type Unenforced, unenforcedLimits } from './limits.ts';
import { isPodman, ownUlimits, type PodmanHost, podmanHost } from './podman.ts';

/** Of what an engine says of itself, that which decides about sandboxes. It may leave out any of it. */
export interface EngineInfo {
  MemoryLimit?: boolean;
  CpuCfsPeriod?: boolean;
  CpuCfsQuota?: boolean;
  PidsLimit?: boolean;
  CgroupDriver?: string;
  CgroupVersion?: string;
  SecurityOptions?: string[] | null;
  Driver?: string;
  DriverStatus?: [string, string][] | null;
  DockerRootDir?: string;
  Runtimes?: Record<string, { path?: string }> | null;
  DefaultRuntime?: string;
}

/** In what an engine differs from another one. */
export interface EngineTraits {
  podman?: PodmanHost;
  /** It belongs to a user who is not root, and root in its containers is that user outside. */
  isRootless: boolean;
  /** By `userns-remap`: users of this machine are nobody in its containers. */
  remapsUsers: boolean;
  /** The limits that it takes and does not hold anything to. */
  unenforced: Partial<Record<LimitName, Unenforced>>;
  /** Of all containers; empty: what it sets by itself. */
  ulimits: readonly Docker.Ulimit[];
  /** By name, the program behind each. Empty: it does not say. */
  runtimes: Readonly<Record<string, { path?: string }>>;
  defaultRuntime?: string;
  /** How it keeps images and containers, and where, on its machine. */
  storageDriver?: string;
  rootDirectory?: string;
  /** Of its machine. */
  kernelVersion: string;
}

export async function readTraits(docker: Docker): Promise<EngineTraits> {
  const [version, info]: [Docker.DockerVersion, EngineInfo] = await Promise.all([docker.version(), docker.info()]);
  const podman = isPodman(version) ? await podmanHost(docker) : undefined;
  const has = (option: string) => info.SecurityOptions?.includes(`name=${option}`) === true;
  const isRootless = podman?.security?.rootless ?? has('rootless');
  const { DefaultRuntime, Driver, DockerRootDir } = info;
  return {
    ...(podman && { podman }),
    isRootless,
    remapsUsers: has('userns'),
    unenforced: unenforcedLimits(info, { isRootless, podman }),
    // A rootless one asks for no more than it has.
    ulimits: podman && !isRootless ? await ownUlimits() : [],
    runtimes: runtimesOf(info, podman),
    ...(DefaultRuntime !== undefined && { defaultRuntime: DefaultRuntime }),
    ...(Driver !== undefined && { storageDriver: Driver }),
    ...(DockerRootDir !== undefined && { rootDirectory: DockerRootDir }),
    kernelVersion: version.KernelVersion ?? '',
  };
}

function runtimesOf({ Runtimes, DefaultRuntime = '' }: EngineInfo, podman: PodmanHost | undefined) {
  const runtimes = Runtimes ?? {};
  if (!podman) return runtimes;
  // Podman names those that it has heard of, and takes no other than its default from who speaks Docker's API.
  return { [DefaultRuntime]: runtimes[DefaultRuntime] ?? { path: DefaultRuntime } };
}
