import { constants } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { dirname } from 'node:path/posix';
import { child, hasCode, type Path } from './path.ts';
import { type Matcher, pathMatcher } from './pattern.ts';
import { openRegularFile } from './regular-file.ts';

interface Rule {
  /** What the pattern is relative to: the directory of the `.gitignore`, with a slash at the end. */
  base: string;
  matches: Matcher;
  directoriesOnly: boolean;
  ignores: boolean;
}

// What is read of all the `.gitignore` files that count at one place: each of their lines is tried for each file.
const maxBytes = 64 * 1024;

/** The `.gitignore` files that count in one directory: its own, and those above it up to the repository's top. */
export class IgnoreRules {
  readonly #rules: readonly Rule[];
  readonly #bytes: number;

  private constructor(rules: readonly Rule[], bytes: number) {
    this.#rules = rules;
    this.#bytes = bytes;
  }

  /** Those above `directory`; outside of a repository there are none. */
  static async above(directory: string): Promise<IgnoreRules> {
    const parents: string[] = [];
    for (let at = directory; !(await hasRepository(at)); at = dirname(at)) {
      if (at === '/') return new IgnoreRules([], 0);
      parents.unshift(dirname(at));
    }
    let rules = new IgnoreRules([], 0);
    for (const parent of parents) rules = await rules.with(parent, parent);
    return rules;
  }

  /** These, and those of `directory`, which the files in it are named after as `name`. */
  async with(directory: Path, name: string): Promise<IgnoreRules> {
    const text = await readStart(child(directory, '.gitignore'), maxBytes - this.#bytes);
    if (text === undefined) return this;
    const base = name.endsWith('/') ? name : `${name}/`;
    const rules = text.split('\n').flatMap((line) => parseRule(line, base) ?? []);
    return new IgnoreRules([...this.#rules, ...rules], this.#bytes + text.length);
  }

  /** The last line that matches decides, and deeper files come later. */
  ignores(path: string, isDirectory: boolean): boolean {
    const rule = this.#rules.findLast(
      ({ base, matches, directoriesOnly }) => (isDirectory || !directoriesOnly) && matches(path.slice(base.length)),
    );
    return rule?.ignores ?? false;
  }
}

async function hasRepository(directory: string): Promise<boolean> {
  try {
    await lstat(child(directory, '.git'));
    return true;
  } catch {
    return false;
  }
}

function parseRule(line: string, base: string): Rule | undefined {
  // Spaces at the end count only after a backslash; a line may end in CRLF.
  let pattern = line.replace(/\r$/, '').replace(/(?<![\\ ]) +$/, '');
  if (pattern === '' || pattern.startsWith('#')) return undefined;
  const ignores = !pattern.startsWith('!');
  if (!ignores) pattern = pattern.slice(1);
  const directoriesOnly = pattern.endsWith('/');
  if (directoriesOnly) pattern = pattern.slice(0, -1);
  if (pattern === '') return undefined;
  return { base, matches: pathMatcher(pattern), directoriesOnly, ignores };
}

async function readStart(path: Path, bytes: number): Promise<string | undefined> {
  try {
    const [file] = await openRegularFile(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
      const text = buffer.toString('utf8', 0, bytesRead);
      // The last line may have been cut.
      return bytesRead < bytes ? text : text.slice(0, text.lastIndexOf('\n') + 1);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'EISDIR', 'ENOTSUP', 'ENXIO')) return undefined;
    throw error;
  }
}
