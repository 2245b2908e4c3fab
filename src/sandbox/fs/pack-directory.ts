import * as fs from 'node:fs';
import { lstat, readdir, readFile, readlink, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { IgnoreRules } from '../../protocol/ignore-rules.ts';
import { limits } from '../../protocol/limits.ts';
import { nameOfBytes } from '../../protocol/names.ts';
import { Pace } from '../../protocol/pace.ts';
import { type TarEntry, tarBlockBytes, tarHeader, tarPadding, tarPaddingBytes } from '../../protocol/tar-header.ts';
import { FileError } from '../errors.ts';
import { hostPath } from './unpack-archive.ts';

/** What is called on a file, by the descriptor of the open one: file handles take twice the time. */
interface Calls {
  open(path: Path, flags: number): Maybe<number>;
  stat(file: number): Maybe<Stats>;
  /** @returns how many bytes came */
  read(file: number, buffer: Buffer): Maybe<number>;
  close(file: number): Maybe<void>;
}

type Path = string | Buffer;
type Maybe<Value> = Value | Promise<Value>;
type Stats = fs.Stats;

const { constants } = fs;

const onThread: Calls = {
  open: promisify<Path, number, number>(fs.open),
  stat: promisify<number, Stats>(fs.fstat),
  read: promisify<number, Buffer, number>((file, buffer, done) => fs.read(file, buffer, 0, buffer.length, null, done)),
  close: promisify(fs.close),
};

/** The way to another thread and back takes several times what most calls take. */
const atOnce: Calls = {
  open: fs.openSync,
  stat: (file) => fs.fstatSync(file),
  read: (file, buffer) => fs.readSync(file, buffer),
  close: fs.closeSync,
};

/** File systems of Linux that always answer, by their numbers of statfs(2): ext, XFS, Btrfs, ZFS, F2FS, overlay, tmpfs. */
const local = new Set([0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xf2f5_2010, 0x794c_7630, 0x0102_1994]);

/** A file up to this size is read before its header is written: then it can't change in between. */
const smallBytes = 64 * 1024;
const pieceBytes = limits.data;
/** What a small file may take of a piece, with its headers, which may have its name twice. */
const smallRoom = smallBytes + 4 * limits.path;
/** Entries of one directory that are looked at together. */
const lookedAtTogether = 16;
/** What is packed in one turn of the event loop: the sandbox unpacks meanwhile, and has little to wait for. */
const sliceMs = 2;

/**
 * A tar of a file of the host, or of what is in a directory: permissions, links, empty directories. Sockets and devices
 * are left out.
 * @param options.gitignore - what git ignores here is left out, and `.git`. Default: false
 */
export function packDirectory(path: string, options: { gitignore?: boolean } = {}): Readable {
  return Readable.from(new Packer().pack(path, options.gitignore ?? false), { objectMode: false });
}

/**
 * What is known of an entry after one look: bytes of the archive, and what they are still without, the content of a file or
 * what is in a directory.
 */
interface Entry {
  path: string;
  name: string;
  bytes: Buffer[];
  rest?: 'content' | { device: number };
}

class Packer {
  /** What leaves together, that many small files do not become as many pieces. */
  #piece = Buffer.allocUnsafe(pieceBytes);
  #filled = 0;
  readonly #pace = new Pace(undefined, sliceMs);
  /** By the number of the file system. */
  readonly #calls = new Map<number, Calls>();

  async *pack(path: string, gitignore: boolean): AsyncGenerator<Buffer> {
    const stats = await lstat(path);
    const rules = gitignore && stats.isDirectory() ? await ignoreRulesAbove(resolve(path)) : undefined;
    if (stats.isDirectory()) yield* this.#packChildren(path, '', await this.#callsIn(path, stats.dev), rules);
    else if (stats.isFile() || stats.isSymbolicLink())
      yield* this.#packEntry(await look(path, basename(path), stats, onThread));
    // Below a directory it is left out; this one was asked for.
    else throw new FileError({ code: 'ENOTSUP', path, operation: 'upload', detail: 'no file, directory or link' });
    yield* this.#add(Buffer.alloc(2 * tarBlockBytes));
    yield this.#take();
  }

  async *#packChildren(
    path: string,
    prefix: string,
    calls: Calls,
    above: IgnoreRules | undefined,
  ): AsyncGenerator<Buffer> {
    const rules = above && (await ignoreRulesIn(above, resolve(path)));
    const children = (await readChildren(path)).filter(
      (child) =>
        !rules || (child.name !== '.git' && !rules.ignores(resolve(path, child.name), child.kind.isDirectory())),
    );
    const looks: Promise<Entry>[] = [];
    for (const child of children) {
      const childPath = join(path, child.name);
      const name = prefix + child.name;
      if (this.#pace.isOver) await this.#pace.turn();
      if (calls === atOnce && child.kind.isFile()) {
        if (this.#piece.length - this.#filled < smallRoom) yield this.#take();
        if (this.#packSmallFile(childPath, name)) continue;
      }
      const looking = look(childPath, name, child.kind, calls);
      looking.catch(() => {}); // told when it is its turn
      if (looks.push(looking) === lookedAtTogether) yield* this.#packEntry(await looks.shift(), rules);
    }
    for (const looking of looks) yield* this.#packEntry(await looking, rules);
  }

  /**
   * Reads it to where it leaves from: of many small files each further step would be a part of the time.
   * @returns whether it is small, and a file
   */
  #packSmallFile(path: string, name: string): boolean {
    const file = fs.openSync(hostPath(path), openFlags);
    try {
      const stats = fs.fstatSync(file);
      if (!stats.isFile() || stats.size > smallBytes) return false;
      const header = tarHeader(entryOf(stats, 'file', name));
      const start = this.#filled + header.length;
      const size = readInto(file, this.#piece.subarray(start, start + stats.size));
      // Of one that has become shorter it has the same length.
      const its = size === stats.size ? header : tarHeader({ ...entryOf(stats, 'file', name), size });
      its.copy(this.#piece, this.#filled);
      this.#filled = start + size + tarPaddingBytes(size);
      this.#piece.fill(0, start + size, this.#filled);
      return true;
    } finally {
      fs.closeSync(file);
    }
  }

  async *#packEntry(entry: Entry | undefined, rules?: IgnoreRules): AsyncGenerator<Buffer> {
    if (!entry) return;
    for (const bytes of entry.bytes) yield* this.#add(bytes);
    if (entry.rest === undefined) return;
    if (entry.rest === 'content') return yield* this.#packContent(entry);
    const calls = await this.#callsIn(entry.path, entry.rest.device);
    yield* this.#packChildren(entry.path, `${entry.name}/`, calls, rules);
  }

  /** What is added meanwhile is left out; what is taken away is an error: no bytes of ours go in its place. */
  async *#packContent({ path, name }: Entry): AsyncGenerator<Buffer> {
    const file = await openFile(path, onThread);
    try {
      const stats = await onThread.stat(file);
      yield* this.#add(tarHeader(entryOf(stats, 'file', name)));
      yield this.#take();
      for (let missing = stats.size; missing > 0; ) {
        const content = await readUpTo(file, Math.min(missing, pieceBytes), onThread);
        if (content.length === 0) throw new Error(`${path} became shorter while it was read.`);
        yield content;
        missing -= content.length;
      }
      yield* this.#add(tarPadding(stats.size));
    } finally {
      await onThread.close(file);
    }
  }

  /** What is asked over a network, or of a program, may not answer: nothing else would be done until it does. */
  async #callsIn(directory: string, device: number): Promise<Calls> {
    const known = this.#calls.get(device);
    if (known) return known;
    const isLocal = process.platform === 'linux' && local.has((await statfs(hostPath(directory))).type);
    const calls = isLocal ? atOnce : onThread;
    this.#calls.set(device, calls);
    return calls;
  }

  *#add(bytes: Buffer): Generator<Buffer> {
    if (bytes.length > this.#piece.length - this.#filled) yield this.#take();
    this.#filled += bytes.copy(this.#piece, this.#filled);
  }

  /** What has been added. Who gets it may keep it. */
  #take(): Buffer {
    const all = this.#piece.subarray(0, this.#filled);
    this.#filled = 0;
    if (all.length < pieceBytes / 2) return Buffer.from(all); // not all of the piece for a few bytes
    this.#piece = Buffer.allocUnsafe(pieceBytes);
    return all;
  }
}

type Kind = Pick<Stats, 'isFile' | 'isDirectory' | 'isSymbolicLink'>;

async function readChildren(path: string): Promise<{ name: string; kind: Kind }[]> {
  // The types of Node leave out that names are buffers with this encoding.
  const children = await readdir(hostPath(path), { withFileTypes: true, encoding: 'buffer' as BufferEncoding });
  return children.map((kind) => ({ name: nameOfBytes(kind.name as unknown as Buffer), kind }));
}

/** Those of the directories above, up to the repository's top; outside of a repository there are none. */
async function ignoreRulesAbove(directory: string): Promise<IgnoreRules> {
  const parents: string[] = [];
  for (let at = directory; !(await exists(join(at, '.git'))); at = dirname(at)) {
    if (dirname(at) === at) return IgnoreRules.none;
    parents.unshift(dirname(at));
  }
  let rules = IgnoreRules.none;
  for (const parent of parents) rules = await ignoreRulesIn(rules, parent);
  return rules;
}

async function ignoreRulesIn(rules: IgnoreRules, directory: string): Promise<IgnoreRules> {
  const path = join(directory, '.gitignore');
  return (await exists(path)) ? rules.with(await readFile(hostPath(path), 'utf8'), directory) : rules;
}

async function exists(path: string): Promise<boolean> {
  return lstat(hostPath(path)).then(
    () => true,
    () => false,
  );
}

async function look(path: string, name: string, kind: Kind, calls: Calls): Promise<Entry> {
  if (kind.isFile()) return lookAtFile(path, name, calls);
  if (kind.isDirectory()) {
    const stats = await lstat(hostPath(path));
    return { path, name, bytes: [tarHeader(entryOf(stats, 'directory', name))], rest: { device: stats.dev } };
  }
  if (!kind.isSymbolicLink()) return { path, name, bytes: [] };
  const [stats, linkTarget] = await Promise.all([lstat(hostPath(path)), readlink(hostPath(path), 'buffer')]);
  return {
    path,
    name,
    bytes: [tarHeader({ ...entryOf(stats, 'symlink', name), linkTarget: nameOfBytes(linkTarget) })],
  };
}

async function lookAtFile(path: string, name: string, calls: Calls): Promise<Entry> {
  const file = await openFile(path, calls);
  try {
    const stats = await calls.stat(file);
    if (!stats.isFile()) return { path, name, bytes: [] };
    if (stats.size > smallBytes) return { path, name, bytes: [], rest: 'content' };
    const content = await readUpTo(file, stats.size, calls);
    const header = tarHeader({ ...entryOf(stats, 'file', name), size: content.length });
    return { path, name, bytes: [header, content, tarPadding(content.length)] };
  } finally {
    await calls.close(file);
  }
}

/** Something else may have come in the place of the file: what a link points to is not ours to send, a FIFO would wait. */
const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

function openFile(path: string, calls: Calls): Maybe<number> {
  return calls.open(hostPath(path), openFlags);
}

/** Fewer bytes only at the end of the file: a read may give less than it was asked for. */
async function readUpTo(file: number, bytes: number, calls: Calls): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  let filled = 0;
  while (filled < bytes) {
    const bytesRead = await calls.read(file, buffer.subarray(filled));
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/** As `readUpTo`, at once. */
function readInto(file: number, buffer: Buffer): number {
  let filled = 0;
  while (filled < buffer.length) {
    const bytesRead = fs.readSync(file, buffer, filled, buffer.length - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
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
