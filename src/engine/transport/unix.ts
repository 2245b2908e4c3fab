import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { type ConnectOpts, createConnection, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

/** sun_path of Linux has 108 bytes, the last of them a NUL. */
const maxSocketPathBytes = 107;

/** Calls `use` with a path of the same socket that is short enough for the kernel. */
export async function withSocketPath<T>(path: string, use: (path: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= maxSocketPathBytes || process.platform !== 'linux') return use(path);
  const directory = await open(dirname(path), constants.O_DIRECTORY);
  try {
    return await use(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    await directory.close();
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

/** All sockets are read into this one: see `connectTransient`. */
const buffer = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * As `connectUnix`, for one reader that takes what comes at once: each 'data' is a view of memory that the next one
 * overwrites. It does not pause.
 */
export async function connectTransient(path: string): Promise<Socket> {
  const callback = (length: number) => socket.emit('data', buffer.subarray(0, length));
  const socket = await connectUnix(path, { onread: { buffer, callback } });
  return socket;
}
