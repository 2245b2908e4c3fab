import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { RequestError } from '../errors.ts';
import { kernelPath, type Path } from './path.ts';

/**
 * Opens a file and makes sure that it is one: a FIFO or a terminal would hold a thread for ever, a device may have no
 * end. Files of /proc are files, of size 0.
 * @throws {RequestError} `EISDIR` or `ENOTSUP`
 */
export async function openRegularFile(path: Path, flags: number, mode?: number): Promise<[FileHandle, Stats]> {
  const file = await open(kernelPath(path), flags | constants.O_NONBLOCK | constants.O_NOCTTY, mode);
  try {
    const stats = await file.stat();
    if (stats.isDirectory()) throw new RequestError('EISDIR', `EISDIR: ${path} is a directory`);
    if (!stats.isFile()) throw new RequestError('ENOTSUP', `ENOTSUP: ${path} is not a regular file`);
    return [file, stats];
  } catch (error) {
    await file.close();
    throw error;
  }
}
