import { closeSync, readSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { addToInotify, bytesToRead, openInotify, removeFromInotify } from '../kernel.ts';

/** Changes are looked for so often while something is watched, and what happens within that time comes together. */
const roundMs = 20;
const readBytes = 64 * 1024;
/** A round ends after so many reads, that what was found is sent. */
const readsPerRound = 16;
const headerBytes = 16;

/** As in inotify(7). */
export const events = {
  modify: 0x2,
  attributes: 0x4,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  delete: 0x200,
  deleteSelf: 0x400,
  moveSelf: 0x800,
  unmount: 0x2000,
  overflow: 0x4000,
  ignored: 0x8000,
  onlyDirectory: 0x100_0000,
  isDirectory: 0x4000_0000,
} as const;

const wanted =
  events.modify |
  events.attributes |
  events.movedFrom |
  events.movedTo |
  events.create |
  events.delete |
  events.deleteSelf |
  events.moveSelf |
  events.onlyDirectory;

export interface DirectoryEvent {
  directory: number;
  mask: number;
  /** Joins the two halves of a rename. */
  cookie: number;
  /** Empty: it is about the directory itself. */
  name: Buffer;
}

/** Is told everything in order, and nothing else while it is at work. */
export interface Listener {
  changed(event: DirectoryEvent): Promise<void>;
  /** The kernel had more than it can hold. */
  overflowed(): Promise<void>;
  /** The end of a round. */
  rested(): void;
}

/**
 * The directories that this process watches; each has a number, the same for all who watch it. One for all, as the
 * kernel has room for 128 of these a user, on the whole machine. They count for the sandbox's user, whose rights are needed
 * to read a directory. In contrast to `fs.watch` of Node it tells both names of a rename, and when something was lost.
 */
class Inotify {
  #file: number | undefined;
  readonly #directories = new Map<number, Set<Listener>>();
  readonly #listeners = new Set<Listener>();
  #turn: Promise<void> = Promise.resolve();
  readonly #buffer = Buffer.alloc(readBytes);

  /** Runs `work` when no event is being told: none comes until it is done. */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(work);
    this.#turn = result.then(ignored, ignored);
    return result;
  }

  /** @throws an error with the code `EMFILE` */
  join(listener: Listener): void {
    this.#listeners.add(listener);
    if (this.#file !== undefined) return;
    try {
      this.#file = openInotify();
    } catch (error) {
      this.#listeners.delete(listener);
      throw error;
    }
    void this.#run(this.#file);
  }

  /** @throws an error with the code `ENOSPC`: the user watches as much as the kernel lets it */
  add(path: string, listener: Listener): number {
    const directory = addToInotify(this.#file ?? -1, path, wanted);
    const listeners = this.#directories.get(directory) ?? new Set();
    this.#directories.set(directory, listeners.add(listener));
    return directory;
  }

  remove(directory: number, listener: Listener): void {
    const listeners = this.#directories.get(directory);
    if (!listeners?.delete(listener) || listeners.size > 0) return;
    this.#directories.delete(directory);
    removeFromInotify(this.#file ?? -1, directory);
  }

  /** After it has removed its directories. */
  leave(listener: Listener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0 || this.#file === undefined) return;
    closeSync(this.#file);
    this.#file = undefined;
    this.#directories.clear();
  }

  /** By the clock: nothing in Node waits for this kind of file but a thread of its few, for each read. */
  async #run(file: number): Promise<void> {
    while (this.#file === file) {
      await wait(roundMs);
      await this.exclusively(() => this.#round(file));
    }
  }

  async #round(file: number): Promise<void> {
    for (let reads = 0; reads < readsPerRound && this.#file === file && bytesToRead(file) > 0; reads += 1) {
      const length = readSync(file, this.#buffer);
      // Copied names only: the buffer is used again.
      for (let at = 0; at < length && this.#file === file; ) {
        const nameBytes = this.#buffer.readUInt32LE(at + 12);
        const padded = this.#buffer.subarray(at + headerBytes, at + headerBytes + nameBytes);
        const end = padded.indexOf(0);
        await this.#tell({
          directory: this.#buffer.readInt32LE(at),
          mask: this.#buffer.readUInt32LE(at + 4),
          cookie: this.#buffer.readUInt32LE(at + 8),
          name: end === -1 ? padded : padded.subarray(0, end),
        });
        at += headerBytes + nameBytes;
      }
    }
    for (const listener of this.#listeners) listener.rested();
  }

  async #tell(event: DirectoryEvent): Promise<void> {
    if (event.mask & events.overflow) {
      for (const listener of [...this.#listeners]) await listener.overflowed();
      return;
    }
    for (const listener of [...(this.#directories.get(event.directory) ?? [])]) await listener.changed(event);
    if (event.mask & events.ignored) this.#directories.delete(event.directory);
  }
}

export const inotify = new Inotify();

function ignored(): void {}
