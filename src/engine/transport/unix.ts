import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type ConnectOpts, createConnection, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { WireProtocolError } from '../../protocol/errors.ts';

/** sun_path of Linux has 108 bytes, the last of them a NUL. */
const maxSocketPathBytes = 107;

/** Calls `use` with a path of the same socket that is short enough for the kernel. */
export async function withSocketPath<T>(path: string, use: (path: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= maxSocketPathBytes || process.platform !== 'linux') return use(path);
  const directory = await open(dirname(path), constants.O_DIRECTORY);
  try {
    return await use(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    closeLater(directory);
  }
}

/** Connects once. */
export function connectUnix(path: string, options: Pick<ConnectOpts, 'onread'> = {}): Promise<Socket> {
  return withSocketPath(
    path,
    (shortPath) =>
      new Promise((resolve, reject) => {
        const socket = createConnection({ path: shortPath, ...options });
        socket.once('error', reject);
        socket.once('connect', () => {
          socket.off('error', reject);
          resolve(socket);
        });
      }),
  );
}

/** All sockets are read into this one: see `connectAgent`. */
const buffer = Buffer.allocUnsafeSlow(256 * 1024);

/** Of Linux; Node has no name for it. */
const oPath = 0o10_000_000;

/**
 * Connects once to the socket of a sandbox-agent. What stands at its path is the sandbox's to choose: a link is not followed,
 * as it could lead to any socket of this machine, and what is looked at is what is connected to.
 *
 * For one reader that takes what comes at once: each 'data' is a view of memory that the next one overwrites. It does not
 * pause.
 * @throws {WireProtocolError} something else than a socket is there
 */
export async function connectAgent(path: string): Promise<Socket> {
  const file = await open(path, oPath | constants.O_NOFOLLOW);
  try {
    if (!(await file.stat()).isSocket()) throw new WireProtocolError('what is at the place of its socket is none');
    const callback = (length: number) => socket.emit('data', buffer.subarray(0, length));
    const socket = await connectUnix(`/proc/self/fd/${file.fd}`, { onread: { buffer, callback } });
    return socket;
  } finally {
    closeLater(file);
  }
}

/**
 * Whoever waited for the end of this would have no listener on a socket meanwhile: an error of that, as when the
 * sandbox-agent ends at this moment, would be nobody's, and end the process.
 */
function closeLater(file: FileHandle): void {
  file.close().catch(() => {}); // it was opened for its path only: there is nothing to lose
}
