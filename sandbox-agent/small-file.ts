import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { randomHex } from './random.ts';

const maxFileBytes = 16 * 1024 * 1024;

/** A command that is root may have put anything there: a FIFO would hold the sandbox-agent for ever. */
export function readSmallFile(path: string): string {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(file);
    if (!stats.isFile() || stats.size > maxFileBytes) throw new Error(`${path} is no file, or too large a one`);
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}

/** As root, whose the file is then: whole or not at all. No link in the last two parts of the path is followed: a command that is root may have put one there. */
export function replaceSmallFile(path: string, content: string | Uint8Array): void {
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  const within = `/proc/self/fd/${directory}`;
  const part = `${within}/.berth-${randomHex(8)}`;
  try {
    writeFileSync(part, content, { mode: 0o644, flag: 'wx' });
    chownSync(part, 0, 0);
    renameSync(part, `${within}/${basename(path)}`);
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  } finally {
    closeSync(directory);
  }
}
