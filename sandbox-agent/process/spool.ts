import { closeSync, read, writev, writevSync } from 'node:fs';
import { promisify } from 'node:util';
import type { KeptDirectory, OutputName, Segment } from './kept.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** The newest bytes that stay in memory while the process runs: most readers need no more. */
const memoryBytes = 256 * KiB;
/** ... and when the command has ended, as long as somebody reads. More than two pipes hold. */
const lastBytes = 4 * MiB;
/** Chunks up to this size are joined with the one before: a buffer costs some hundred bytes, whatever is in it. */
const joinBytes = 4 * KiB;
/** What goes to the disk at once, up to here; a piece that is larger is not waited for by all that goes on meanwhile. */
const atOnceBytes = 16 * KiB;
/**
 * Pieces that follow each other faster than this are written by another thread, however small: meanwhile more comes
 * together, and one large piece takes less than many small ones.
 */
const followMs = 2;
/** What may wait for the disk; then the process waits. */
const unstoredBytes = 1 * MiB;
/** An output is kept in files of this size: the first half of them and the newest half, 64 MiB in all. */
const segmentBytes = 4 * MiB;
const keptSegments = 16;
/** When all outputs together take too much of the disk: the first file, the one before, and the one that is written. */
const leastSegments = 3;
/** After the disk was full. */
const retryMs = 1_000;
const readBytes = 64 * KiB;

/** A reader that is further behind than this holds the process up, as a pipe would, ... */
const lagBytes = 16 * MiB;
/** ... but not when it has stopped: this long after its last byte the process goes on without it. */
const stalledMs = 1_000;
/** From here on one that keeps moving is waited for, too: it finds what it reads in memory, not on the disk. */
const nearBytes = memoryBytes / 2;
const movingMs = 50;
/** One that wants to be waited for is, however long, and from here on: nothing of that is dropped. */
const heldLagBytes = 1 * MiB;

const readAt = promisify(read);
const writeTo = promisify(writev);

/** How far a reader is, and whether the process waits for it also when it stops. */
interface Reader {
  at: number;
  movedAt: number;
  holds: boolean;
}

/** What was asked for is no longer kept: it lay between the oldest and the newest bytes. */
export class OutputGoneError extends Error {
  constructor(from: number) {
    super(`the output from byte ${from} on is no longer kept`);
  }
}

/** Bytes that were written together. */
interface Chunk {
  bytes: Buffer;
  /** Readers that have not said yet that they are done with it. */
  readers: number;
  onUnused: (() => void) | undefined;
}

/** What a reader is given. `release` tells that it is not needed any more; one that does not say so keeps it. */
export interface Piece {
  bytes: Buffer;
  release?: () => void;
}

/** What a spool needs of the directory. */
type Files = Pick<KeptDirectory, 'bytes' | 'isFull' | 'create' | 'open' | 'remove'>;

interface OpenSegment {
  segment: Segment;
  file: number;
}

/**
 * What a process wrote to one of its outputs, numbered from byte 0. One writer, any number of readers, each at its own
 * pace. A reader that is slow slows the process; one that has stopped does not, unless it `holds`, and loses what is no
 * longer kept.
 */
export class Spool {
  readonly #kept: Files;
  readonly #processId: string;
  readonly #output: OutputName;
  #total = 0;
  #ended = false;
  #complete = false;
  #closed = false;
  #waits = true;
  /** The newest chunks; together they start at byte `#memoryStart`. */
  #chunks: Chunk[] = [];
  #memoryStart = 0;
  #memoryHeld = 0;
  /** On the disk, in their order. There may be something missing between two of them. */
  readonly #segments: Segment[] = [];
  #writer: OpenSegment | undefined;
  /** The newest bytes, that are not on the disk yet. */
  #unstored: Buffer[] = [];
  #unstoredBytes = 0;
  /** Until what is not stored yet is. */
  #storing: Promise<void> | undefined;
  #appendedAt = Number.NEGATIVE_INFINITY;
  #fullUntil = 0;
  #readers = new Set<Reader>();
  #waiting = new Set<() => void>();

  constructor(kept: Files, processId: string, output: OutputName) {
    this.#kept = kept;
    this.#processId = processId;
    this.#output = output;
  }

  /** Takes over what an earlier sandbox-agent kept. @param total - what was written in all, as far as it is known */
  restore(segments: readonly Segment[], total: number): void {
    for (const segment of segments) {
      if (segment.start >= this.#total) {
        this.#segments.push(segment);
        this.#total = segment.start + segment.length;
      }
    }
    this.#total = Math.max(this.#total, total);
    this.#memoryStart = this.#total;
    this.complete();
  }

  get total(): number {
    return this.#total;
  }

  /** The parts that are no longer kept, as `[from, to)`. */
  get gaps(): [from: number, to: number][] {
    const gaps: [number, number][] = [];
    let at = 0;
    const keptFrom = (start: number) => {
      if (start > at) gaps.push([at, start]);
    };
    for (const { start, length } of this.#segments) {
      keptFrom(start);
      at = start + length;
    }
    if (at < this.#total) keptFrom(Math.max(at, this.#memoryStart));
    return gaps;
  }

  /**
   * Takes the next bytes; resolves when there is room for more. They must not change before `onUnused`, which may never be
   * called.
   */
  async append(chunk: Buffer, onUnused?: () => void): Promise<void> {
    this.#keep(chunk, onUnused);
    this.#memoryHeld += chunk.length;
    this.#total += chunk.length;
    this.#wake();
    this.#store(chunk);
    while (this.#unstoredBytes > unstoredBytes) await this.#changedWithin(movingMs);
    // What the disk has no room for must be read before it is forgotten.
    if (Date.now() < this.#fullUntil) await this.#waitForReaders(memoryBytes);
    // What was in the pipe when the command ended, and is not on the disk, is there for those who read.
    const isLast = !this.#waits && this.#readers.size > 0;
    this.#forget(isLast ? lastBytes : memoryBytes);
    await this.#waitForReaders(lagBytes);
  }

  /** Resolves when all of it is on the disk, or known not to be. */
  async stored(): Promise<void> {
    await this.#storing;
  }

  /** From now on no reader slows the writer. */
  stopWaiting(): void {
    this.#waits = false;
    this.#wake();
  }

  /**
   * Readers end when they have everything, but for those of the rest: what is appended still, by what the command left
   * behind, is kept as well.
   */
  end(): void {
    this.#ended = true;
    this.stopWaiting();
  }

  /** Nothing is appended any more. */
  complete(): void {
    this.#complete = true;
    this.end();
    if (!this.#storing) this.#closeWriter();
  }

  /** Nobody is expected to read now: what is on the disk need not be in memory. */
  rest(): void {
    const last = this.#segments.at(-1);
    const isStored = last && last.start + last.length === this.#total && last.start <= this.#memoryStart;
    this.#forget(isStored ? 0 : memoryBytes);
  }

  /** Frees what is kept. */
  close(): void {
    this.#closed = true;
    this.complete();
    this.#forget(0);
    if (!this.#storing) this.#dropAll();
  }

  /**
   * What was written from byte `from` on, then what follows, until the end.
   * @param options.holds - the process waits for this reader, however long it takes
   * @param options.rest - the end is when nothing more can come
   * @throws {OutputGoneError} a byte that is next for this reader is no longer kept
   */
  async *read(
    from: number,
    { holds, rest }: { holds: boolean; rest: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Piece, void, undefined> {
    const reader: Reader = { at: from, movedAt: Date.now(), holds };
    let open: OpenSegment | undefined;
    this.#readers.add(reader);
    try {
      for (;;) {
        signal.throwIfAborted();
        if (reader.at < this.#total) {
          let piece = this.#inMemory(reader.at);
          if (!piece) {
            open = this.#openAt(reader.at, open);
            piece = { bytes: await readSegment(open, reader.at) };
          }
          yield piece;
          reader.at += piece.bytes.length;
          reader.movedAt = Date.now();
          this.#wake();
        } else if (rest ? this.#complete : this.#ended) {
          return;
        } else {
          await this.#changed(signal);
        }
      }
    } finally {
      if (open) closeSync(open.file);
      this.#readers.delete(reader);
      this.#wake();
    }
  }

  /** A program that prints a character at a time, or a person who types, makes a chunk of each. */
  #keep(bytes: Buffer, onUnused: (() => void) | undefined): void {
    const last = this.#chunks.at(-1);
    if (last && last.bytes.length + bytes.length <= joinBytes) {
      this.#chunks.splice(-1, 1, { bytes: Buffer.concat([last.bytes, bytes]), readers: 0, onUnused: undefined });
    } else {
      this.#chunks.push({ bytes, readers: 0, onUnused });
    }
  }

  /**
   * Leaves at least `bytes` of the newest in memory, and what is not stored: a reader that looks for what is no longer in
   * memory must find it on the disk.
   */
  #forget(bytes: number): void {
    const least = Math.max(bytes, this.#unstoredBytes);
    for (
      let first = this.#chunks[0];
      first && this.#memoryHeld - first.bytes.length >= least;
      first = this.#chunks[0]
    ) {
      this.#chunks.shift();
      this.#memoryHeld -= first.bytes.length;
      this.#memoryStart += first.bytes.length;
      if (first.readers === 0) first.onUnused?.();
    }
  }

  /** @param most - bytes that a reader may be behind; one that holds the process up is waited for earlier */
  async #waitForReaders(most: number): Promise<void> {
    for (;;) {
      const now = Date.now();
      const isWaitedFor = ({ at, movedAt, holds }: Reader) => {
        const lag = this.#total - at;
        if (holds && lag > Math.min(most, heldLagBytes)) return true;
        return lag > nearBytes && now - movedAt < (lag > most ? stalledMs : movingMs);
      };
      if (!this.#waits || ![...this.#readers].some(isWaitedFor)) return;
      await this.#changedWithin(movingMs);
    }
  }

  #inMemory(at: number): Piece | undefined {
    if (at < this.#memoryStart) return undefined;
    let start = this.#memoryStart;
    for (const chunk of this.#chunks) {
      if (at < start + chunk.bytes.length) {
        chunk.readers++;
        return { bytes: chunk.bytes.subarray(at - start), release: () => this.#release(chunk) };
      }
      start += chunk.bytes.length;
    }
    return undefined;
  }

  #release(chunk: Chunk): void {
    chunk.readers--;
    if (chunk.readers === 0 && !this.#chunks.includes(chunk)) chunk.onUnused?.();
  }

  /** @param open - what the reader has open; of no more use when this returns another one */
  #openAt(at: number, open: OpenSegment | undefined): OpenSegment {
    // A file that was dropped meanwhile can be read as long as it is open.
    if (open && isIn(open.segment, at)) return open;
    const segment = this.#segments.find((one) => isIn(one, at));
    if (!segment) throw new OutputGoneError(at);
    const file = this.#kept.open(this.#processId, this.#output, segment.start);
    if (open) closeSync(open.file);
    return { segment, file };
  }

  #store(chunk: Buffer): void {
    if (this.#closed || Date.now() < this.#fullUntil) return;
    const now = performance.now();
    const follows = now - this.#appendedAt < followMs;
    this.#appendedAt = now;
    this.#unstored.push(chunk);
    this.#unstoredBytes += chunk.length;
    if (this.#storing) return;
    if (chunk.length <= atOnceBytes && !follows) this.#storeAtOnce();
    else this.#storing = this.#storeAll();
  }

  #storeAtOnce(): void {
    try {
      while (this.#unstoredBytes > 0) {
        const { file, pieces } = this.#nextToStore();
        this.#haveStored(writevSync(file, pieces));
      }
    } catch {
      this.#giveUpStoring();
    }
    if (this.#complete) this.#closeWriter();
  }

  /** What comes meanwhile is written as well. */
  async #storeAll(): Promise<void> {
    try {
      while (this.#unstoredBytes > 0 && !this.#closed) {
        const { file, pieces } = this.#nextToStore();
        this.#haveStored((await writeTo(file, pieces)).bytesWritten);
        this.#wake();
      }
    } catch {
      this.#giveUpStoring();
    }
    this.#storing = undefined;
    if (this.#complete) this.#closeWriter();
    if (this.#closed) this.#dropAll();
    this.#wake();
  }

  /** As much of it as has room in one file. */
  #nextToStore(): { file: number; pieces: Buffer[] } {
    const { file, segment } = this.#writerAt(this.#total - this.#unstoredBytes);
    const pieces: Buffer[] = [];
    let room = segmentBytes - segment.length;
    for (const chunk of this.#unstored) {
      if (room === 0) break;
      const piece = chunk.subarray(0, room);
      pieces.push(piece);
      room -= piece.length;
    }
    return { file, pieces };
  }

  #haveStored(bytes: number): void {
    if (this.#writer) this.#writer.segment.length += bytes;
    this.#kept.bytes += bytes;
    this.#unstoredBytes -= bytes;
    let rest = bytes;
    let done = 0;
    for (const chunk of this.#unstored) {
      if (chunk.length > rest) break;
      rest -= chunk.length;
      done += 1;
    }
    this.#unstored.splice(0, done);
    const [first] = this.#unstored;
    if (first && rest > 0) this.#unstored[0] = first.subarray(rest);
  }

  /** The disk is full, say: the newest bytes are in memory, and what comes later is tried again. */
  #giveUpStoring(): void {
    this.#closeWriter();
    this.#unstored = [];
    this.#unstoredBytes = 0;
    this.#fullUntil = Date.now() + retryMs;
  }

  #writerAt(at: number): OpenSegment {
    const open = this.#writer;
    if (open && open.segment.start + open.segment.length === at && open.segment.length < segmentBytes) return open;
    this.#closeWriter();
    this.#trim();
    const segment = { start: at, length: 0 };
    this.#writer = { segment, file: this.#kept.create(this.#processId, this.#output, at) };
    this.#segments.push(segment);
    return this.#writer;
  }

  /** Makes room for a new file. */
  #trim(): void {
    const most = this.#kept.isFull ? leastSegments : keptSegments;
    while (this.#segments.length >= most) {
      for (const segment of this.#segments.splice(Math.floor(most / 2), 1)) this.#drop(segment);
    }
  }

  #dropAll(): void {
    for (const segment of this.#segments.splice(0)) this.#drop(segment);
  }

  #drop(segment: Segment): void {
    this.#kept.remove(this.#processId, this.#output, segment);
  }

  #closeWriter(): void {
    if (this.#writer) closeSync(this.#writer.file);
    this.#writer = undefined;
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

  #changedWithin(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waiting.add(wake);
    });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

function isIn({ start, length }: Segment, at: number): boolean {
  return at >= start && at < start + length;
}

async function readSegment({ segment, file }: OpenSegment, at: number): Promise<Buffer> {
  const position = at - segment.start;
  const length = Math.min(readBytes, segment.length - position);
  const { bytesRead, buffer } = await readAt(file, Buffer.allocUnsafe(length), 0, length, position);
  // It is shorter than what was written to it.
  if (bytesRead === 0) throw new OutputGoneError(at);
  return buffer.subarray(0, bytesRead);
}
