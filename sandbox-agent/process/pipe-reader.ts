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

/** Reads a pipe to its end; `fd` belongs to it from now on. What comes has memory of its own, at most twice what it takes. */
export function pipeReader(fd: number): Readable {
  let buffer = shared;
  let readAt = 0;
  let waiting: NodeJS.Timeout | undefined;

  // Its type has not all that it takes.
  const options: SocketConstructorOpts & { onread: OnReadOpts } = {
    fd,
    readable: true,
    writable: false,
    onread: {
      buffer: () => buffer,
      callback: (length) => {
        const isAnother = output.push(take(length));
        if (buffer === shared) return isAnother;
        readAt = performance.now();
        return false;
      },
    },
  };
  const socket = new Socket(options);
  const output = new Readable({
    read: () => {
      const wait = buffer === shared ? 0 : readAt + pace - performance.now();
      if (wait <= 0) socket.resume();
      else waiting ??= setTimeout(resumeLater, wait);
    },
    destroy: (error, done) => {
      clearTimeout(waiting);
      if (buffer !== shared) large -= 1;
      socket.destroy();
      done(error);
    },
  });
  socket.on('error', (error) => output.destroy(error));
  socket.on('end', () => output.push(null));
  return output;

  function resumeLater(): void {
    waiting = undefined;
    socket.resume();
  }

  /** What was read, as memory that is not read into again. */
  function take(length: number): Buffer {
    const read = buffer.subarray(0, length);
    if (buffer === shared) {
      const copy = Buffer.from(read);
      if (length >= usualBytes && large < mostLarge && setPipeSize(fd, largeBytes)) {
        large += 1;
        buffer = largeBuffer();
      }
      return copy;
    }
    if (length < buffer.length / 2) return Buffer.from(read);
    buffer = largeBuffer();
    return read;
  }
}

function largeBuffer(): Buffer<ArrayBuffer> {
  return Buffer.allocUnsafeSlow(largeBytes + usualBytes);
}
