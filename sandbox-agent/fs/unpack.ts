import { constants, promises as fs } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { type Extract, extract, type Header } from 'tar-stream';
import type { FsUnpack } from '../../src/protocol/fs.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { calls, writeAll } from './calls.ts';
import { makeDirectories, makeDirectory } from './directory.ts';
import { withPart } from './part.ts';
import { codeOf, hasCode, kernelPath } from './path.ts';

type Entry = Extract extends AsyncIterable<infer Item> ? Item : never;

// Archives from before POSIX are marked by nothing but their sum; tar-stream's types leave both options out.
// `latin1` keeps the bytes of names.
const formats: NonNullable<Parameters<typeof extract>[0]> & { allowUnknownFormat: true; filenameEncoding: string } = {
  allowUnknownFormat: true,
  filenameEncoding: 'latin1',
};

// Each directory on the way to an entry is held open.
const maxDepth = 500;

/** A file up to this size is made while the entries after it are read. */
const smallBytes = 64 * 1024;
const madeAtOnce = 16;

/**
 * Files, links and directories get the modes of the archive, files and directories its times too; owner is who unpacks.
 * What is there under the same name is replaced in one step; a directory that is there keeps its mode and time. What
 * came before an entry that fails stays, and the error says so; so may a few small files that came after it.
 */
export async function unpack({ path }: FsUnpack, stream: WireStream, signal: AbortSignal): Promise<void> {
  const archive = extract(formats);
  const source = new ArchiveSource(stream, archive);
  let current = '';
  let tree: OpenTree | undefined;
  const making = new FilesInTheMaking();
  try {
    tree = await OpenTree.at(path);
    const pace = new Pace(signal);
    const feeding = source.feed();
    for await (const entry of archive) {
      decodeNames(entry.header);
      current = entry.header.name;
      await unpackEntry(tree, entry, making);
      entry.resume(); // a content that nobody wants, of a link for instance
      await pace.turn();
    }
    await feeding;
    await making.all();
    await tree.leaveAll();
  } catch (error) {
    // Where the stream broke off, the archive only knows that it was destroyed.
    const reason = source.error ?? error;
    stream.cancel();
    await making.settled();
    throw making.failure ?? (current === '' ? withoutEntry(reason) : atEntry(current, reason));
  } finally {
    archive.destroy(null);
    await tree?.close();
  }
}

/** A pax header is UTF-8, and decoded as that. */
function decodeNames(header: Header): void {
  const pax = typeof header.pax === 'object' && header.pax !== null ? header.pax : {};
  if (!('path' in pax)) header.name = nameOfBytes(Buffer.from(header.name, 'latin1'));
  if (!('linkpath' in pax) && header.linkname) header.linkname = nameOfBytes(Buffer.from(header.linkname, 'latin1'));
}

/** Gives the bytes of a stream to an archive. Its error comes out where the entries are read. */
class ArchiveSource {
  readonly #stream: WireStream;
  readonly #archive: Extract;
  error: Error | undefined;

  constructor(stream: WireStream, archive: Extract) {
    this.#stream = stream;
    this.#archive = archive;
  }

  async feed(): Promise<void> {
    try {
      for (let chunk = await this.#stream.read(); chunk !== null; chunk = await this.#stream.read()) {
        if (this.#archive.destroyed) return;
        if (!this.#archive.write(chunk)) await drained(this.#archive);
      }
      this.#archive.end(null);
    } catch (error) {
      this.error = error instanceof Error ? error : new Error(String(error));
      this.#archive.destroy(this.error);
    }
  }
}

function drained(archive: Extract): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      archive.off('drain', done);
      archive.off('close', done);
      resolve();
    };
    archive.on('drain', done);
    archive.on('close', done);
  });
}

async function unpackEntry(tree: OpenTree, entry: Entry, making: FilesInTheMaking): Promise<void> {
  const { header } = entry;
  const names = namesOf(header.name);
  const last = names.at(-1);
  const isSmall = header.type === 'file' && header.size <= smallBytes && !header.name.endsWith('/');
  // Another directory, a further file of this name, a link to one: each wants to find what came before it.
  if (!isSmall || !tree.isAt(names.slice(0, -1)) || making.has(last)) await making.all();
  if (header.type === 'directory' || (header.type === 'file' && header.name.endsWith('/'))) {
    // Old archives mark a directory by a slash at the end alone.
    await tree.enter(names);
    tree.onLeave({ mode: modeOf(header), time: timeOf(header) });
    return;
  }
  if (last === undefined) throw new RequestError('unsafe_entry', 'it has the name of the directory itself');
  const parent = await tree.enter(names.slice(0, -1));
  switch (header.type) {
    case 'file':
    case 'contiguous-file':
      if (!isSmall) return await put(parent, last, (path) => makeFile(path, header, contentOf(entry)));
      return await makeSmall(making, parent, last, entry);
    case 'symlink':
      return await put(parent, last, (path) => fs.symlink(kernelPath(linkOf(header)), kernelPath(path)));
    case 'link':
      return await tree.below(namesOf(linkOf(header)), (target) =>
        put(parent, last, (path) => fs.link(kernelPath(target), kernelPath(path))),
      );
    default:
      throw new RequestError('unsafe_entry', 'it is no file, directory or link');
  }
}

async function makeSmall(making: FilesInTheMaking, parent: string, name: string, entry: Entry): Promise<void> {
  const { header } = entry;
  const content = await allOf(entry);
  await making.add(name, header.name, () => put(parent, name, (path) => makeFile(path, header, content)));
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

function linkOf({ linkname }: Header): string {
  if (!linkname) throw new RequestError('invalid_tar', 'it is a link to nothing');
  if (linkname.includes('\0')) throw new RequestError('unsafe_entry', 'what it links to holds a NUL');
  return linkname;
}

/** Makes something new, or makes it beside what is there and puts it in its place. */
async function put(parent: string, name: string, make: (path: string) => Promise<void>): Promise<void> {
  const path = `${parent}/${name}`;
  try {
    return await make(path);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  await withPart(parent, async (part) => {
    try {
      await make(part);
      await fs.rename(part, kernelPath(path));
    } finally {
      // Also after a rename that went well: between two names of one file it does nothing.
      await fs.rm(part, { force: true });
    }
  });
}

async function makeFile(
  path: string,
  header: Header,
  content: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await calls.open(kernelPath(path), 'wx', 0o600);
  try {
    for await (const chunk of content) await writeAll(file, [chunk]);
    await calls.fchmod(file, modeOf(header));
    const time = timeOf(header);
    if (time) await calls.futimes(file, time, time);
  } catch (error) {
    await fs.rm(kernelPath(path), { force: true });
    throw error;
  } finally {
    await calls.close(file);
  }
}

function contentOf(entry: Entry): AsyncIterable<Uint8Array> {
  return entry as AsyncIterable<Uint8Array>; // tar-stream gives nothing else
}

async function allOf(entry: Entry): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of contentOf(entry)) chunks.push(chunk);
  return chunks;
}

/** Small files that are made beside each other, all in the directory that the tree is at. */
class FilesInTheMaking {
  readonly #byName = new Map<string, Promise<void>>();
  #added = 0;
  #failedAt = Number.POSITIVE_INFINITY;
  /** Of the first in the archive that could not be made. */
  failure: Error | undefined;

  has(name: string | undefined): boolean {
    return name !== undefined && this.#byName.has(name);
  }

  /** Begins one when there is room for it. @throws an earlier one's failure */
  async add(name: string, entryName: string, make: () => Promise<void>): Promise<void> {
    const [oldest] = this.#byName.values();
    if (this.#byName.size >= madeAtOnce) await oldest;
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

function modeOf({ mode }: Header): number {
  return mode & 0o7777;
}

/**
 * `undefined` for a time that no file system knows. A pax header has the fractions. As a date: Node takes a negative
 * number for the present.
 */
function timeOf({ pax, mtime }: Header): Date | undefined {
  const precise = typeof pax === 'object' && pax !== null && 'mtime' in pax ? Number(pax.mtime) : undefined;
  const seconds = precise ?? mtime.getTime() / 1000;
  return Math.abs(seconds) < 2 ** 40 ? new Date(seconds * 1000) : undefined;
}

interface Attributes {
  mode: number;
  time: Date | undefined;
}

interface Level {
  name: string;
  directory: FileHandle;
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
  readonly #root: FileHandle;
  readonly #levels: Level[] = [];

  private constructor(root: FileHandle) {
    this.#root = root;
  }

  static async at(path: string): Promise<OpenTree> {
    makeDirectories(path);
    return new OpenTree(await fs.open(kernelPath(path), constants.O_RDONLY | constants.O_DIRECTORY));
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
    const opened: FileHandle[] = [];
    try {
      let parent = this.#root;
      for (const name of names.slice(0, -1)) {
        parent = await openNoFollow(`${pathOf(parent)}/${name}`);
        opened.push(parent);
      }
      await use(`${pathOf(parent)}/${names.at(-1) ?? '.'}`);
    } finally {
      for (const directory of opened) await directory.close();
    }
  }

  /** Without setting attributes: something went wrong. */
  async close(): Promise<void> {
    for (const { directory } of this.#levels) await directory.close();
    await this.#root.close();
  }

  async #leave(): Promise<void> {
    const level = this.#levels.at(-1);
    if (level === undefined) return;
    if (level.onLeave) {
      const { mode, time } = level.onLeave;
      await level.directory.chmod(mode);
      if (time) await level.directory.utimes(time, time);
    }
    this.#levels.pop();
    await level.directory.close();
  }

  #here(): string {
    return pathOf(this.#levels.at(-1)?.directory ?? this.#root);
  }
}

function pathOf(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}`;
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

async function openNoFollow(path: string): Promise<FileHandle> {
  try {
    return await fs.open(kernelPath(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'ELOOP') && (await fs.lstat(kernelPath(path))).isSymbolicLink()) {
      throw new RequestError('unsafe_entry', 'its way goes through a link');
    }
    throw error;
  }
}

/** The paths in the kernel's errors are those of open directories, which tell nobody anything. */
function atEntry(name: string, error: unknown): Error {
  const { code, message } = withoutEntry(error);
  const reason = /^E[A-Z]+$/.test(code) && !(error instanceof RequestError) ? code : message;
  const text =
    code === 'unsafe_entry' // the host's error names the entry itself
      ? `${reason}; what came before it is there`
      : `Unpacking stopped at ${JSON.stringify(name.slice(0, 300))}: ${reason}. What came before it is there.`;
  return new RequestError(code, text, name.slice(0, 1_000));
}

/** `tar-stream` gives errors without a code, for what is no archive, or with that of a stream which was cut off. */
function withoutEntry(error: unknown): Error & { code: string } {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  if (code === undefined) return new RequestError('invalid_tar', message);
  if (code === 'STREAM_DESTROYED') return new RequestError('invalid_tar', 'the archive ends within it');
  return error instanceof Error ? Object.assign(error, { code }) : new RequestError(code, message);
}
