import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';

/**
 * A tar of a file of the host, or of what is in a directory: permissions, links, empty directories. Sockets and devices
 * are left out.
 */
export function packDirectory(path: string): Readable {
  const archive = pack();
  fill(archive, path).then(
    () => archive.finalize(),
    (error: Error) => archive.destroy(error),
  );
  // Its streams are not Node's: this one ends and fails as those that use it expect.
  return Readable.from(archive);
}

async function fill(archive: Pack, path: string): Promise<void> {
  const stats = await lstat(path);
  if (!stats.isDirectory()) return add(archive, path, basename(path));
  for (const name of await readdir(path)) await add(archive, join(path, name), name);
}

async function add(archive: Pack, path: string, name: string): Promise<void> {
  const stats = await lstat(path);
  const head = { name, mode: stats.mode & 0o7777, mtime: stats.mtime };
  if (stats.isDirectory()) {
    await addEmpty(archive, { ...head, type: 'directory' });
    for (const child of await readdir(path)) await add(archive, join(path, child), `${name}/${child}`);
  } else if (stats.isSymbolicLink()) {
    await addEmpty(archive, { ...head, type: 'symlink', linkname: await readlink(path) });
  } else if (stats.isFile()) {
    // A file that grows while it is read must not spoil the archive; one that shrinks makes it fail.
    const content = stats.size > 0 ? createReadStream(path, { end: stats.size - 1 }) : Readable.from([]);
    await pipeline(content, archive.entry({ ...head, size: stats.size }));
  }
}

function addEmpty(archive: Pack, header: Parameters<Pack['entry']>[0]): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}
