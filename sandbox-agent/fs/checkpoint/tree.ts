import { constants, promises as fs, readlinkSync, type Stats } from 'node:fs';
import { dirname } from 'node:path/posix';
import { nameOfBytes } from '../../../src/protocol/names.ts';
import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { calls } from '../calls.ts';
import { kindOf } from '../entries.ts';
import { isPartName } from '../part.ts';
import { codeOf, hasCode, kernelPath } from '../path.ts';

/** An entry below the directory that a checkpoint is of. */
export interface TreeEntry {
  /** Relative to that directory. */
  path: string;
  /** `other`: a device, a pipe or a socket. */
  kind: 'file' | 'directory' | 'symlink' | 'other';
  mode: number;
  uid: number;
  gid: number;
  size: number;
  modifiedMs: number;
  changedMs: number;
  /** A directory whose content is no part of the tree: something is mounted there, or the user may not read it. */
  closed?: true;
}

export interface LiveEntry extends TreeEntry {
  /** A way to it that is good until the next entry is asked for. */
  location: string;
}

// Each directory on the way to an entry is held open.
const maxDepth = 500;
const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY;

/** The directory that a checkpoint is of, held open. */
export class TreeRoot {
  /** Without links. */
  readonly path: string;
  readonly entry: TreeEntry;
  readonly device: number;
  readonly file: number;

  private constructor(file: number, stats: Stats) {
    this.file = file;
    this.path = nameOfBytes(readlinkSync(locationOf(file), 'buffer'));
    this.entry = entryOf('', stats);
    this.device = stats.dev;
  }

  /** @param options.links - whether a link at the end of the path is followed */
  static async open(path: string, options: { links: boolean }): Promise<TreeRoot> {
    const file = await calls.open(kernelPath(path), directoryFlags | (options.links ? 0 : constants.O_NOFOLLOW));
    return new TreeRoot(file, await calls.fstat(file));
  }

  get location(): string {
    return locationOf(this.file);
  }

  /** The path that the user knows an entry by. */
  pathOf(path: string): string {
    return path === '' ? this.path : `${this.path === '/' ? '' : this.path}/${path}`;
  }

  async close(): Promise<void> {
    await calls.close(this.file);
  }
}

/**
 * A way to directories of a tree that no link on it can lead elsewhere, whoever changes it meanwhile: each is opened in the
 * one above it (`/proc/self/fd/…`). Those on the way to the last one are kept open.
 */
export class TreeDirectories {
  readonly #root: TreeRoot;
  readonly #open: { name: string; file: number }[] = [];

  constructor(root: TreeRoot) {
    this.#root = root;
  }

  /** @returns the open directory, good until the next call */
  async enter(path: string): Promise<number> {
    const names = path === '' ? [] : path.split('/');
    if (names.length > maxDepth) throw tooDeep(this.#root.pathOf(path));
    const shared = this.#open.findIndex(({ name }, depth) => name !== names[depth]);
    await this.#leave(Math.min(names.length, shared === -1 ? names.length : shared));
    for (const name of names.slice(this.#open.length)) {
      const location = `${locationOf(this.#here)}/${name}`;
      const file = await calls.open(kernelPath(location), directoryFlags | constants.O_NOFOLLOW);
      this.#open.push({ name, file });
    }
    return this.#here;
  }

  /** @returns the location of the entry in its directory */
  async to(path: string): Promise<string> {
    return `${locationOf(await this.enter(parentOf(path)))}/${path.slice(path.lastIndexOf('/') + 1)}`;
  }

  async close(): Promise<void> {
    await this.#leave(0);
  }

  get #here(): number {
    return this.#open.at(-1)?.file ?? this.#root.file;
  }

  async #leave(depth: number): Promise<void> {
    while (this.#open.length > depth) {
      const last = this.#open.pop();
      if (last) await calls.close(last.file);
    }
  }
}

interface Level {
  /** Of an open directory; the root's is not closed here. */
  file: number | undefined;
  location: string;
  /** Relative, with a slash at the end; empty for the root. */
  prefix: string;
  names: string[];
  next: number;
}

/**
 * All that is below the root, in the order of `treeOrder`. In memory are the names of one directory for each level. Left out
 * is what is in the making (`partName`), and what belongs to the sandbox-agent.
 */
export async function* walkTree(root: TreeRoot, pace: Pace): AsyncGenerator<LiveEntry, void> {
  const names = await namesIn(root.location);
  const levels: Level[] = [
    {
      file: undefined,
      location: root.location,
      prefix: '',
      names: root.path === '/' ? names.filter((name) => name !== '.berth') : names,
      next: 0,
    },
  ];
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names[level.next++];
      await pace.turn();
      if (name === undefined) {
        levels.pop();
        if (level.file !== undefined) await calls.close(level.file);
        continue;
      }
      if (isPartName(name)) continue;
      const location = `${level.location}/${name}`;
      const entry = await look(level.prefix + name, location);
      if (!entry) continue;
      if (entry.kind !== 'directory') {
        yield entry;
        continue;
      }
      if (levels.length > maxDepth) throw tooDeep(root.pathOf(entry.path));
      const inside = await openLevel(entry, root.device);
      if (inside === undefined) continue;
      if (inside === 'closed') {
        yield { ...entry, closed: true };
        continue;
      }
      levels.push(inside);
      yield entry;
    }
  } finally {
    for (const { file } of levels) if (file !== undefined) await calls.close(file);
  }
}

/** @returns `undefined` for what was removed since its directory was read */
async function look(path: string, location: string): Promise<LiveEntry | undefined> {
  try {
    return { ...entryOf(path, await calls.lstat(kernelPath(location))), location };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** @returns `undefined` when it is gone, or no directory any more */
async function openLevel({ path, location }: LiveEntry, device: number): Promise<Level | 'closed' | undefined> {
  let file: number;
  try {
    file = await calls.open(kernelPath(location), directoryFlags | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'EACCES', 'EPERM')) return 'closed';
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
  const inside = locationOf(file);
  try {
    // Its names may be readable while nothing in it is.
    const { dev } = await calls.lstat(`${inside}/.`);
    if (dev === device) return { file, location: inside, prefix: `${path}/`, names: await namesIn(inside), next: 0 };
    await calls.close(file);
    return 'closed';
  } catch (error) {
    await calls.close(file);
    if (hasCode(error, 'EACCES')) return 'closed';
    throw error;
  }
}

async function namesIn(location: string): Promise<string[]> {
  return (await fs.readdir(location, { encoding: 'buffer' })).map(nameOfBytes).sort();
}

export function entryOf(path: string, stats: Stats): TreeEntry {
  return {
    path,
    kind: kindOf(stats),
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    size: stats.size,
    modifiedMs: stats.mtimeMs,
    changedMs: stats.ctimeMs,
  };
}

/** Whether nothing was done to it: the kernel sets the time of the last change itself. A directory's is that of its entries. */
export function isSame(one: TreeEntry, other: TreeEntry): boolean {
  if (one.kind !== other.kind || one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid)
    return false;
  if (one.kind === 'directory') return true;
  return one.size === other.size && one.modifiedMs === other.modifiedMs && one.changedMs === other.changedMs;
}

export function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === '.' ? '' : parent;
}

function locationOf(file: number): string {
  return `/proc/self/fd/${file}`;
}

function tooDeep(path: string): RequestError {
  return new RequestError('ENAMETOOLONG', `more than ${maxDepth} directories deep`, shortened(path));
}

/** The kernel's errors name open directories, which tell nobody anything: this one names `path`. */
export function atPath(path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || !(error instanceof Error)) return error;
  if (error instanceof RequestError)
    return error.entry === undefined ? new RequestError(code, error.message, shortened(path)) : error;
  return new RequestError(code, code, shortened(path));
}

/** An error has room for so much. */
export function shortened(path: string): string {
  return path.slice(0, 1_000);
}
