import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, mkdir, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { UnsafeEntryError } from '../errors.ts';

export interface UnpackedArchive {
  /** Links that lead out of the tree, which were not made. */
  leftOut: { path: string; reason: string }[];
}

/**
 * Unpacks a tar of one directory on the host, as `fs.download` gives it, so that the directory becomes `target`. It is
 * there whole or not at all, and nothing is written outside of it, whoever made the tar: it grows in a new directory
 * beside `target`, in which there is no link until all files are written. Owners and set-user-id bits are not kept.
 * @throws {UnsafeEntryError} an entry names a place outside, or is no file, directory or link
 */
export async function unpackArchive(
  tar: Readable,
  target: string,
  { signal }: { signal?: AbortSignal } = {},
): Promise<UnpackedArchive> {
  const part = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.part`);
  await mkdir(part, { mode: 0o700 });
  // An archive that breaks off does not end the entry that is being read.
  const broken = new AbortController();
  try {
    const tree = new Tree(part, broken.signal);
    const entries = extract();
    // It ends with the archive's end mark; without the pipeline nobody would hear of a tar that fails.
    const reading = pipeline(tar, entries, { ...(signal && { signal }) });
    reading.catch((error: unknown) => broken.abort(error)); // awaited below, unless an entry fails first
    // The types say less of an entry than it is: a stream of bytes.
    for await (const entry of entries as AsyncIterable<Readable & { header: Header }>) {
      await tree.add(entry.header, entry);
      entry.resume();
    }
    await reading;
    const leftOut = await tree.finish();
    await rename(part, target);
    return { leftOut };
  } catch (error) {
    tar.destroy();
    await rm(part, { recursive: true, force: true });
    // Of an entry that was given up, the archive says why.
    throw error instanceof Error && error.name === 'AbortError' ? (broken.signal.reason ?? error) : error;
  }
}

class Tree {
  readonly #root: string;
  readonly #broken: AbortSignal;
  readonly #links: { path: string; target: string }[] = [];
  readonly #directories = new Map<string, number>();

  constructor(root: string, broken: AbortSignal) {
    this.#root = root;
    this.#broken = broken;
  }

  async add(header: Header, content: AsyncIterable<Uint8Array>): Promise<void> {
    const path = this.#place(header.name);
    const mode = header.mode ?? 0o644;
    switch (header.type) {
      case 'directory':
        await mkdir(path, { recursive: true });
        // Its owner can always empty it again.
        this.#directories.set(path, (mode & 0o777) | 0o700);
        return;
      case 'file':
      case 'contiguous-file':
        await mkdir(dirname(path), { recursive: true });
        await pipeline(content, createWriteStream(path, { flags: 'wx', mode: 0o600 }), {
          signal: this.#broken,
        });
        await chmod(path, mode & 0o777);
        return;
      case 'symlink':
        // Now, while no link can lead this astray. What the archive has below a link thus makes the link fail later.
        await mkdir(dirname(path), { recursive: true });
        this.#links.push({ path, target: header.linkname ?? '' });
        return;
      default:
        throw new UnsafeEntryError({ entry: header.name, reason: `it is a ${header.type}` });
    }
  }

  /** Makes the links, then sets the permissions of the directories, which might forbid to write. */
  async finish(): Promise<UnpackedArchive['leftOut']> {
    const leftOut: UnpackedArchive['leftOut'] = [];
    for (const { path, target } of this.#links) {
      const name = path.slice(this.#root.length + 1);
      if (staysInside(name, target)) {
        await symlink(target, path);
      } else {
        leftOut.push({ path: name, reason: `it is a link to ${target}, outside of what is copied` });
      }
    }
    for (const [path, mode] of this.#directories) await chmod(path, mode);
    return leftOut;
  }

  /** Where an entry goes. The first part of its name is that of the directory which becomes the target. */
  #place(name: string): string {
    const parts = name.split('/').filter((part) => part !== '' && part !== '.');
    if (name.startsWith('/') || parts.includes('..') || name.includes('\0')) {
      throw new UnsafeEntryError({ entry: name, reason: 'its name leads out of the directory' });
    }
    return join(this.#root, ...parts.slice(1));
  }
}

/**
 * Whether a link can't lead out, wherever the other links lead: it is relative, climbs only at its beginning, where its
 * parents are real directories, and not above the root.
 */
function staysInside(name: string, target: string): boolean {
  if (target === '' || target.startsWith('/') || target.includes('\0')) return false;
  const climbs = target.match(/^(?:\.{1,2}\/+)*(?:\.{1,2}$)?/)?.[0] ?? '';
  if (target.slice(climbs.length).split('/').includes('..')) return false;
  const place = normalize(join(dirname(name), climbs));
  return place !== '..' && !place.startsWith('../');
}
