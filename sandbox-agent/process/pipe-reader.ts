import { closeSync, readSync } from 'node:fs';
import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Readable } from 'node:stream';
import { setPipeSize } from '../kernel.ts';

/** Of a pipe, as the kernel makes it. */
const usualBytes = 64 * 1024;
/** Of a pipe that was found full: each piece costs the same, whatever is in it. */
const largeBytes = 1024 * 1024;
/** Pipes that are large at once (a number): what is in them is memory of the sandbox. */
const mostLarge = 8;
/** Between two reads of a large pipe, in ms: it would be read as often as a little has come. */
const pace = 1;

/**
 * More room than a pipe has: libuv, when a read fills all, reads at once what little has come since.
 * All usual pipes are read into this one: what has come is copied from it before the next is read.
 */
const shared = Buffer.allocUnsafeSlow(2 * usualBytes);
let large = 0;

/** Large buffers that one reader has for the next reads (a number): most that it has given away come back at once. */
const mostSpare = 4;

/** Reads of one pipe that are done at once (a number): one that is written to without end must not keep all others waiting. */
const mostAtOnce = 16;

/**
 * What is in a pipe that nobody is expected to write to any more, and whether it is all that will ever come: then `fd`, which
 * does not block, is closed.
 */
export function readRest(fd: number): { pieces: Buffer[]; isAll: boolean } {
  const pieces: Buffer[] = [];
  try {
    while (pieces.length < mostAtOnce) {
      const length = readSync(fd, shared);
      if (length === 0) {
        closeSync(fd);
        return { pieces, isAll: true };
      }
      pieces.push(Buffer.from(shared.subarray(0, length)));
    }
  } catch {
    // EAGAIN: something that the command has left behind may write to it still.
  }
  return { pieces, isAll: false };
}

/** Reads a pipe to its end. What comes has memory of its own, at most twice what it takes. */
export class PipeReader extends Readable {
  readonly #fd: number;
  readonly #socket: Socket;
  #buffer = shared;
  #spare: Buffer<ArrayBuffer>[] = [];
  #readAt = 0;
  #waiting: NodeJS.Timeout | undefined;

  /** `fd` belongs to it from now on. */
  constructor(fd: number) {
    super();
    this.#fd = fd;
    // Its type has not all that it takes.
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      fd,
      readable: true,
      writable: false,
      onread: {
        buffer: () => this.#buffer,
        callback: (length) => {
          const isAnother = this.push(this.#take(length));
          if (this.#buffer === shared) return isAnother;
          this.#readAt = performance.now();
          return false;
        },
      },
    };
    this.#socket = new Socket(options);
    this.#socket.on('error', (error) => this.destroy(error));
    this.#socket.on('end', () => this.push(null));
  }

  override _read(): void {
    const wait = this.#buffer === shared ? 0 : this.#readAt + pace - performance.now();
    if (wait <= 0) this.#socket.resume();
    else this.#waiting ??= setTimeout(this.#resumeLater, wait);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#waiting);
    if (this.#buffer !== shared) large -= 1;
    this.#spare = [];
    this.#socket.destroy();
    done(error);
  }

  /** What was read is not used any more: its memory is read into again, in place of work for the collector. */
  recycle(read: Buffer): void {
    const { buffer } = read;
    const isLarge = buffer instanceof ArrayBuffer && buffer.byteLength === largeBytes + usualBytes;
    if (isLarge && this.#spare.length < mostSpare && !this.destroyed) this.#spare.push(Buffer.from(buffer));
  }

  readonly #resumeLater = (): void => {
    this.#waiting = undefined;
    this.#socket.resume();
  };

  /** What was read, as memory that is not read into again before it is recycled. */
  #take(length: number): Buffer {
    const read = this.#buffer.subarray(0, length);
    if (this.#buffer === shared) {
      const copy = Buffer.from(read);
      if (length >= usualBytes && large < mostLarge && setPipeSize(this.#fd, largeBytes)) {
        large += 1;
        this.#buffer = this.#largeBuffer();
      }
      return copy;
    }
    if (length < this.#buffer.length / 2) return Buffer.from(read);
    this.#buffer = this.#largeBuffer();
    return read;
  }

  #largeBuffer(): Buffer<ArrayBuffer> {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(largeBytes + usualBytes);
  }
}
