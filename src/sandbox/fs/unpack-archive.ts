import { createWriteStream } from 'node:fs';
import { chmod, mkdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { bytesOfName, hasEscapes } from '../../protocol/names.ts';
import { CopyLimitError, InvalidArchiveError, UnsafeEntryError } from '../errors.ts';
import { partBeside } from './part-beside.ts';
import { type ArchiveEntry, readArchive } from './read-archive.ts';

/** What an entry takes of a disk besides its content, about. */
export const entryBytes = 4_096;

/** What the links of one archive take of the memory, in which they are held until all files are written, about. */
const maxLinkBytes = 32 * 1024 * 1024;
const linkBytes = 200;

interface UnpackOptions {
  maxBytes?: number;
  /** A link that leads out is an error. Default: it is left out */
  refuseLinks?: boolean;
  signal?: AbortSignal;
}

export interface UnpackedArchive {
  /** Links that lead out of the tree, which were not made. */
  leftOut: { path: string; reason: string }[];
}

/**
 * Unpacks a tar of one directory on the host, as `fs.download` gives it, so that the directory becomes `target`. It is
 * there whole or not at all, and nothing is written outside of it, whoever made the tar: it grows in a new directory
 * beside `target`, in which there is no link until all files are written. Owners and set-user-id bits are not kept.
 * @param options.maxBytes - the most that it may take of the disk, 4 KiB for each entry included. Default: no limit
 * @throws {UnsafeEntryError} an entry names a place outside, or is no file, directory or link
 * @throws {InvalidArchiveError} it is no archive, or breaks off
 * @throws {CopyLimitError} it is larger than `maxBytes`
 */
export async function unpackArchive(
  tar: Readable,
  target: string,
  { maxBytes = Number.POSITIVE_INFINITY, refuseLinks = false, signal }: UnpackOptions = {},
): Promise<UnpackedArchive> {
  const part = partBeside(target);
  await mkdir(part, { mode: 0o700 });
  try {
    if (signal) addAbortSignal(signal, tar);
    const tree = new Tree(part, maxBytes, refuseLinks);
    for await (const entry of readArchive(tar)) await named(entry.name, tree.add(entry));
    const leftOut = await tree.finish();
    await rename(part, target);
    return { leftOut };
  } catch (error) {
    await rm(part, { recursive: true, force: true });
    throw error;
  }
}

/** As this machine's Node takes it. */
export function hostPath(path: string): string | Buffer {
  return hasEscapes(path) ? bytesOfName(path) : path;
}

class Tree {
  readonly #root: string;
  readonly #maxBytes: number;
  readonly #refuseLinks: boolean;
  #bytes = 0;
  readonly #links: { path: string; target: string }[] = [];
  #linkBytes = 0;
  #rootMode = 0o755;

  constructor(root: string, maxBytes: number, refuseLinks: boolean) {
    this.#root = root;
    this.#maxBytes = maxBytes;
    this.#refuseLinks = refuseLinks;
  }

  async add({ name, kind, mode, size, linkTarget, content }: ArchiveEntry): Promise<void> {
    const path = this.#place(name);
    this.#bytes += size + entryBytes;
    if (this.#bytes > this.#maxBytes) throw new CopyLimitError({ maxBytes: this.#maxBytes });
    switch (kind) {
      case 'directory':
        await this.#addDirectory(path, (mode & 0o777) | 0o700); // its owner can always fill and empty it
        return;
      case 'file':
        await mkdir(hostPath(dirname(path)), { recursive: true });
        await pipeline(content, createWriteStream(hostPath(path), { flags: 'wx', mode: 0o600 }));
        await chmod(hostPath(path), mode & 0o777);
        return;
      case 'symlink':
        if (this.#refuseLinks && !staysInside(path.slice(this.#root.length + 1), linkTarget)) {
          throw new UnsafeEntryError({ entry: name, reason: `it is a link to ${linkTarget}, which is outside` });
        }
        // Now, while no link can lead this astray. What the archive has below a link thus makes the link fail later.
        await mkdir(hostPath(dirname(path)), { recursive: true });
        this.#linkBytes += linkBytes + Buffer.byteLength(path) + Buffer.byteLength(linkTarget);
        if (this.#linkBytes > maxLinkBytes) throw new InvalidArchiveError({ reason: 'it has too many links' });
        this.#links.push({ path, target: linkTarget });
        return;
      default:
        throw new UnsafeEntryError({ entry: name, reason: `it is a ${kind}` });
    }
  }

  async #addDirectory(path: string, mode: number): Promise<void> {
    if (path === this.#root) {
      this.#rootMode = mode; // until all is written nobody else may look in
      return;
    }
    await mkdir(hostPath(path), { recursive: true });
    await chmod(hostPath(path), mode);
  }

  /** Makes the links, now that nothing is written any more. */
  async finish(): Promise<UnpackedArchive['leftOut']> {
    const leftOut: UnpackedArchive['leftOut'] = [];
    for (const { path, target } of this.#links) {
      const name = path.slice(this.#root.length + 1);
      if (staysInside(name, target)) {
        await named(name, symlink(hostPath(target), hostPath(path)));
      } else {
        leftOut.push({ path: name, reason: `it is a link to ${target}, outside of what is copied` });
      }
    }
    await chmod(this.#root, this.#rootMode);
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

/** What the kernel says of names that are too long, or that two entries have: the archive's fault, not the disk's. */
const faultsOfNames = ['EEXIST', 'EISDIR', 'ELOOP', 'ENAMETOOLONG', 'ENOTDIR'];

async function named(entry: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!faultsOfNames.includes(code)) throw error;
    throw new InvalidArchiveError(
      { reason: `its entry ${JSON.stringify(entry)} can't be made: ${code}` },
      { cause: error },
    );
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
