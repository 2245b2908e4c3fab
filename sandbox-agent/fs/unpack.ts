import * as fs from 'node:fs';
import type { FsUnpack } from '../../src/protocol/fs.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { answersAtOnce, calls, writeAll } from './calls.ts';
import { makeDirectories, makeDirectory } from './directory.ts';
import { withPart } from './part.ts';
import { codeOf, hasCode, kernelPath } from './path.ts';
import { type ArchiveEntry, TarReader } from './tar-reader.ts';

const { constants } = fs;
const newFile = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
const permissions = 0o777;
const allModeBits = 0o7777;

// Each directory on the way to an entry is held open.
const maxDepth = 500;

/** The content of a file up to this size is written at once. */
const smallBytes = 64 * 1024;
/** On other threads so many small files are made while the entries after them are read. */
const madeTogether = 16;

/**
 * Files, links and directories get the modes of the archive, files and directories its times too; owner is who unpacks.
 * What is there under the same name is replaced in one step; a directory that is there keeps its mode and time. What
 * came before an entry that fails stays, and the error says so; so may a few small files that came after it.
 * @param isAtOnce - small files are made on this thread. Default: where no file system keeps it waiting
 */
export async function unpack(
  { path }: FsUnpack,
  stream: WireStream,
  signal: AbortSignal,
  isAtOnce: boolean = answersAtOnce,
): Promise<void> {
  try {
    const tree = await OpenTree.at(path);
    try {
      await new Unpacking(stream, tree, isAtOnce).run(signal);
    } finally {
      await tree.close();
    }
  } catch (error) {
    stream.cancel();
    throw error;
  }
}

/** The directory that the tree is at. */
interface Parent {
  /** What the names of entries in it begin with. */
  prefix: string;
  path: string;
  /** One that a file which was made with it had at once: of others the umask, or an ACL of the directory, takes bits away. */
  grantedMode: number | undefined;
}

class Unpacking {
  readonly #stream: WireStream;
  readonly #tree: OpenTree;
  readonly #isAtOnce: boolean;
  readonly #archive = new TarReader();
  readonly #making = new FilesInTheMaking();
  #parent: Parent | undefined;

  constructor(stream: WireStream, tree: OpenTree, isAtOnce: boolean) {
    this.#stream = stream;
    this.#tree = tree;
    this.#isAtOnce = isAtOnce;
  }

  async run(signal: AbortSignal): Promise<void> {
    const pace = new Pace(signal);
    let current: string | undefined;
    try {
      for (;;) {
        const entry = this.#archive.next();
        if (entry) {
          current = entry.name;
          // Nothing is waited for that need not be: of many small files that would be a part of the time.
          const unpacking = this.#unpack(entry);
          if (unpacking) await unpacking;
          if (pace.isOver) await pace.turn();
        } else if (!(await this.#more())) {
          break;
        }
      }
      await this.#making.all();
      await this.#tree.leaveAll();
    } catch (error) {
      await this.#making.settled();
      throw this.#making.failure ?? (current === undefined ? error : atEntry(current, error));
    }
  }

  /** @returns whether there was something */
  async #more(): Promise<boolean> {
    const chunk = await this.#stream.read();
    if (chunk) this.#archive.push(chunk);
    else this.#archive.end();
    return chunk !== null;
  }

  #unpack(entry: ArchiveEntry): Promise<void> | undefined {
    if (!this.#isAtOnce || !isSmallFile(entry)) return this.#unpackInSteps(entry);
    const { prefix, name } = split(entry.name);
    if (prefix !== this.#parent?.prefix || !isPlain(name)) return this.#unpackInSteps(entry);
    const content = this.#archive.content();
    return content ? putSmallFile(this.#parent, name, entry, content) : this.#unpackInSteps(entry);
  }

  async #unpackInSteps(entry: ArchiveEntry): Promise<void> {
    const names = namesOf(entry.name);
    const last = names.at(-1);
    const isSmall = isSmallFile(entry);
    // Another directory, a further file of this name, a link to one: each wants to find what came before it.
    if (!isSmall || !this.#tree.isAt(names.slice(0, -1)) || this.#making.has(last)) await this.#making.all();
    this.#parent = undefined;
    if (isDirectory(entry)) {
      await this.#tree.enter(names);
      this.#tree.onLeave({ mode: modeOf(entry), time: timeOf(entry) });
      return;
    }
    if (last === undefined) throw new RequestError('unsafe_entry', 'it has the name of the directory itself');
    const path = await this.#tree.enter(names.slice(0, -1));
    const parent: Parent = { prefix: split(entry.name).prefix, path, grantedMode: undefined };
    this.#parent = parent;
    switch (entry.kind) {
      case 'file': {
        if (!isSmall) return await put(path, last, (place) => makeFile(place, entry, this.#pieces()));
        const content = await this.#content();
        if (this.#isAtOnce) return await putSmallFile(parent, last, entry, content);
        return await this.#making.add(last, entry.name, () =>
          put(path, last, (place) => makeFile(place, entry, [content])),
        );
      }
      case 'symlink': {
        const target = kernelPath(linkOf(entry));
        return await put(path, last, (place) => calls.symlink(target, kernelPath(place)));
      }
      case 'hard link':
        return await this.#tree.below(namesOf(linkOf(entry)), (target) =>
          put(path, last, (place) => calls.link(kernelPath(target), kernelPath(place))),
        );
      case 'sparse file':
        throw new RequestError('unsafe_entry', 'it is a sparse file, of which the archive has only parts');
      default:
        throw new RequestError('unsafe_entry', 'it is no file, directory or link');
    }
  }

  async #content(): Promise<Buffer> {
    for (;;) {
      const content = this.#archive.content();
      if (content) return content;
      await this.#more();
    }
  }

  async *#pieces(): AsyncGenerator<Buffer, void> {
    while (this.#archive.left > 0) {
      const piece = this.#archive.piece();
      if (piece) yield piece;
      else await this.#more();
    }
  }
}

/** Old archives mark a directory by a slash at the end alone. */
function isDirectory({ kind, name }: ArchiveEntry): boolean {
  return kind === 'directory' || (kind === 'file' && name.endsWith('/'));
}

function isSmallFile(entry: ArchiveEntry): boolean {
  return entry.kind === 'file' && entry.size <= smallBytes && !isDirectory(entry);
}

/** The last name of an entry, and all before it. */
function split(path: string): { prefix: string; name: string } {
  const end = path.lastIndexOf('/') + 1;
  return { prefix: path.slice(0, end), name: path.slice(end) };
}

/** Whether it is a name to which `namesOf` has no objection. */
function isPlain(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('\0');
}

/** The names on the way to an entry. */
function namesOf(path: string): string[] {
  if (path.startsWith('/')) throw new RequestError('unsafe_entry', 'it has an absolute name');
  if (path.includes('\0')) throw new RequestError('unsafe_entry', 'its name holds a NUL');
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw new RequestError('unsafe_entry', 'its name leads outside (..)');
  if (names.length > maxDepth) throw new RequestError('ENAMETOOLONG', `it is more than ${maxDepth} directories deep`);
  return names;
}

function linkOf({ linkTarget }: ArchiveEntry): string {
  if (linkTarget === '') throw new RequestError('invalid_tar', 'it is a link to nothing');
  if (linkTarget.includes('\0')) throw new RequestError('unsafe_entry', 'what it links to holds a NUL');
  return linkTarget;
}

type Make = (path: string) => void | Promise<void>;

/** Makes something new, or makes it beside what is there and puts it in its place. */
async function put(parent: string, name: string, make: Make): Promise<void> {
  try {
    return await make(`${parent}/${name}`);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  await replace(parent, name, make);
}

async function replace(parent: string, name: string, make: Make): Promise<void> {
  await withPart(parent, async (part) => {
    try {
      await make(part);
      await calls.rename(part, kernelPath(`${parent}/${name}`));
    } finally {
      // Also after a rename that went well: between two names of one file it does nothing.
      await remove(part);
    }
  });
}

async function remove(path: string): Promise<void> {
  try {
    await calls.unlink(kernelPath(path));
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** As `put` of `makeFile`, but where nothing has to be replaced it waits for nothing. */
function putSmallFile(parent: Parent, name: string, entry: ArchiveEntry, content: Buffer): Promise<void> | undefined {
  const make = (path: string) => makeSmallFile(path, entry, content, parent);
  try {
    make(`${parent.path}/${name}`);
    return undefined;
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    return replace(parent.path, name, make);
  }
}

function makeSmallFile(path: string, entry: ArchiveEntry, content: Buffer, parent: Parent): void {
  const mode = modeOf(entry);
  const file = fs.openSync(kernelPath(path), newFile, mode & permissions);
  try {
    for (let at = 0; at < content.length; ) at += fs.writeSync(file, content, at);
    if (mode !== parent.grantedMode) {
      if (mode <= permissions && mode === (fs.fstatSync(file).mode & allModeBits)) parent.grantedMode = mode;
      else fs.fchmodSync(file, mode);
    }
    const time = timeOf(entry);
    if (time !== undefined) fs.futimesSync(file, time, time);
  } catch (error) {
    fs.rmSync(kernelPath(path), { force: true });
    throw error;
  } finally {
    fs.closeSync(file);
  }
}

async function makeFile(
  path: string,
  entry: ArchiveEntry,
  content: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await calls.open(kernelPath(path), 'wx', 0o600);
  try {
    for await (const piece of content) await writeAll(file, [piece]);
    await calls.fchmod(file, modeOf(entry));
    const time = timeOf(entry);
    if (time !== undefined) await calls.futimes(file, time, time);
  } catch (error) {
    await remove(path);
    throw error;
  } finally {
    await calls.close(file);
  }
}

/** Small files that are made beside each other, all in the directory that the tree is at. */
class FilesInTheMaking {
  readonly #byName = new Map<string, Promise<void>>();
  #added = 0;
  #failedAt = Number.POSITIVE_INFINITY;
  /** Of the first in the archive that could not be made. */
  failure: unknown;

  has(name: string | undefined): boolean {
    return name !== undefined && this.#byName.has(name);
  }

  /** Begins one when there is room for it. @throws an earlier one's failure */
  async add(name: string, entryName: string, make: () => Promise<void>): Promise<void> {
    const [oldest] = this.#byName.values();
    if (this.#byName.size >= madeTogether) await oldest;
    if (this.failure) throw this.failure;
    const at = this.#added++;
    const making = make()
      .catch((error: unknown) => {
        if (at > this.#failedAt) return;
        this.#failedAt = at;
        this.failure = atEntry(entryName, error);
      })
      .finally(() => this.#byName.delete(name));
    this.#byName.set(name, making);
  }

  /** @throws the failure of one */
  async all(): Promise<void> {
    await this.settled();
    if (this.failure) throw this.failure;
  }

  async settled(): Promise<void> {
    await Promise.all(this.#byName.values());
  }
}

function modeOf({ mode }: ArchiveEntry): number {
  return mode & allModeBits;
}

/** `undefined` for a time that no file system knows. Node takes a negative number, but not such a date, for the present. */
function timeOf({ modifiedSeconds }: ArchiveEntry): Date | number | undefined {
  if (!(Math.abs(modifiedSeconds) < 2 ** 40)) return undefined;
  return modifiedSeconds < 0 ? new Date(modifiedSeconds * 1000) : modifiedSeconds;
}

interface Attributes {
  mode: number;
  time: Date | number | undefined;
}

interface Level {
  name: string;
  directory: number;
  isNew: boolean;
  onLeave?: Attributes;
}

/**
 * The directory that is unpacked into, and those on the way to the present entry, all held open. Each is opened by its
 * name in the one above it (`/proc/self/fd/…`) and never through a link, so that no entry can lead outside, whatever
 * the archive has made before or somebody changes meanwhile. The attributes of a directory are set when it is left: it
 * may be one that nothing can be put into, and what is put into it changes its time.
 */
class OpenTree {
  readonly #root: number;
  readonly #levels: Level[] = [];

  private constructor(root: number) {
    this.#root = root;
  }

  static async at(path: string): Promise<OpenTree> {
    makeDirectories(path);
    return new OpenTree(await calls.open(kernelPath(path), constants.O_RDONLY | constants.O_DIRECTORY));
  }

  /** Goes to the directory, and makes what is missing on the way. @returns a path to it that can't lead elsewhere */
  async enter(names: string[]): Promise<string> {
    const shared = this.#levels.findIndex(({ name }, depth) => name !== names[depth]);
    while (this.#levels.length > (shared === -1 ? names.length : shared)) await this.#leave();
    for (const name of names.slice(this.#levels.length)) {
      const path = `${this.#here()}/${name}`;
      const isNew = makeMissing(path);
      this.#levels.push({ name, directory: await openNoFollow(path), isNew });
    }
    return this.#here();
  }

  isAt(names: string[]): boolean {
    return this.#levels.length === names.length && this.#levels.every(({ name }, depth) => name === names[depth]);
  }

  /** For the present directory; that which is unpacked into, and those that were there, stay as they are. */
  onLeave(attributes: Attributes): void {
    const level = this.#levels.at(-1);
    if (level?.isNew) level.onLeave = attributes;
  }

  async leaveAll(): Promise<void> {
    while (this.#levels.length > 0) await this.#leave();
  }

  /** Calls `use` with a path of what is there under these names. */
  async below(names: string[], use: (path: string) => Promise<void>): Promise<void> {
    const opened: number[] = [];
    try {
      let parent = this.#root;
      for (const name of names.slice(0, -1)) {
        parent = await openNoFollow(`${pathOf(parent)}/${name}`);
        opened.push(parent);
      }
      await use(`${pathOf(parent)}/${names.at(-1) ?? '.'}`);
    } finally {
      for (const directory of opened) await calls.close(directory);
    }
  }

  /** Without setting attributes: something went wrong. */
  async close(): Promise<void> {
    for (const { directory } of this.#levels) await calls.close(directory);
    await calls.close(this.#root);
  }

  async #leave(): Promise<void> {
    const level = this.#levels.at(-1);
    if (level === undefined) return;
    if (level.onLeave) {
      const { mode, time } = level.onLeave;
      await calls.fchmod(level.directory, mode);
      if (time !== undefined) await calls.futimes(level.directory, time, time);
    }
    this.#levels.pop();
    await calls.close(level.directory);
  }

  #here(): string {
    return pathOf(this.#levels.at(-1)?.directory ?? this.#root);
  }
}

function pathOf(directory: number): string {
  return `/proc/self/fd/${directory}`;
}

/** @returns whether it was missing */
function makeMissing(path: string): boolean {
  try {
    makeDirectory(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  }
}

async function openNoFollow(path: string): Promise<number> {
  try {
    return await calls.open(kernelPath(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'ELOOP') && (await calls.lstat(kernelPath(path))).isSymbolicLink()) {
      throw new RequestError('unsafe_entry', 'its way goes through a link');
    }
    throw error;
  }
}

/** The paths in the kernel's errors are those of open directories, which tell nobody anything. */
function atEntry(name: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || !(error instanceof Error)) return error; // a fault of ours
  const reason = /^E[A-Z]+$/.test(code) && !(error instanceof RequestError) ? code : error.message;
  const text =
    code === 'unsafe_entry' // the host's error names the entry itself
      ? `${reason}; what came before it is there`
      : `Unpacking stopped at ${JSON.stringify(name.slice(0, 300))}: ${reason}. What came before it is there.`;
  return new RequestError(code, text, name.slice(0, 1_000));
}
