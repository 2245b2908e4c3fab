import { constants } from 'node:buffer';
import { readdir } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { abortError } from '../../errors.ts';
import { checkpointId } from '../../protocol/checkpoint.ts';
import { WireProtocolError } from '../../protocol/errors.ts';
import { type FsStats, fsEntry, fsMatch, fsPath } from '../../protocol/fs.ts';
import { limits } from '../../protocol/limits.ts';
import { parser } from '../../protocol/messages.ts';
import type { StreamDirections, WireStream } from '../../protocol/mux.ts';
import { ReceiveQueue } from '../../protocol/receive-queue.ts';
import { decodeRecords } from '../../protocol/records.ts';
import { maxDateMs } from '../../protocol/values.ts';
import { FileError, FilesConflictError } from '../errors.ts';
import {
  check,
  checkpointOptions,
  downloadToOptions,
  fileContent,
  fileSize,
  globOptions,
  grepOptions,
  hostPathText,
  mkdirOptions,
  pathText,
  permissions,
  readdirOptions,
  readStreamOptions,
  rmOptions,
  searchPattern,
  signalOptions,
  uploadOptions,
  uploadSource,
  watchOptions,
  writeStreamOptions,
} from '../options.ts';
import { resolvePath } from '../path.ts';
import { requestError } from '../request-error.ts';
import { readable, writable } from '../streams.ts';
import type { Call, Wire } from '../wire.ts';
import { downloadFile } from './download-file.ts';
import { packDirectory } from './pack-directory.ts';
import { unpackArchive } from './unpack-archive.ts';
import { Watch } from './watch.ts';

/** The most that a call holds in memory: what a string can be. A sandbox can send without end. */
const maxHeldBytes = constants.MAX_STRING_LENGTH;

/** Characters of the names in a directory that is held as a whole: those of as many entries as it may have. */
const maxListedLength = 255 * limits.listed;

const parseEntry = parser(fsEntry);
const parsePath = parser(fsPath);
const parseMatch = parser(fsMatch);

/** What the kernel of a sandbox says of a path. Ids are those inside of the sandbox. */
export interface FileStats {
  /** `other`: a device, a pipe or a socket. */
  kind: 'file' | 'directory' | 'symlink' | 'other';
  /** Bytes. */
  size: number;
  /** The permissions, as in `0o644`. */
  mode: number;
  /** Of the user who owns it. */
  uid: number;
  /** Of its group. */
  gid: number;
  /** When it was read last, as far as the kernel notes that. */
  accessed: Date;
  /** When its content changed last. */
  modified: Date;
  /** When its content, owner or permissions changed last. */
  changed: Date;
  /** Of a link, in `lstat` and `readdir`; not of some in `/proc`, which only their owner may read. */
  linkTarget?: string;
}

/** One of `readdir` or `entries` with `withStats`. */
export interface DirectoryEntry {
  /** Without the directory. */
  name: string;
  /** Links are not followed. */
  stats: FileStats;
}

/** A line that matched. */
export interface Match {
  /** Relative to what was searched; where that is a file, its name. */
  path: string;
  /** Its number, from 1. */
  line: number;
  /** The line, without its end; with `docker()` its first 500 characters. */
  text: string;
}

interface ListOptions {
  withStats?: boolean;
  signal?: AbortSignal;
}

/** Options of a search in files. */
export interface GrepOptions {
  /** A directory, or a file. Default: the working directory */
  path?: string;
  /** Only files whose name (or path, when it holds a `/`) matches this glob. */
  include?: string;
  /** The pattern is plain text, not a regular expression. Default: false */
  literal?: boolean;
  /** How many lines are given. Default: 1,000, at most 100,000 */
  limit?: number;
  /** Ends it; the call then rejects with an `AbortError`. `virtual()` does not look at it. */
  signal?: AbortSignal;
}

/**
 * The files of a sandbox, with the rights of its user. Relative paths start at the working directory.
 * Every call rejects with `FileError`, whose `code` is the POSIX name, as in `ENOENT`. A `signal` ends a call, which then
 * rejects with an `AbortError`.
 */
export class FileSystem {
  readonly #wire: () => Promise<Wire>;
  readonly #cwd: string;

  constructor(wire: () => Promise<Wire>, cwd: string) {
    this.#wire = wire;
    this.#cwd = cwd;
  }

  /**
   * The file as text; bytes that are no UTF-8 become U+FFFD. Holds all of it in memory: of more than 512 MiB the code is
   * `EFBIG`.
   * @example const text = await sandbox.fs.readFile('package.json');
   */
  async readFile(path: string): Promise<string> {
    return (await this.readFileBuffer(path)).toString();
  }

  /** The file's bytes, all of them in memory, as in `readFile`. */
  async readFileBuffer(path: string): Promise<Buffer> {
    const held = new ReceiveQueue();
    let bytes = 0;
    for await (const chunk of this.createReadStream(path)) {
      held.push(chunk);
      bytes += chunk.length;
      if (bytes > maxHeldBytes) {
        const detail = `it has more than ${maxHeldBytes} bytes: read it with createReadStream()`;
        throw new FileError({ code: 'EFBIG', path: this.resolve(path), operation: 'read', detail });
      }
    }
    return Buffer.concat(held.shiftAll());
  }

  /**
   * Reads as the reader does: no more than 2 MiB are fetched ahead.
   * @param options.start - first byte, from 0
   * @param options.end - last byte, itself read, as in Node. Default: the end of the file
   */
  createReadStream(path: string, options: { start?: number; end?: number } = {}): Readable {
    const { start, end } = check('createReadStream', readStreamOptions, options);
    const at = this.resolve(path);
    return this.#reading({ type: 'fs.read', path: at, start, ...(end !== undefined && { end: end + 1 }) }, 'read', at);
  }

  /**
   * Creates or replaces a file, with the parents that are missing. A failure leaves the old content.
   * @param options.mode - permissions of a new file. Default: those of the old one, else 0o644
   */
  async writeFile(path: string, content: string | Uint8Array, options: { mode?: number } = {}): Promise<void> {
    check('writeFile', fileContent, content);
    await end(this.createWriteStream(path, options), content);
  }

  /** Adds to the end of a file, which is made when it is missing. */
  async appendFile(path: string, content: string | Uint8Array): Promise<void> {
    check('appendFile', fileContent, content);
    await end(this.createWriteStream(path, { append: true }), content);
  }

  /**
   * The file is there, whole, when the stream has finished; one that is destroyed leaves the old content.
   * @param options.mode - permissions of a new file. Default: those of the old one, else 0o644
   * @param options.append - what is written is added to the end of the file, as it comes. Default: false
   */
  createWriteStream(path: string, options: { mode?: number; append?: boolean } = {}): Writable {
    const { mode, append } = check('createWriteStream', writeStreamOptions, options);
    const at = this.resolve(path);
    const how = append ? 'append' : 'replace';
    return this.#writing({ type: 'fs.write', path: at, how, ...(mode !== undefined && { mode }) }, 'write', at);
  }

  /** What the path names, links followed. */
  stat(path: string): Promise<FileStats> {
    return this.#stat(path, true);
  }

  /** As `stat`, of a link itself. */
  lstat(path: string): Promise<FileStats> {
    return this.#stat(path, false);
  }

  /** Whether there is something at the path, links followed. Never rejects for what is in the sandbox. */
  async exists(path: string): Promise<boolean> {
    try {
      await this.stat(path);
      return true;
    } catch (error) {
      if (error instanceof FileError) return false;
      throw error;
    }
  }

  /**
   * The names in a directory, in its own order; `withStats` gives entries, links not followed.
   * @throws {FileError} `EOVERFLOW`: there are more than 100,000, or their names and what links say are more than 25
   * million characters. `entries` gives any number
   * @example const names = await sandbox.fs.readdir('src');
   */
  readdir(path: string, options?: { withStats?: false; signal?: AbortSignal }): Promise<string[]>;
  /** As above, with what `lstat` says of each. */
  readdir(path: string, options: { withStats: true; signal?: AbortSignal }): Promise<DirectoryEntry[]>;
  async readdir(path: string, options: ListOptions = {}): Promise<string[] | DirectoryEntry[]> {
    const found: (string | DirectoryEntry)[] = [];
    let length = 0;
    for await (const entry of this.#list('readdir', path, options)) {
      found.push(entry);
      length += typeof entry === 'string' ? entry.length : entry.name.length + (entry.stats.linkTarget?.length ?? 0);
      if (found.length > limits.listed || length > maxListedLength) {
        const detail = `it has more than ${limits.listed} entries, or very long ones: read it with entries()`;
        throw new FileError({ code: 'EOVERFLOW', path: this.resolve(path), operation: 'readdir', detail });
      }
    }
    return found as string[] | DirectoryEntry[]; // `withStats` says which
  }

  /**
   * As `readdir`, one after the other and for any number of them: nothing is fetched far ahead of who reads.
   * @example for await (const name of sandbox.fs.entries('node_modules')) console.log(name);
   */
  entries(path: string, options?: { withStats?: false; signal?: AbortSignal }): AsyncGenerator<string, void>;
  /** As above, with what `lstat` says of each. */
  entries(path: string, options: { withStats: true; signal?: AbortSignal }): AsyncGenerator<DirectoryEntry, void>;
  entries(path: string, options: ListOptions = {}): AsyncGenerator<string | DirectoryEntry, void> {
    return this.#list('entries', path, options);
  }

  /**
   * Makes a directory. Without `recursive` what is there is `EEXIST`, and a missing parent `ENOENT`.
   * @param options.recursive - makes missing parents; a directory that is there is fine. Default: false
   * @param options.mode - permissions, when it is made. Default: 0o755
   */
  async mkdir(path: string, options: { recursive?: boolean; mode?: number } = {}): Promise<void> {
    const { recursive, mode } = check('mkdir', mkdirOptions, options);
    const at = this.resolve(path);
    await this.#call({ type: 'fs.mkdir', path: at, recursive, ...(mode !== undefined && { mode }) }, 'mkdir', at);
  }

  /**
   * Removes a file.
   * @param options.recursive - also a directory, with all in it; else that is `EISDIR`. Default: false
   * @param options.force - what is not there is fine; else that is `ENOENT`. Default: false
   */
  async rm(path: string, options: { recursive?: boolean; force?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const { recursive, force, signal } = check('rm', rmOptions, options);
    const at = this.resolve(path);
    await this.#call({ type: 'fs.rm', path: at, recursive, force }, 'rm', at, signal);
  }

  /** Replaces what is at `to`. */
  async rename(from: string, to: string): Promise<void> {
    await this.#call(
      { type: 'fs.rename', from: this.resolve(from), to: this.resolve(to) },
      'rename',
      this.resolve(from),
    );
  }

  /** Copies a file, or a directory with all in it; links as links. */
  async copy(from: string, to: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = check('copy', signalOptions, options);
    const at = this.resolve(from);
    await this.#call({ type: 'fs.copy', from: at, to: this.resolve(to) }, 'copy', at, signal);
  }

  /** Makes a link at `path`. `target` is written as it is. */
  async symlink(target: string, path: string): Promise<void> {
    check('symlink', pathText, target);
    await this.#call({ type: 'fs.symlink', target, path: this.resolve(path) }, 'symlink', this.resolve(path));
  }

  /** What a link says, as it is written. `EINVAL`: the path is no link. */
  readlink(path: string): Promise<string> {
    return this.#target('fs.readlink', 'readlink', path);
  }

  /** The path without links. */
  realpath(path: string): Promise<string> {
    return this.#target('fs.realpath', 'realpath', path);
  }

  /**
   * Makes a file that long, links followed: the rest is cut off, or what is added reads as zeros.
   * @param size - bytes. Default: 0
   * @example await sandbox.fs.truncate('server.log');
   */
  async truncate(path: string, size = 0): Promise<void> {
    check('truncate', fileSize, size);
    const at = this.resolve(path);
    await this.#call({ type: 'fs.truncate', path: at, size }, 'truncate', at);
  }

  /** Sets the permissions, links followed: `0o755`. */
  async chmod(path: string, mode: number): Promise<void> {
    check('chmod', permissions, mode);
    const at = this.resolve(path);
    await this.#call({ type: 'fs.chmod', path: at, mode }, 'chmod', at);
  }

  /**
   * Files that match, newest first, without what is in `.git`. A pattern without `/` matches names at any depth.
   * @param options.path - where to look; the paths are relative to it. Default: the working directory
   * @param options.limit - default 1,000
   */
  async glob(
    pattern: string,
    options: { path?: string; limit?: number; signal?: AbortSignal } = {},
  ): Promise<{ paths: string[]; truncated: boolean }> {
    const { path = '.', limit, signal } = check('glob', globOptions, options);
    check('glob', searchPattern, pattern);
    const at = this.resolve(path);
    const call = { type: 'fs.glob', path: at, pattern, limit } as const;
    const { records, answer } = await this.#found(call, 'glob', at, parsePath, signal);
    return { paths: records.map((record) => record.path), truncated: answer.truncated };
  }

  /** Lines that match, at most `limit` of them; `total` counts all. `.git` and what `.gitignore` names are left out. */
  async grep(
    pattern: string,
    options: GrepOptions = {},
  ): Promise<{ matches: Match[]; total: number; truncated: boolean }> {
    const { path = '.', include, literal, limit, signal } = check('grep', grepOptions, options);
    check('grep', searchPattern, pattern);
    const at = this.resolve(path);
    const call = {
      type: 'fs.grep',
      path: at,
      pattern,
      literal,
      limit,
      ...(include !== undefined && { include }),
    } as const;
    const { records, answer } = await this.#found(call, 'grep', at, parseMatch, signal);
    return { matches: records, total: answer.total, truncated: answer.truncated };
  }

  /**
   * Watches a directory, or a file, for what changes from now on. Links are not followed; a directory that the user may
   * not read is left out, and so are the times at which something was read. It does not keep the sandbox from being idle.
   * @param options.recursive - also what is below it, and what will be. At most 32,768 directories. Default: false
   * @param options.signal - ends it: the loop then rejects with an `AbortError`
   * @throws {FileError} `ENOSPC`, `EMFILE`: the kernel, or the sandbox-agent, watches as much as it can
   * @example
   * await using changes = sandbox.fs.watch('src', { recursive: true });
   * for await (const change of changes) if (change.type !== 'overflow') console.log(change.type, change.path);
   */
  watch(path: string, options: { recursive?: boolean; signal?: AbortSignal } = {}): Watch {
    const { recursive, signal } = check('watch', watchOptions, options);
    return new Watch(this.#wire, this.resolve(path), recursive, signal);
  }

  /**
   * Brings a tree into the sandbox, below the directory `target`, which is made when it is missing. What has come before a
   * failure stays.
   * @param source - a file or directory of the host (of a directory: what is in it), or a tar as a stream
   * @param options.gitignore - leaves out what `.gitignore` files of the host's directory name, and `.git`. Default: false
   * @throws {UnsafeEntryError} an entry of the tar would end up outside of `target`, or is a device
   * @example await sandbox.fs.upload('./project', 'project', { gitignore: true });
   */
  async upload(
    source: string | Readable,
    target: string,
    options: { gitignore?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { gitignore, signal } = check('upload', uploadOptions, options);
    check('upload', uploadSource, source);
    const at = this.resolve(target);
    if (signal?.aborted) throw abortError(signal.reason);
    const tar = typeof source === 'string' ? packDirectory(source, { gitignore }) : source;
    try {
      await pipeline(tar, this.#writing({ type: 'fs.unpack', path: at }, 'upload', at), signal ? { signal } : {});
    } catch (error) {
      throw signal?.aborted ? abortError(signal.reason) : hostFailure(error, 'upload', source);
    }
  }

  /**
   * A tar of a file or directory; the names in it begin with the last part of the path.
   * @example await pipeline(sandbox.fs.download('dist'), createWriteStream('dist.tar'));
   */
  download(path: string, options: { signal?: AbortSignal } = {}): Readable {
    const { signal } = check('download', signalOptions, options);
    const at = this.resolve(path);
    return endedBy(signal, this.#reading({ type: 'fs.pack', path: at }, 'download', at));
  }

  /**
   * Brings a directory or a file out of the sandbox, so that it is `hostPath`: whole, or not at all. Nothing is written
   * anywhere else, whatever the sandbox sends; permissions, links and empty directories come along, owners do not.
   * @param path - links are followed
   * @param hostPath - for a directory: is not there yet, or an empty directory; for a file: a file that is there is replaced
   * @param options.maxBytes - the most that it may take of the disk, 4 KiB for each entry included. Default: no limit
   * @throws {UnsafeEntryError} an entry, which it names, would be outside, links to outside, or is a device
   * @throws {CopyLimitError} it is larger than `maxBytes`
   * @example await sandbox.fs.downloadTo('dist', './dist', { maxBytes: 1024 ** 3 });
   */
  async downloadTo(
    path: string,
    hostPath: string,
    options: { maxBytes?: number; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { maxBytes, signal } = check('downloadTo', downloadToOptions, options);
    check('downloadTo', hostPathText, hostPath);
    const at = this.resolve(path);
    if (signal?.aborted) throw abortError(signal.reason);
    const { kind, mode } = await this.stat(path);
    if (kind === 'file') return this.#downloadFile(at, hostPath, { mode, maxBytes }, signal);
    if (kind !== 'directory') {
      const detail = 'it is no file or directory';
      throw new FileError({ code: 'ENOTSUP', path: at, operation: 'downloadTo', detail });
    }
    // Told of now, and not when all has come.
    if (await holdsSomething(hostPath))
      throw new FileError({ code: 'ENOTEMPTY', path: hostPath, operation: 'downloadTo' });
    const limit = maxBytes === undefined ? {} : { maxBytes };
    try {
      await unpackArchive(this.download(path, signal ? { signal } : {}), hostPath, { ...limit, refuseLinks: true });
    } catch (error) {
      throw signal?.aborted ? abortError(signal.reason) : hostFailure(error, 'downloadTo', hostPath);
    }
  }

  /**
   * Remembers the tree below a directory, in place of what was remembered under this id. It is kept as long as the
   * sandbox. What is mounted below is no part of the tree, and neither is what the user may not read.
   * @param id - 1 to 200 characters of `A-Z a-z 0-9 . _ -`
   * @param options.copy - also the content of all files, for `rollback`. Default: false
   * @throws {FileError} with `copy` also `EACCES`, of what the user may not read
   * @internal
   */
  async checkpoint(id: string, path: string, options: { copy?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const { copy, signal } = check('checkpoint', checkpointOptions, options);
    check('checkpoint', checkpointId, id);
    const at = this.resolve(path);
    await this.#call({ type: 'fs.checkpoint', id, path: at, copy }, 'checkpoint', undefined, signal);
  }

  /**
   * Makes the tree as it was at a checkpoint with `copy`, which stays: all of it, or nothing. Times of links, and sockets,
   * pipes and devices that were removed do not come back.
   * @throws {FileError} one that can't be put back, which it names
   * @internal
   */
  async rollback(id: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = check('rollback', signalOptions, options);
    check('rollback', checkpointId, id);
    await this.#call({ type: 'fs.rollback', id }, 'rollback', undefined, signal);
  }

  /**
   * What changed since a checkpoint, for `land`: names, contents, permissions, owners, times. Sockets, pipes and devices are
   * left out; files with several names come as several.
   * @internal
   */
  packChanges(id: string, options: { signal?: AbortSignal } = {}): Readable {
    const { signal } = check('packChanges', signalOptions, options);
    check('packChanges', checkpointId, id);
    return endedBy(signal, this.#reading({ type: 'fs.changes', id }, 'packChanges'));
  }

  /**
   * Makes the changes that another tree has packed in the tree of this checkpoint: all or none. Those that are there already
   * are fine.
   * @throws {FilesConflictError} what else changed here since the checkpoint; nothing has landed
   * @throws {FileError} one that can't be put in its place, which it names; nothing has landed
   * @internal
   */
  async land(id: string, changes: Readable, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = check('land', signalOptions, options);
    check('land', checkpointId, id);
    if (signal?.aborted) throw abortError(signal.reason);
    const opening = this.#open({ type: 'fs.land', id }, { send: true, receive: false }, 'fs.landed', signal);
    try {
      await pipeline(changes, writingTo(opening, 'land'), signal ? { signal } : {});
      const { conflicts, paths } = await (await opening).done;
      if (conflicts > 0) throw new FilesConflictError({ paths, count: conflicts });
    } catch (error) {
      throw signal?.aborted ? abortError(signal.reason) : error;
    }
  }

  /** Forgets a checkpoint; one that is not there is fine. @internal */
  async dropCheckpoint(id: string): Promise<void> {
    check('dropCheckpoint', checkpointId, id);
    await this.#call({ type: 'fs.dropCheckpoint', id }, 'dropCheckpoint', undefined);
  }

  /** The absolute path that a relative one means here. */
  resolve(path: string): string {
    return resolvePath(this.#cwd, path);
  }

  async #downloadFile(
    at: string,
    hostPath: string,
    options: { mode: number; maxBytes: number | undefined },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    try {
      const request = { type: 'fs.read', path: at, start: 0 } as const;
      const opening = this.#open(request, { send: false, receive: true }, 'ok', signal);
      opening.catch(ignored);
      const read = (used: readonly Uint8Array[]) =>
        explained(opening, 'downloadTo', at, async ({ stream, done }) => {
          for (const piece of used) stream.recycle(piece);
          const pieces = await stream.readAll();
          if (pieces === null) await done; // says whether these were all
          return pieces;
        });
      try {
        await downloadFile(read, hostPath, options);
      } finally {
        opening.then(({ stream }) => stream.cancel(), ignored);
      }
    } catch (error) {
      throw signal?.aborted ? abortError(signal.reason) : error;
    }
  }

  async #stat(path: string, follow: boolean): Promise<FileStats> {
    const at = this.resolve(path);
    const operation = follow ? 'stat' : 'lstat';
    try {
      const wire = await this.#wire();
      return toStats((await wire.call({ type: 'fs.stat', path: at, follow }, 'fs.stat')).stats);
    } catch (error) {
      throw requestError(error, operation, at);
    }
  }

  async #target(type: 'fs.readlink' | 'fs.realpath', operation: string, path: string): Promise<string> {
    const at = this.resolve(path);
    try {
      return (await (await this.#wire()).call({ type, path: at }, 'fs.target')).target;
    } catch (error) {
      throw requestError(error, operation, at);
    }
  }

  async #call(call: Call, operation: string, path: string | undefined, signal?: AbortSignal): Promise<void> {
    try {
      if (signal?.aborted) throw signal.reason;
      await (await this.#wire()).call(call, 'ok', signal);
    } catch (error) {
      throw failure(error, operation, path, signal);
    }
  }

  /** What a request sends. */
  #reading(call: WithoutStream, operation: string, path?: string): Readable {
    const opening = this.#open(call, { send: false, receive: true }, 'ok');
    opening.catch(ignored); // told to those who read
    return readable(
      () =>
        explained(opening, operation, path, async ({ stream, done }) => {
          const chunk = await stream.read();
          // The bytes have come; whether these are all of them says the answer.
          if (chunk === null) await done;
          return chunk;
        }),
      () => void opening.then(({ stream }) => stream.cancel(), ignored),
    );
  }

  /** What a request takes. */
  #writing(call: WithoutStream, operation: string, path: string): Writable {
    return writingTo(this.#open(call, { send: true, receive: false }, 'ok'), operation, path);
  }

  async *#list(operation: string, path: string, options: ListOptions): AsyncGenerator<string | DirectoryEntry, void> {
    const { withStats, signal } = check(operation, readdirOptions, options);
    const at = this.resolve(path);
    const records = this.#records({ type: 'fs.readdir', path: at, withStats }, 'ok', operation, at, parseEntry, signal);
    for await (const { name, stats } of records) yield stats ? { name, stats: toStats(stats) } : name;
  }

  /** What a search finds, as much of it as was asked for. */
  async #found<Found>(
    call: WithoutStream & { limit: number },
    operation: string,
    path: string,
    parse: (line: Uint8Array) => Found,
    signal: AbortSignal | undefined,
  ) {
    const records: Found[] = [];
    const all = this.#records(call, 'fs.found', operation, path, bounded(parse, call.limit), signal);
    for (;;) {
      const { value, done } = await all.next();
      if (done) return { records, answer: value };
      records.push(value);
    }
  }

  /** Each line that a request sends; returns its answer. */
  async *#records<Type extends 'ok' | 'fs.found', Found>(
    call: WithoutStream,
    answer: Type,
    operation: string,
    path: string,
    parse: (line: Uint8Array) => Found,
    signal: AbortSignal | undefined,
  ) {
    try {
      if (signal?.aborted) throw signal.reason;
      const { wire, stream, done } = await this.#open(call, { send: false, receive: true }, answer, signal);
      const onAbort = () => stream.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        yield* decodeRecords(stream, parse);
        return await done;
      } catch (error) {
        if (error instanceof WireProtocolError) throw await wire.end(error);
        stream.cancel();
        await done;
        throw error;
      } finally {
        signal?.removeEventListener('abort', onAbort);
      }
    } catch (error) {
      throw failure(error, operation, path, signal);
    }
  }

  async #open<Type extends 'ok' | 'fs.found' | 'fs.landed'>(
    call: WithoutStream,
    directions: StreamDirections,
    answer: Type,
    signal?: AbortSignal,
  ) {
    const wire = await this.#wire();
    const stream = wire.openStream(directions);
    // The stream is what the call was without.
    return { wire, stream, done: wire.call({ ...call, stream: stream.id } as Call, answer, signal) };
  }
}

type WithoutStream = Call extends infer Each ? (Each extends { stream: number } ? Omit<Each, 'stream'> : never) : never;

interface Opened<Done> {
  wire: Wire;
  stream: WireStream;
  done: Promise<Done>;
}

/** Does one thing with an open request. A stream that breaks off is explained by the answer, which comes behind it. */
async function explained<Done, Result>(
  opening: Promise<Opened<Done>>,
  operation: string,
  path: string | undefined,
  use: (opened: Opened<Done>) => Promise<Result>,
): Promise<Result> {
  try {
    const opened = await opening;
    try {
      return await use(opened);
    } catch (error) {
      if (error instanceof WireProtocolError) throw await opened.wire.end(error);
      const { stream, done } = opened;
      stream.cancel();
      await done;
      throw error;
    }
  } catch (error) {
    throw requestError(error, operation, path);
  }
}

/** What a request takes. */
function writingTo(opening: Promise<Opened<unknown>>, operation: string, path?: string): Writable {
  const stream = writable({
    write: (chunk) => explained(opening, operation, path, ({ stream }) => stream.write(chunk)),
    end: () =>
      explained(opening, operation, path, async ({ stream, done }) => {
        stream.end();
        await done;
      }),
    cancel: async () => {
      const opened = await opening.catch(ignored);
      opened?.stream.reset(); // a no-op after the end
      // The answer says that what was begun has been taken back.
      await opened?.done.catch(ignored);
    },
  });
  // Who has nothing to write at the moment is told all the same.
  explained(opening, operation, path, ({ done }) => done).catch((error: Error) => stream.destroy(error));
  return stream.on('error', ignored); // who writes gets it; an event that nobody listens for would end the host
}

function ignored(): void {}

function endedBy(signal: AbortSignal | undefined, stream: Readable): Readable {
  if (!signal) return stream;
  const onAbort = () => stream.destroy(abortError(signal.reason));
  stream.on('error', ignored); // who reads gets it, also later
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  stream.once('close', () => signal.removeEventListener('abort', onAbort));
  return stream;
}

/** What a call that can be aborted rejects with. */
function failure(
  error: unknown,
  operation: string,
  path: string | undefined,
  signal: AbortSignal | undefined,
): unknown {
  return signal?.aborted ? abortError(signal.reason) : requestError(error, operation, path);
}

/** Refuses more than was asked for: the sender may be lying. */
function bounded<Found>(parse: (line: Uint8Array) => Found, limit: number): (line: Uint8Array) => Found {
  let count = 0;
  return (line) => {
    count += 1;
    if (count > limit) throw new WireProtocolError('more was found than was asked for');
    return parse(line);
  };
}

/** Writes the content and waits until it is there. */
async function end(stream: Writable, content: string | Uint8Array): Promise<void> {
  const done = finished(stream);
  stream.end(content);
  await done;
}

/** What can't be looked at is told of when it is to be replaced. */
async function holdsSomething(hostPath: string): Promise<boolean> {
  const names = await readdir(hostPath).catch(() => []);
  return names.length > 0;
}

/** A failure of the kernel with a file of the host is one of ours, too. What a stream of the caller fails with is not. */
function hostFailure(error: unknown, operation: string, path: string | Readable): unknown {
  if (typeof path !== 'string' || !(error instanceof Error) || !('syscall' in error)) return error;
  const { code = 'EIO', message, path: at = path } = error as NodeJS.ErrnoException;
  return new FileError({ code, path: at, operation, detail: message }, { cause: error });
}

function toStats({ accessedMs, modifiedMs, changedMs, linkTarget, ...stats }: FsStats): FileStats {
  return {
    ...stats,
    ...(linkTarget !== undefined && { linkTarget }),
    accessed: toDate(accessedMs),
    modified: toDate(modifiedMs),
    changed: toDate(changedMs),
  };
}

/** A command may give a file a time that no `Date` can be: it is then the nearest one, as an invalid one throws later. */
function toDate(ms: number): Date {
  return new Date(Math.min(Math.max(ms, -maxDateMs), maxDateMs));
}
