import { constants, type Stats } from 'node:fs';
import { RequestError } from '../errors.ts';
import { calls } from './calls.ts';
import { kernelPath, type Path } from './path.ts';

/**
 * Opens a file and makes sure that it is one: a FIFO or a terminal would hold a thread for ever, a device may have no
 * end. Files of /proc are files, of size 0.
 * @throws {RequestError} `EISDIR` or `ENOTSUP`
 */
export async function openRegularFile(path: Path, flags: number, mode?: number): Promise<[file: number, Stats]> {
  const file = await calls.open(kernelPath(path), flags | constants.O_NONBLOCK | constants.O_NOCTTY, mode);
  try {
    const stats = await calls.fstat(file);
    if (stats.isDirectory()) throw new RequestError('EISDIR', `EISDIR: ${path} is a directory`);
    if (!stats.isFile()) throw new RequestError('ENOTSUP', `ENOTSUP: ${path} is not a regular file`);
    return [file, stats];
  } catch (error) {
    await calls.close(file);
    throw error;
  }
}
