import { randomUUID } from 'node:crypto';
import { closeSync, openSync, read, unlinkSync, write } from 'node:fs';
import { promisify } from 'node:util';
import { asRoot } from '../identity.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** The newest bytes that stay in memory; a process that writes no more than this needs no file. */
const memoryBytes = 256 * KiB;
/** Chunks up to this size are joined with the one before: a buffer costs some hundred bytes, whatever is in it. */
const joinBytes = 4 * KiB;
/** What the file keeps of one output: the first half of it and the newest half. */
const keptBytes = 64 * MiB;
const half = keptBytes / 2;
/** A reader that is further behind than this holds the process up, as a pipe would, ... */
const lagBytes = 16 * MiB;
/** ... but not when it has stopped: this long after its last byte the process goes on without it. */
const stalledMs = 1_000;

const readAt = promisify(read);
const writeAt = promisify(write);

/** What was asked for is no longer kept: it lay between the oldest and the newest bytes. */
class OutputGoneError extends Error {
  readonly code = 'output_gone';
  constructor(from: number) {
    super(`the output from byte ${from} on is no longer kept`);
  }
}

interface Reader {
  at: number;
  movedAt: number;
}

/**
 * What a process wrote to one of its outputs, numbered from byte 0. One writer, any number of readers, each at its own
 * pace. A reader that is slow slows the process; one that has stopped does not, and loses what is no longer kept.
 */
export class Spool {
  #total = 0;
  #ended = false;
  /** The newest chunks; together they start at byte `#memoryStart`. */
  #chunks: Buffer[] = [];
  #memoryStart = 0;
  #memoryHeld = 0;
  #file: SpoolFile | undefined;
  /** The sandbox's disk is full, say: only what is in memory is kept. */
  #fileFailed = false;
  #readers = new Set<Reader>();
  #waiting = new Set<() => void>();

  get total(): number {
    return this.#total;
  }

  /** Takes the next bytes; resolves when there is room for more. They must not change afterwards. */
  async append(chunk: Buffer): Promise<void> {
    const start = this.#total;
    this.#keep(chunk);
    this.#memoryHeld += chunk.length;
    this.#total += chunk.length;
    this.#wake();
    await this.#writeToFile(chunk, start);
    // Only now: a reader that looks for what is no longer in memory must find it in the file.
    for (
      let first = this.#chunks[0];
      first && this.#memoryHeld - first.length >= memoryBytes;
      first = this.#chunks[0]
    ) {
      this.#chunks.shift();
      this.#memoryHeld -= first.length;
      this.#memoryStart += first.length;
    }
    await this.#waitForReaders();
  }

  /** Nothing is appended any more: readers end when they have everything. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Frees what is kept. */
  close(): void {
    this.end();
    this.#chunks = [];
    this.#memoryStart = this.#total;
    this.#memoryHeld = 0;
    this.#file?.close();
    this.#file = undefined;
    this.#fileFailed = true;
  }

  /**
   * What was written from byte `from` on, then what follows, until the end.
   * @throws {OutputGoneError} a byte that is next for this reader is no longer kept
   */
  async *read(from: number, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    const reader: Reader = { at: from, movedAt: Date.now() };
    this.#readers.add(reader);
    try {
      for (;;) {
        signal.throwIfAborted();
        const chunk = reader.at < this.#total ? await this.#readAt(reader.at) : undefined;
        if (chunk) {
          yield chunk;
          reader.at += chunk.length;
          reader.movedAt = Date.now();
          this.#wake();
        } else if (this.#ended) {
          return;
        } else {
          await this.#changed(signal);
        }
      }
    } finally {
      this.#readers.delete(reader);
      this.#wake();
    }
  }

  /** A program that prints a character at a time, or a person who types, makes a chunk of each. */
  #keep(chunk: Buffer): void {
    const last = this.#chunks.at(-1);
    if (last && last.length + chunk.length <= joinBytes) this.#chunks.splice(-1, 1, Buffer.concat([last, chunk]));
    else this.#chunks.push(chunk);
  }

  async #waitForReaders(): Promise<void> {
    for (;;) {
      const now = Date.now();
      const isWaitedFor = (reader: Reader) => this.#total - reader.at > lagBytes && now - reader.movedAt < stalledMs;
      if (this.#ended || ![...this.#readers].some(isWaitedFor)) return;
      await this.#changed(AbortSignal.timeout(stalledMs));
    }
  }

  async #readAt(at: number): Promise<Buffer> {
    if (at >= this.#memoryStart) {
      let start = this.#memoryStart;
      for (const chunk of this.#chunks) {
        if (at < start + chunk.length) return chunk.subarray(at - start);
        start += chunk.length;
      }
    }
    this.#checkKept(at);
    if (!this.#file) throw new OutputGoneError(at);
    const { position, room } = place(at);
    const chunk = await this.#file.read(position, Math.min(64 * KiB, room, this.#total - at));
    // The process may have written on meanwhile, over what was just read.
    this.#checkKept(at);
    return chunk;
  }

  #checkKept(at: number): void {
    if (at >= half && at < this.#total - half) throw new OutputGoneError(at);
  }

  async #writeToFile(chunk: Buffer, start: number): Promise<void> {
    if (this.#fileFailed || this.#total <= memoryBytes) return;
    try {
      if (!this.#file) {
        this.#file = new SpoolFile();
        // All of it is in memory still, the new chunk too.
        await this.#file.write(this.#chunks, 0);
      } else {
        await this.#file.write([chunk], start);
      }
    } catch {
      this.#file?.close();
      this.#file = undefined;
      this.#fileFailed = true;
    }
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

/** Where byte `at` of an output is in its file, and how many follow there: the second half goes round and round. */
function place(at: number): { position: number; room: number } {
  if (at < half) return { position: at, room: half - at };
  const offset = (at - half) % half;
  return { position: half + offset, room: half - offset };
}

/** A file without a name on the sandbox's disk, which only the sandbox-agent has: gone when it is closed. */
class SpoolFile {
  readonly #descriptor: number;
  #busy = 0;
  #closing = false;

  constructor() {
    this.#descriptor = asRoot(() => {
      const path = `/.berth-output-${randomUUID()}`;
      const descriptor = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
      return descriptor;
    });
  }

  async read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.#use(() => readAt(this.#descriptor, buffer, 0, length, position));
    return buffer.subarray(0, bytesRead);
  }

  async write(chunks: readonly Buffer[], start: number): Promise<void> {
    let at = start;
    for (const chunk of [...chunks]) {
      for (let rest = chunk; rest.length > 0; ) {
        const { position, room } = place(at);
        const piece = rest.subarray(0, room);
        const { bytesWritten } = await this.#use(() => writeAt(this.#descriptor, piece, 0, piece.length, position));
        at += bytesWritten;
        rest = rest.subarray(bytesWritten);
      }
    }
  }

  /** A descriptor that is closed while a call uses it could be another file's by then: the last call closes it. */
  close(): void {
    this.#closing = true;
    if (this.#busy === 0) closeSync(this.#descriptor);
  }

  async #use<Result>(call: () => Promise<Result>): Promise<Result> {
    if (this.#closing) throw new Error('the file is closed');
    this.#busy++;
    try {
      return await call();
    } finally {
      this.#busy--;
      if (this.#closing && this.#busy === 0) closeSync(this.#descriptor);
    }
  }
}
