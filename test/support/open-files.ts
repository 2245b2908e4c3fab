import { readdir, readlink } from 'node:fs/promises';

/** What this process has open at or below a path; other tests of the process open and close files of their own meanwhile. */
export async function openFiles(below: string): Promise<string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(links)).filter((path) => path.startsWith(below));
}
