import { type Matcher, pathMatcher } from './path-pattern.ts';

interface Rule {
  /** What the pattern is relative to: the directory of the `.gitignore`, with a slash at the end. */
  base: string;
  matches: Matcher;
  directoriesOnly: boolean;
  ignores: boolean;
}

/** The `.gitignore` files that count in one directory: its own, and those above it up to the repository's top. */
export class IgnoreRules {
  static readonly none = new IgnoreRules([], 0);
  readonly #rules: readonly Rule[];
  /** Of the files, together. */
  readonly bytes: number;

  private constructor(rules: readonly Rule[], bytes: number) {
    this.#rules = rules;
    this.bytes = bytes;
  }

  /** These, and those of the `.gitignore` in a directory, which its files are named after as `directory`. */
  with(text: string, directory: string): IgnoreRules {
    const base = directory.endsWith('/') ? directory : `${directory}/`;
    const rules = text.split('\n').flatMap((line) => parseRule(line, base) ?? []);
    return new IgnoreRules([...this.#rules, ...rules], this.bytes + text.length);
  }

  /** The last line that matches decides, and deeper files come later. */
  ignores(path: string, isDirectory: boolean): boolean {
    const rule = this.#rules.findLast(
      ({ base, matches, directoriesOnly }) => (isDirectory || !directoriesOnly) && matches(path.slice(base.length)),
    );
    return rule?.ignores ?? false;
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
