import { constants } from 'node:fs';
import { type FileHandle, lstat, open, rmdir, stat, unlink } from 'node:fs/promises';
import type { FsRm } from '../../src/protocol/fs.ts';
import { RequestError } from '../errors.ts';
import { openDirectory } from './directory.ts';
import { Pace } from './pace.ts';
import { child, codeOf, hasCode, type Path, split } from './path.ts';

// Each level holds a directory open while what is below it is removed.
const maxDepth = 500;
// A directory into which others write while it is removed is read again so often.
const maxScans = 10;

export async function rm({ path, recursive, force }: FsRm, signal: AbortSignal): Promise<void> {
  const { parent, name } = split(path);
  if (name === '' || name === '.' || name === '..')
    throw new RequestError('EINVAL', `EINVAL: ${path} can't be removed`);
  const entry = child(parent, name);
  try {
    const stats = await lstat(entry);
    if (!stats.isDirectory()) return await unlink(entry);
    if (!recursive) throw new RequestError('EISDIR', `EISDIR: ${path} is a directory`);
    const root = await stat('/');
    if (stats.dev === root.dev && stats.ino === root.ino) throw new RequestError('EBUSY', 'EBUSY: that is the root');
  } catch (error) {
    if (force && hasCode(error, 'ENOENT', 'ENOTDIR')) return;
    throw error;
  }
  try {
    await removeDirectory(parent, name, 0, new Pace(signal));
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    // The kernel's text names open directories, which tell nobody anything.
    const reason = error instanceof RequestError ? error.message : code;
    throw new RequestError(code, `${path} was not removed, or only in part: ${reason}`);
  }
}

/**
 * Removes the directory `name` of `parent` and what is in it. The paths go through the open directories
 * (`/proc/self/fd/…`), so that a name which becomes a link meanwhile leads nowhere.
 */
async function removeDirectory(parent: Path, name: Path, depth: number, pace: Pace): Promise<void> {
  if (depth > maxDepth) throw new RequestError('ENAMETOOLONG', `it is more than ${maxDepth} directories deep`);
  const path = child(parent, name);
  const directory = await openNoFollow(path);
  if (directory) {
    try {
      const inside = `/proc/self/fd/${directory.fd}`;
      for (let scans = 0; scans < maxScans && (await removeEntries(inside, depth, pace)); scans += 1);
    } finally {
      await directory.close();
    }
  }
  await ignoring('ENOENT', directory ? rmdir(path) : unlink(path));
}

/** @returns whether there was anything */
async function removeEntries(inside: string, depth: number, pace: Pace): Promise<boolean> {
  let found = false;
  for await (const entry of await openDirectory(inside)) {
    found = true;
    if (entry.isDirectory()) await removeDirectory(inside, entry.name, depth + 1, pace);
    else await ignoring('ENOENT', unlink(child(inside, entry.name)));
    await pace.turn();
  }
  return found;
}

/** @returns `undefined` when it is no directory any more */
async function openNoFollow(path: Path): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}

/** Something else removed it first: just as well. */
async function ignoring(code: string, operation: Promise<void>): Promise<void> {
  try {
    await operation;
  } catch (error) {
    if (!hasCode(error, code)) throw error;
  }
}
