import { constants, promises as fs } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { FsRm } from '../../src/protocol/fs.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { calls } from './calls.ts';
import { openDirectory } from './directory.ts';
import { partName } from './part.ts';
import { child, codeOf, hasCode, type Path, split } from './path.ts';

// Each level holds a directory open while what is below it is removed. What is deeper is moved up to the first level.
const maxDepth = 100;
// A directory into which others write while it is removed is read again so often.
const maxScans = 10;

export async function rm({ path, recursive, force }: FsRm, signal: AbortSignal): Promise<void> {
  const { parent, name } = split(path);
  if (name === '' || name === '.' || name === '..')
    throw new RequestError('EINVAL', `EINVAL: ${path} can't be removed`);
  const entry = child(parent, name);
  try {
    const stats = await fs.lstat(entry);
    if (!stats.isDirectory()) return await fs.unlink(entry);
    if (!recursive) throw new RequestError('EISDIR', `EISDIR: ${path} is a directory`);
    const root = await fs.stat('/');
    if (stats.dev === root.dev && stats.ino === root.ino) throw new RequestError('EBUSY', 'EBUSY: that is the root');
  } catch (error) {
    if (force && hasCode(error, 'ENOENT', 'ENOTDIR')) return;
    throw error;
  }
  try {
    await new Removal(new Pace(signal)).directory(parent, name, 0);
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    // The kernel's text names open directories, which tell nobody anything.
    const reason = error instanceof RequestError ? error.message : code;
    throw new RequestError(code, `${path} was not removed, or only in part: ${reason}`);
  }
}

/**
 * Removes directories with what is in them. The paths go through the open directories (`/proc/self/fd/…`), so that a name
 * which becomes a link meanwhile leads nowhere.
 */
class Removal {
  readonly #pace: Pace;
  /** A way to the directory that is removed, while it is open. */
  #top = '';
  #moved = 0;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  async directory(parent: Path, name: Path, depth: number): Promise<void> {
    const path = child(parent, name);
    const directory = await openNoFollow(path);
    if (directory) {
      try {
        const inside = `/proc/self/fd/${directory.fd}`;
        if (depth === 0) this.#top = inside;
        for (let scans = 0; scans < maxScans; ) {
          const moved = this.#moved;
          if (!(await this.#entries(inside, depth))) break;
          // What was moved up is not what others write.
          scans = this.#moved === moved ? scans + 1 : 0;
        }
      } finally {
        await directory.close();
      }
    }
    await ignoring('ENOENT', () => (directory ? fs.rmdir(path) : calls.unlink(path)));
  }

  /** @returns whether there was anything */
  async #entries(inside: string, depth: number): Promise<boolean> {
    let found = false;
    for await (const entry of await openDirectory(inside)) {
      found = true;
      if (!entry.isDirectory()) await ignoring('ENOENT', () => calls.unlink(child(inside, entry.name)));
      else if (depth < maxDepth) await this.directory(inside, entry.name, depth + 1);
      else await this.#moveUp(child(inside, entry.name));
      await this.#pace.turn();
    }
    return found;
  }

  async #moveUp(path: Path): Promise<void> {
    this.#moved += 1;
    await ignoring('ENOENT', () => calls.rename(path, `${this.#top}/${partName()}`));
  }
}

/** @returns `undefined` when it is no directory any more */
async function openNoFollow(path: Path): Promise<FileHandle | undefined> {
  try {
    return await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}

/** Something else removed it first: just as well. */
async function ignoring(code: string, operation: () => Promise<void> | void): Promise<void> {
  try {
    await operation();
  } catch (error) {
    if (!hasCode(error, code)) throw error;
  }
}
