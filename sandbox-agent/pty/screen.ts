import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import type { TerminalSize } from '../../src/protocol/values.ts';
import type { Restored } from './emulator.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

type Operation =
  | { type: 'open' | 'resize'; size: TerminalSize }
  | { type: 'write'; bytes: Uint8Array }
  | { type: 'restore'; maxBytes: number }
  | { type: 'close' };

/** What is done on one screen, in this order. */
export interface Batch {
  screen: number;
  operations: Operation[];
}

export interface Done {
  screen: number;
  restored: (Restored | undefined)[];
}

/** What may wait for the emulator; the program on the terminal then waits, too. */
const waitingBytes = 256 * KiB;
/** When the program has ended: more than it can have left on its terminal. */
const lastWaitingBytes = 4 * MiB;
const batchBytes = 64 * KiB;
/** Of a screen that is restored. One with more is none that a program draws for people. */
const screenBytes = 4 * MiB;
/** Of the last one, which is kept as long as the output is. */
const lastScreenBytes = 64 * KiB;

/**
 * The screen of one terminal, kept up to date in a thread of its own: what it costs to follow a terminal that prints for
 * ever is no cost of other commands, and output that takes all the memory or time which the thread has ends only that.
 */
export class Screen {
  readonly #thread: ScreenThread | undefined;
  readonly #id: number;
  #operations: Operation[] = [];
  #waiting = 0;
  #mostWaiting = waitingBytes;
  #isBusy = false;
  #isLost = false;
  #roomFor: (() => void)[] = [];
  #restoring: ((restored: Restored | undefined) => void)[] = [];
  #last: Promise<Restored | undefined> | undefined;

  constructor(size: TerminalSize) {
    this.#thread = ScreenThread.current();
    this.#id = this.#thread?.add(this) ?? 0;
    this.#isLost = this.#thread === undefined;
    this.#push({ type: 'open', size });
  }

  /** Resolves when there is room for more. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#waiting += bytes.length;
    this.#push({ type: 'write', bytes });
    if (!this.#isLost && this.#waiting > this.#mostWaiting)
      await new Promise<void>((resolve) => this.#roomFor.push(resolve));
  }

  /** What is left is to be taken at once: the end of the program must not wait for the emulator. */
  stopWaiting(): void {
    this.#mostWaiting = lastWaitingBytes;
    for (const resolve of this.#roomFor.splice(0)) resolve();
  }

  resize(size: TerminalSize): void {
    this.#push({ type: 'resize', size });
  }

  /** Once all that was written is on it. `undefined`: the output was too much for the emulator. */
  restore(): Promise<Restored | undefined> {
    return this.#last ?? this.#restore(screenBytes);
  }

  /** Nothing is written any more. The last screen is kept. */
  end(): void {
    this.#last = this.#restore(lastScreenBytes);
    this.#push({ type: 'close' });
  }

  /** @internal of the thread */
  done(restored: readonly (Restored | undefined)[]): void {
    this.#isBusy = false;
    for (const one of restored) this.#restoring.shift()?.(one);
    if (this.#last && this.#operations.length === 0) this.#thread?.remove(this.#id);
    this.#send();
  }

  /** @internal the thread is gone */
  lose(): void {
    this.#isLost = true;
    this.#operations = [];
    for (const resolve of this.#restoring.splice(0)) resolve(undefined);
    for (const resolve of this.#roomFor.splice(0)) resolve();
  }

  #restore(maxBytes: number): Promise<Restored | undefined> {
    if (this.#isLost) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#restoring.push(resolve);
      this.#push({ type: 'restore', maxBytes });
    });
  }

  #push(operation: Operation): void {
    if (this.#isLost) return;
    this.#operations.push(operation);
    this.#send();
  }

  #send(): void {
    if (this.#isBusy || this.#operations.length === 0) return;
    this.#isBusy = true;
    const operations: Operation[] = [];
    let bytes = 0;
    while (bytes < batchBytes) {
      const written = this.#takeWritten(batchBytes - bytes);
      const operation = written ?? this.#operations.shift();
      if (!operation) break;
      bytes += written?.bytes.length ?? 0;
      operations.push(operation);
    }
    this.#waiting -= bytes;
    if (this.#waiting <= this.#mostWaiting) for (const resolve of this.#roomFor.splice(0)) resolve();
    this.#thread?.send({ screen: this.#id, operations });
  }

  /** What is written next, in one piece that is its own memory. */
  #takeWritten(maxBytes: number): Extract<Operation, { type: 'write' }> | undefined {
    const pieces: Uint8Array[] = [];
    let room = maxBytes;
    for (let next = this.#operations[0]; next?.type === 'write' && room > 0; next = this.#operations[0]) {
      const piece = next.bytes.subarray(0, room);
      pieces.push(piece);
      room -= piece.length;
      if (piece.length < next.bytes.length) next.bytes = next.bytes.subarray(piece.length);
      else this.#operations.shift();
    }
    return pieces.length > 0 ? { type: 'write', bytes: joined(pieces, maxBytes - room) } : undefined;
  }
}

function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A screen has a few MiB. What makes it more is made to. */
const resourceLimits = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8, stackSizeMb: 1 };
/** Ticks without an answer to a batch, after which the thread is ended: a time would also pass while all is paused. */
const patienceTicks = 10;
const tickMs = 1_000;
/** After its last screen the thread stays for the next. */
const idleMs = 5_000;

/** The thread of all screens. It is started for the first, and again when it has ended. */
class ScreenThread {
  static #current: ScreenThread | undefined;
  readonly #worker: Worker;
  readonly #screens = new Map<number, Screen>();
  readonly #ticks: NodeJS.Timeout;
  #lastId = 0;
  #sent = 0;
  #stillTicks = 0;
  #idle: NodeJS.Timeout | undefined;

  /** `undefined`: the sandbox has no room for another thread. */
  static current(): ScreenThread | undefined {
    try {
      ScreenThread.#current ??= new ScreenThread();
    } catch (error) {
      console.error('A terminal has no screen to restore:', error);
    }
    return ScreenThread.#current;
  }

  private constructor() {
    const { Worker } = process.getBuiltinModule('node:worker_threads');
    this.#worker = new Worker(join(__dirname, 'screen.cjs'), { resourceLimits, env: {} });
    this.#worker.unref();
    this.#worker.on('message', ({ screen, restored }: Done) => {
      this.#sent--;
      this.#stillTicks = 0;
      this.#screens.get(screen)?.done(restored);
    });
    this.#worker.on('error', (error) => console.error('The screens of all terminals are lost:', error));
    this.#worker.on('exit', () => this.#end());
    this.#ticks = setInterval(() => this.#tick(), tickMs).unref();
  }

  add(screen: Screen): number {
    clearTimeout(this.#idle);
    this.#screens.set(++this.#lastId, screen);
    return this.#lastId;
  }

  remove(id: number): void {
    this.#screens.delete(id);
    if (this.#screens.size > 0) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.#worker.terminate(), idleMs).unref();
  }

  send(batch: Batch): void {
    this.#sent++;
    const own = batch.operations.flatMap((one) => (one.type === 'write' ? [one.bytes.buffer as ArrayBuffer] : [])); // `joined` made it
    this.#worker.postMessage(batch, own);
  }

  #tick(): void {
    this.#stillTicks = this.#sent > 0 ? this.#stillTicks + 1 : 0;
    if (this.#stillTicks >= patienceTicks) void this.#worker.terminate();
  }

  #end(): void {
    clearInterval(this.#ticks);
    if (ScreenThread.#current === this) ScreenThread.#current = undefined;
    for (const screen of this.#screens.values()) screen.lose();
    this.#screens.clear();
  }
}
