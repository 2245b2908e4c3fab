import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Readable } from 'node:stream';
import { setPipeSize } from '../kernel.ts';

/** Of a pipe, as the kernel makes it. */
const usualBytes = 64 * 1024;
/** Of a pipe that was found full: each piece costs the same, whatever is in it. */
const largeBytes = 256 * 1024;

/**
 * All pipes are read into this one: what has come is copied from it before the next is read. It has more room than a pipe,
 * as libuv, when it is full, reads at once what little has come since.
 */
const buffer = Buffer.allocUnsafeSlow(2 * largeBytes);

/** Reads a pipe to its end; `fd` belongs to it from now on. What comes has memory of its own, no more than it takes. */
export function pipeReader(fd: number): Readable {
  let isLarge = false;
  // Its type has not all that it takes.
  const options: SocketConstructorOpts & { onread: OnReadOpts } = {
    fd,
    readable: true,
    writable: false,
    onread: {
      buffer,
      callback: (length) => {
        if (length >= usualBytes && !isLarge) {
          isLarge = true;
          setPipeSize(fd, largeBytes);
        }
        return output.push(Buffer.from(buffer.subarray(0, length)));
      },
    },
  };
  const socket = new Socket(options);
  const output = new Readable({
    read: () => void socket.resume(),
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on('error', (error) => output.destroy(error));
  socket.on('end', () => output.push(null));
  return output;
}
