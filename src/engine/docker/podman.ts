import { readFile } from 'node:fs/promises';
import type Docker from 'dockerode';

/** Whether it is Podman that speaks the engine's API. */
export function isPodman({ Components = [] }: Partial<Docker.DockerVersion>): boolean {
  return Components.some(({ Name }) => Name === 'Podman Engine');
}

/** The most processes that Linux has by itself; how many a sandbox may have its limit says. */
const processes = 32_768;

/**
 * Of the containers that Podman makes. What it sets by itself (2^20 of each) is more than many a machine lets it: then no
 * container starts. So they get what this process has; Docker gives them what its daemon has.
 */
export async function ownUlimits(): Promise<Docker.Ulimit[]> {
  const text = await readFile('/proc/self/limits', 'latin1').catch(() => '');
  const [, files] = /^Max open files +\S+ +(\d+) /m.exec(text) ?? [];
  const ulimit = (Name: string, value: number) => ({ Name, Soft: value, Hard: value });
  return [...(files === undefined ? [] : [ulimit('nofile', Number(files))]), ulimit('nproc', processes)];
}
