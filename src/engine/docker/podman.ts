import { readFile } from 'node:fs/promises';
import type Docker from 'dockerode';

/** Whether it is Podman that speaks the engine's API. */
export function isPodman({ Components = [] }: Partial<Docker.DockerVersion>): boolean {
  return Components.some(({ Name }) => Name === 'Podman Engine');
}

/** What only Podman's own API says of it. */
export interface PodmanHost {
  security?: { rootless?: boolean };
  /** Those that it can limit containers with: `memory`, `cpu`, `pids`, …; none where it is rootless on cgroup v1. */
  cgroupControllers?: string[] | null;
  /** Of a rootless one: the ids that its user has for containers. */
  idMappings?: { uidmap?: { size: number }[] | null };
}

export async function podmanHost(docker: Docker): Promise<PodmanHost> {
  const options = { path: '/v4.0.0/libpod/info', method: 'GET', statusCodes: { 200: true } };
  const answer = await new Promise<{ host?: PodmanHost }>((resolve, reject) => {
    docker.modem.dial(options, (error: unknown, body: unknown) => {
      if (error) reject(error);
      else resolve(body as { host?: PodmanHost }); // every field is taken as one that may be missing
    });
  });
  return answer.host ?? {};
}

/** The most processes that Linux has by itself; how many a sandbox may have its limit says. */
const processes = 32_768;

/**
 * Of the containers that Podman makes as root. What it sets by itself (2^20 of each) is more than many a machine lets it:
 * then no container starts. So they get what this process has; Docker gives them what its daemon has.
 */
export async function ownUlimits(): Promise<Docker.Ulimit[]> {
  const files = await openFilesLimit();
  const ulimit = (Name: string, value: number) => ({ Name, Soft: value, Hard: value });
  return [...(files === undefined ? [] : [ulimit('nofile', files)]), ulimit('nproc', processes)];
}

/** How many files this process may have open at once. */
async function openFilesLimit(): Promise<number | undefined> {
  const text = await readFile('/proc/self/limits', 'latin1').catch(() => '');
  const [, files] = /^Max open files +\S+ +(\d+) /m.exec(text) ?? [];
  return files === undefined ? undefined : Number(files);
}
