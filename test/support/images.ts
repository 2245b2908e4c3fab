import { join } from 'node:path';
import { execa } from 'execa';

/** Fetches a busybox that needs nothing else, into the folder. @returns its path */
export async function fetchBusybox(folder: string): Promise<string> {
  await execa('sh', ['-c', 'apt-get download busybox-static && dpkg-deb -x *.deb unpacked'], { cwd: folder });
  return join(folder, 'unpacked/bin/busybox');
}

/** Makes an image that has the files of a directory. `changes` are lines of a Dockerfile. */
export async function importImage(root: string, image: string, changes: readonly string[] = []): Promise<void> {
  const options = changes.flatMap((line) => ['-c', line]);
  await execa('sh', ['-c', 'tar -C "$0" -c . | docker import "$@"', root, ...options, '-', image]);
}
