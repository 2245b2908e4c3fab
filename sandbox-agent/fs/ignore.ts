import { constants, promises as fs } from 'node:fs';
import { dirname } from 'node:path/posix';
import { IgnoreRules } from '../../src/protocol/ignore-rules.ts';
import { calls } from './calls.ts';
import { child, hasCode, type Path } from './path.ts';
import { openRegularFile } from './regular-file.ts';

// What is read of all the `.gitignore` files that count at one place: each of their lines is tried for each file.
const maxBytes = 64 * 1024;

/** Those above `directory`; outside of a repository there are none. */
export async function ignoreRulesAbove(directory: string): Promise<IgnoreRules> {
  const parents: string[] = [];
  for (let at = directory; !(await hasRepository(at)); at = dirname(at)) {
    if (at === '/') return IgnoreRules.none;
    parents.unshift(dirname(at));
  }
  let rules = IgnoreRules.none;
  for (const parent of parents) rules = await ignoreRulesIn(rules, parent, parent);
  return rules;
}

/** `rules`, and those of `directory`, which the files in it are named after as `name`. */
export async function ignoreRulesIn(rules: IgnoreRules, directory: Path, name: string): Promise<IgnoreRules> {
  const text = await readStart(child(directory, '.gitignore'), maxBytes - rules.bytes);
  return text === undefined ? rules : rules.with(text, name);
}

async function hasRepository(directory: string): Promise<boolean> {
  try {
    await fs.lstat(child(directory, '.git'));
    return true;
  } catch {
    return false;
  }
}

async function readStart(path: Path, bytes: number): Promise<string | undefined> {
  try {
    const [file] = await openRegularFile(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const buffer = Buffer.alloc(bytes);
      const bytesRead = await calls.read(file, buffer, 0);
      const text = buffer.toString('utf8', 0, bytesRead);
      // The last line may have been cut.
      return bytesRead < bytes ? text : text.slice(0, text.lastIndexOf('\n') + 1);
    } finally {
      await calls.close(file);
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'EISDIR', 'ENOTSUP', 'ENXIO')) return undefined;
    throw error;
  }
}
