import type { IgnoreRules } from '../../src/protocol/ignore-rules.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import type { Pace } from '../../src/protocol/pace.ts';
import { type Directory, type DirectoryEntry, openDirectory } from './directory.ts';
import { ignoreRulesIn } from './ignore.ts';
import { child, codeOf, hasCode, type Path } from './path.ts';

export interface WalkedFile {
  /** Relative to where the walk began. */
  path: string;
  /** What the kernel knows it by. */
  location: Buffer;
  isLink: boolean;
}

interface Level {
  directory: Directory;
  location: Path;
  /** Relative, with a slash at the end; empty for the first level. */
  prefix: string;
  rules: IgnoreRules | undefined;
}

/**
 * The files and links below a directory (its path without links), without `.git` and what `rules` leave out, in the order of the directories.
 * Links are not followed. One directory is open for each level and nothing else is kept, so that any size will do. A
 * directory that may not be read, or that is gone, is left out.
 */
export async function* walk(root: string, pace: Pace, rules?: IgnoreRules): AsyncGenerator<WalkedFile> {
  const levels: Level[] = [await openLevel(root, root, '', rules)];
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const entry = await readEntry(level);
      await pace.turn();
      if (entry === null) {
        levels.pop();
        await level.directory.close();
        continue;
      }
      const path = level.prefix + nameOfBytes(entry.name);
      const absolute = root === '/' ? `/${path}` : `${root}/${path}`;
      if (isLeftOut(entry) || level.rules?.ignores(absolute, entry.isDirectory())) continue;
      const location = child(level.location, entry.name);
      if (entry.isFile() || entry.isSymbolicLink()) yield { path, location, isLink: entry.isSymbolicLink() };
      if (!entry.isDirectory()) continue;
      try {
        levels.push(await openLevel(location, absolute, `${path}/`, level.rules));
      } catch (error) {
        if (isOurs(error)) throw error;
      }
    }
  } finally {
    for (const { directory } of levels) await directory.close();
  }
}

async function readEntry({ directory, prefix }: Level): Promise<DirectoryEntry | null> {
  try {
    return await directory.read();
  } catch (error) {
    // Some directories of /proc can be opened and not read.
    if (prefix === '' || isOurs(error)) throw error;
    return null;
  }
}

/** A failure of ours, and not one of the directory. */
function isOurs(error: unknown): boolean {
  return codeOf(error) === undefined || hasCode(error, 'EMFILE', 'ENFILE', 'ENOMEM');
}

async function openLevel(location: Path, absolute: string, prefix: string, rules?: IgnoreRules): Promise<Level> {
  const directory = await openDirectory(location);
  try {
    return { directory, location, prefix, rules: rules && (await ignoreRulesIn(rules, location, absolute)) };
  } catch (error) {
    await directory.close();
    throw error;
  }
}

function isLeftOut({ name }: DirectoryEntry): boolean {
  return name.toString() === '.git';
}
