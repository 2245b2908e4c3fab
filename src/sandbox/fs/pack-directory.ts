import { close, constants, type Dirent, fstat, open, read, type Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { type TarEntry, tarBlockBytes, tarHeader, tarPadding } from '../../protocol/tar-header.ts';

// File handles take twice the time of these, which is most of it where files are small.
const openAt = promisify(open);
const statOf = promisify(fstat);
const readFrom = promisify(read);
const closeIt = promisify(close);

/** A file up to this size is read before its header is written: then it can't change in between. */
const smallBytes = 64 * 1024;
const pieceBytes = 256 * 1024;
/** Entries of one directory that are looked at together. */
const atOnce = 16;

/**
 * A tar of a file of the host, or of what is in a directory: permissions, links, empty directories. Sockets and devices
 * are left out.
 */
export function packDirectory(path: string): Readable {
  return Readable.from(new Packer().pack(path), { objectMode: false });
}

/** What is known of an entry after one look: bytes of the archive, and what they are still without. */
interface Entry {
  path: string;
  name: string;
  bytes: Buffer[];
  rest?: 'children' | 'content';
}

class Packer {
  /** What leaves together with what follows, that many small files do not become as many pieces. */
  #pieces: Buffer[] = [];
  #bytes = 0;

  async *pack(path: string): AsyncGenerator<Buffer> {
    const stats = await lstat(path);
    if (stats.isDirectory()) yield* this.#packChildren(path, '');
    else yield* this.#packEntry(await look(path, basename(path), stats));
    yield this.#take(Buffer.alloc(2 * tarBlockBytes));
  }

  async *#packChildren(path: string, prefix: string): AsyncGenerator<Buffer> {
    const children = await readdir(path, { withFileTypes: true });
    const looks: Promise<Entry>[] = [];
    for (const [index, child] of children.entries()) {
      const looking = look(join(path, child.name), prefix + child.name, child);
      looking.catch(() => {}); // told when it is its turn
      looks.push(looking);
      if (index >= atOnce - 1) yield* this.#packEntry(await looks.shift());
    }
    for (const looking of looks) yield* this.#packEntry(await looking);
  }

  async *#packEntry(entry: Entry | undefined): AsyncGenerator<Buffer> {
    if (!entry) return;
    this.#pieces.push(...entry.bytes);
    this.#bytes += entry.bytes.reduce((sum, { length }) => sum + length, 0);
    if (this.#bytes >= pieceBytes) yield this.#take();
    if (entry.rest === 'children') yield* this.#packChildren(entry.path, `${entry.name}/`);
    else if (entry.rest === 'content') yield* this.#packContent(entry);
  }

  /** What is added meanwhile is left out; what is taken away is an error: no bytes of ours go in its place. */
  async *#packContent({ path, name }: Entry): AsyncGenerator<Buffer> {
    const file = await openFile(path);
    try {
      const stats = await statOf(file);
      yield this.#take(tarHeader(entryOf(stats, 'file', name)));
      for (let missing = stats.size; missing > 0; ) {
        const content = await readUpTo(file, Math.min(missing, pieceBytes));
        if (content.length === 0) throw new Error(`${path} became shorter while it was read.`);
        yield content;
        missing -= content.length;
      }
      this.#pieces.push(tarPadding(stats.size));
    } finally {
      await closeIt(file);
    }
  }

  /** What waits, and `last`. */
  #take(...last: Buffer[]): Buffer {
    const all = Buffer.concat([...this.#pieces, ...last]);
    this.#pieces = [];
    this.#bytes = 0;
    return all;
  }
}

async function look(path: string, name: string, kind: Dirent | Stats): Promise<Entry> {
  if (kind.isFile()) return lookAtFile(path, name);
  if (kind.isDirectory()) {
    return { path, name, bytes: [tarHeader(entryOf(await lstat(path), 'directory', name))], rest: 'children' };
  }
  if (!kind.isSymbolicLink()) return { path, name, bytes: [] };
  const [stats, linkTarget] = await Promise.all([lstat(path), readlink(path)]);
  return { path, name, bytes: [tarHeader({ ...entryOf(stats, 'symlink', name), linkTarget })] };
}

async function lookAtFile(path: string, name: string): Promise<Entry> {
  const file = await openFile(path);
  try {
    const stats = await statOf(file);
    if (!stats.isFile()) return { path, name, bytes: [] };
    if (stats.size > smallBytes) return { path, name, bytes: [], rest: 'content' };
    const content = await readUpTo(file, stats.size);
    const header = tarHeader({ ...entryOf(stats, 'file', name), size: content.length });
    return { path, name, bytes: [header, content, tarPadding(content.length)] };
  } finally {
    await closeIt(file);
  }
}

/** Something else may have come in the place of the file: what a link points to is not ours to send, a FIFO would wait. */
function openFile(path: string): Promise<number> {
  return openAt(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/** Fewer bytes only at the end of the file: a read may give less than it was asked for. */
async function readUpTo(file: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  let filled = 0;
  while (filled < bytes) {
    const { bytesRead } = await readFrom(file, buffer, filled, bytes - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/** Nobody reads the owner: files belong to who unpacks them. */
function entryOf(stats: Stats, kind: TarEntry['kind'], name: string): TarEntry {
  return {
    name,
    kind,
    size: kind === 'file' ? stats.size : 0,
    mode: stats.mode & 0o7777,
    uid: 0,
    gid: 0,
    modifiedMs: stats.mtimeMs,
    linkTarget: '',
  };
}
