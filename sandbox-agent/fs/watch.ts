import { constants, promises as fs } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { FsWatch } from '../../src/protocol/fs.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { bytesOfName, nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { Changes } from './changes.ts';
import { openDirectory } from './directory.ts';
import { type DirectoryEvent, events, inotify, type Listener } from './inotify.ts';
import { isPartName } from './part.ts';
import { child, hasCode, kernelPath, split } from './path.ts';
import { RecordWriter } from './records.ts';

/** Sends changes until `signal`, or until the directory is gone. `onReady` is called when all that follows is seen. */
export async function watch(
  { path, recursive }: FsWatch,
  stream: WireStream,
  signal: AbortSignal,
  onReady: () => void,
): Promise<void> {
  let watched: Watched | undefined;
  try {
    watched = await Watched.at(path, recursive, signal);
    onReady();
    const records = new RecordWriter(stream, signal);
    for (let changes = await watched.next(); changes !== undefined; changes = await watched.next()) {
      for (const change of changes) await records.write(change);
      await records.flush();
    }
    stream.end();
  } catch (error) {
    stream.reset();
    throw error;
  } finally {
    await watched?.close();
  }
}

/** A directory that is watched. */
interface Directory {
  name: string;
  parent: Directory | undefined;
  number: number;
  inside: Map<string, Directory>;
  /** What was found in it when it was new. The events that say the same are still to come. */
  found: Set<string>;
}

/** The first half of a rename. The second one follows at once, if the name is one of ours, too. */
interface Departure {
  path: string;
  isDirectory: boolean;
  directory: Directory | undefined;
  isOld: boolean;
}

class Watched implements Listener {
  readonly #location: Buffer;
  readonly #recursive: boolean;
  /** Of a file, which is watched by its directory: it may be replaced, or come back. */
  readonly #only: string | undefined;
  readonly #signal: AbortSignal;
  readonly #pace: Pace;
  readonly #changes = new Changes();
  readonly #directories = new Map<number, Directory>();
  readonly #departures = new Map<number, Departure>();
  readonly #withFound = new Set<Directory>();
  #root: Directory | undefined;
  #ended = false;
  #error: unknown;
  #wake: (() => void) | undefined;

  private constructor(location: Buffer, recursive: boolean, only: string | undefined, signal: AbortSignal) {
    this.#location = location;
    this.#recursive = recursive;
    this.#only = only;
    this.#signal = signal;
    this.#pace = new Pace(signal);
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  static async at(path: string, recursive: boolean, signal: AbortSignal): Promise<Watched> {
    const location = await fs.realpath(kernelPath(path), 'buffer');
    const isDirectory = (await fs.stat(location)).isDirectory();
    const { parent, name } = split(nameOfBytes(location));
    const watched = isDirectory
      ? new Watched(location, recursive, undefined, signal)
      : new Watched(bytesOfName(parent), false, name, signal);
    try {
      inotify.join(watched);
      await inotify.exclusively(() => watched.#begin());
      return watched;
    } catch (error) {
      await watched.close();
      throw error;
    }
  }

  /** What has changed since the last call, at least one; `undefined` when nothing will change any more. */
  async next() {
    while (this.#changes.isEmpty && !this.#ended) {
      this.#signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#signal.throwIfAborted();
    if (!this.#changes.isEmpty) return this.#changes.take();
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }

  async close(): Promise<void> {
    this.#ended = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    await inotify.exclusively(async () => {
      this.#forgetAll();
      inotify.leave(this);
    });
  }

  async changed(event: DirectoryEvent): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#changed(event);
    } catch (error) {
      this.#end(error);
    }
  }

  async overflowed(): Promise<void> {
    if (this.#ended) return;
    this.#changes.overflow();
    this.#departures.clear();
    try {
      // Directories may have come and gone unseen.
      this.#forgetAll();
      await this.#begin();
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) this.#changes.remove('', true);
      this.#end(hasCode(error, 'ENOENT', 'ENOTDIR') ? undefined : error);
    }
  }

  rested(): void {
    for (const [cookie, departure] of this.#departures) {
      if (departure.isOld) this.#depart(cookie, departure);
      departure.isOld = true;
    }
    for (const { found } of this.#withFound) found.clear();
    this.#withFound.clear();
    if (!this.#changes.isEmpty || this.#ended) this.#wake?.();
  }

  readonly #onAbort = () => this.#wake?.();

  #end(error?: unknown): void {
    this.#ended = true;
    this.#error = error;
  }

  async #begin(): Promise<void> {
    this.#root = await this.#add(undefined, '', false);
  }

  async #changed({ directory, mask, cookie, name: bytes }: DirectoryEvent): Promise<void> {
    const parent = this.#directories.get(directory);
    if (!parent) return;
    if (mask & (events.deleteSelf | events.moveSelf | events.unmount | events.ignored)) {
      if (parent === this.#root) {
        this.#changes.remove('', this.#only === undefined);
        this.#end();
      } else if (mask & (events.unmount | events.ignored)) this.#forget(parent);
      return;
    }
    const name = nameOfBytes(bytes);
    // Of a directory itself its parent tells.
    if (name === '' || isPartName(name) || (this.#only !== undefined && name !== this.#only)) return;
    const path = this.#pathOf(parent, name);
    const isDirectory = (mask & events.isDirectory) !== 0;
    if (mask & events.movedFrom) {
      this.#departures.set(cookie, { path, isDirectory, directory: parent.inside.get(name), isOld: false });
    } else if (mask & events.movedTo) {
      await this.#arrived(parent, name, path, isDirectory, cookie);
    } else if (mask & events.create) {
      await this.#appeared(parent, name, path, isDirectory, false);
    } else if (mask & events.delete) {
      this.#forget(parent.inside.get(name));
      this.#changes.remove(path, isDirectory);
    } else {
      this.#changes.change(path, isDirectory);
    }
  }

  async #arrived(parent: Directory, name: string, path: string, isDirectory: boolean, cookie: number): Promise<void> {
    const departure = this.#departures.get(cookie);
    if (!departure) return this.#appeared(parent, name, path, isDirectory, true);
    this.#departures.delete(cookie);
    this.#departFrom(path);
    this.#changes.rename(departure.path, path, isDirectory);
    if (!isDirectory || !this.#recursive) return;
    const { directory } = departure;
    if (directory && this.#directories.get(directory.number) === directory) {
      if (parent.inside.get(name) !== directory) this.#forget(parent.inside.get(name)); // an empty one, replaced
      directory.parent?.inside.delete(directory.name);
      directory.parent = parent;
      directory.name = name;
      parent.inside.set(name, directory);
    } else if (!parent.inside.has(name)) {
      await this.#add(parent, name, false);
    }
  }

  async #appeared(
    parent: Directory,
    name: string,
    path: string,
    isDirectory: boolean,
    mayReplace: boolean,
  ): Promise<void> {
    this.#departFrom(path);
    if (parent.found.delete(name)) return;
    this.#changes.create(path, isDirectory, mayReplace);
    if (isDirectory && this.#recursive) {
      this.#forget(parent.inside.get(name));
      await this.#add(parent, name, true);
    }
  }

  /** Something else has its name now: what had it before went to where nothing is watched. */
  #departFrom(path: string): void {
    for (const [cookie, departure] of this.#departures) if (departure.path === path) this.#depart(cookie, departure);
  }

  /** It went to where nothing is watched. */
  #depart(cookie: number, { path, isDirectory, directory }: Departure): void {
    this.#departures.delete(cookie);
    this.#forget(directory);
    this.#changes.remove(path, isDirectory);
  }

  /**
   * Watches a directory, and with `recursive` those below it. Each is watched before it is read: nothing that is made
   * in it is missed. One that is gone, or may not be read, is left out, but for the first of all.
   * @param isNew - what is in it is, too
   */
  async #add(parent: Directory | undefined, name: string, isNew: boolean): Promise<Directory | undefined> {
    let first: Directory | undefined;
    const open = [{ parent, name }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (next.parent && this.#directories.get(next.parent.number) !== next.parent) continue;
      const handle = await this.#open(next.parent, next.name);
      if (!handle) continue;
      try {
        const inside = `/proc/self/fd/${handle.fd}`;
        const directory = this.#enter(inside, next.parent, next.name);
        first ??= directory;
        if (!isNew && !this.#recursive) continue;
        for await (const entry of await openDirectory(inside)) {
          const entryName = nameOfBytes(entry.name);
          if (isPartName(entryName)) continue; // told of when it is whole
          if (isNew) {
            directory.found.add(entryName);
            this.#changes.create(this.#pathOf(directory, entryName), entry.isDirectory());
          }
          if (entry.isDirectory() && this.#recursive) open.push({ parent: directory, name: entryName });
          if (this.#directories.size + open.length > limits.watchedDirectories) throw tooMany();
          await this.#pace.turn();
        }
        if (isNew) this.#withFound.add(directory);
      } finally {
        await handle.close();
      }
    }
    return first;
  }

  async #open(parent: Directory | undefined, name: string): Promise<FileHandle | undefined> {
    const location = parent ? child(this.#location, bytesOfName(this.#pathOf(parent, name))) : this.#location;
    try {
      return await fs.open(location, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch (error) {
      if (parent && hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) return undefined;
      throw error;
    }
  }

  #enter(inside: string, parent: Directory | undefined, name: string): Directory {
    const number = inotify.add(inside, this);
    // It was moved since, and the event that says so is still to come.
    const known = this.#directories.get(number);
    if (known) known.parent?.inside.delete(known.name);
    const directory: Directory = { name, parent, number, inside: known?.inside ?? new Map(), found: new Set() };
    for (const below of directory.inside.values()) below.parent = directory;
    this.#directories.set(number, directory);
    parent?.inside.set(name, directory);
    return directory;
  }

  /** With those below it. */
  #forget(directory: Directory | undefined): void {
    if (!directory || this.#directories.get(directory.number) !== directory) return;
    directory.parent?.inside.delete(directory.name);
    const open = [directory];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      this.#directories.delete(next.number);
      inotify.remove(next.number, this);
      open.push(...next.inside.values());
    }
  }

  #forgetAll(): void {
    for (const number of this.#directories.keys()) inotify.remove(number, this);
    this.#directories.clear();
    this.#root = undefined;
  }

  /** Relative to the first directory; of a file that is watched, it is empty. */
  #pathOf(directory: Directory, name: string): string {
    if (this.#only !== undefined) return '';
    let path = name;
    for (let at = directory; at.parent; at = at.parent) path = `${at.name}/${path}`;
    return path;
  }
}

function tooMany(): RequestError {
  return new RequestError('ENOSPC', `there are more than ${limits.watchedDirectories} directories to watch`);
}
