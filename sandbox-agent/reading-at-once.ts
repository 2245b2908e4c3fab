import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';

/** All sockets are read into this one. */
const buffer = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * The socket of a server, for one reader that takes what comes at once: each 'data' is a view of memory that the next one
 * overwrites. Node would make memory of 64 KiB for each, all of it work for the collector, and has `onread` for sockets of
 * clients only: so one of those takes the handle over. That is no part of Node's API; but the Node is the one that we bring.
 *
 * @param accepted - is paused, and has no more to do from now on
 */
export function readingAtOnce(accepted: Socket): Socket {
  const holder = accepted as unknown as { _handle: object | null };
  const handle = holder._handle;
  if (!handle) return accepted; // it has ended
  holder._handle = null;
  const callback = (length: number) => socket.emit('data', buffer.subarray(0, length));
  const options: SocketConstructorOpts & { handle: object; onread: OnReadOpts } = {
    handle,
    onread: { buffer, callback },
  };
  const socket: Socket = new Socket(options);
  return socket;
}
