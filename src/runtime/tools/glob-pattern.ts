const MOST_ALTERNATIVES = 1_000;

/**
 * Whether a path, relative to the directory that is searched, matches a glob. A pattern without `/` looks at the name
 * only. `*` and `?` stop at `/`; `**` as a whole part stands for any number of parts; `[…]` and `{a,b}` as in a shell.
 * Not by a regular expression: a model writes these patterns, and with many stars that would take for ever.
 */
export function globMatcher(pattern: string): (path: string) => boolean {
  const byName = !pattern.includes('/');
  const alternatives = expandBraces(pattern.replace(/^(\.?\/)+/, '')).map((alternative) => {
    const parts = alternative.split('/').map((part): Part => (part === '**' && !byName ? 'any' : characters(part)));
    // `a/**` is what is below `a`, and not `a`.
    return parts.at(-1) === 'any' ? [...parts, characters('*')] : parts;
  });
  return (path) => {
    const subject = byName ? [path.slice(path.lastIndexOf('/') + 1)] : path.split('/');
    return alternatives.some((parts) =>
      matches(
        parts,
        subject,
        (part) => part === 'any',
        (part, name) => part !== 'any' && matchesName(part, name),
      ),
    );
  };
}

/** A part between slashes: `any` number of parts, or what its name is made of. */
type Part = 'any' | Item[];

type Item = typeof anyText | ((character: string) => boolean);

const anyText: unique symbol = Symbol('any text');

function matchesName(items: Item[], name: string): boolean {
  const fits = (item: Item, character: string) => item !== anyText && item(character);
  return matches(items, [...name], (item) => item === anyText, fits);
}

/**
 * Whether items match subjects one by one, where an item that is `free` matches any number of them. What came before
 * the last free item never has to be looked at again, so this takes at most as long as the two lengths multiplied.
 */
function matches<T, S>(items: T[], subjects: S[], free: (item: T) => boolean, fits: (item: T, subject: S) => boolean) {
  let item = 0;
  let retry: { item: number; subject: number } | undefined;
  for (let subject = 0; subject < subjects.length || item < items.length; ) {
    const [wanted, found] = [items[item], subjects[subject]];
    if (wanted !== undefined && free(wanted)) {
      retry = { item, subject };
      item++;
    } else if (wanted !== undefined && found !== undefined && fits(wanted, found)) {
      item++;
      subject++;
    } else if (retry && retry.subject < subjects.length) {
      retry.subject++; // the free item takes one more
      subject = retry.subject;
      item = retry.item + 1;
    } else return false;
  }
  return true;
}

/** What a name must be made of, character by character. */
function characters(part: string): Item[] {
  const tokens = part.match(/\*+|\[!?\]?[^\]]*\]|./gsu) ?? [];
  return tokens.map((token): Item => {
    if (token.startsWith('*')) return anyText;
    if (token === '?') return () => true;
    if (token.length > 2 && token.startsWith('[')) return characterSet(token.slice(1, -1));
    return (character) => character === token;
  });
}

function characterSet(set: string): Item {
  const negated = set.startsWith('!');
  const ranges = (negated ? set.slice(1) : set).match(/.-.|./gsu) ?? [];
  const has = (character: string) =>
    ranges.some((range) => {
      const [first = '', dash, last = first] = [...range];
      return dash === undefined ? character === first : first <= character && character <= last;
    });
  return (character) => has(character) !== negated;
}

/** `a{b,c}d` is `abd` and `acd`. Braces that are not closed, or have no comma, stand for themselves. */
export function expandBraces(pattern: string): string[] {
  const open = pattern.indexOf('{');
  if (open === -1) return [pattern];
  const parts: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let i = open; i < pattern.length; i++) {
    const character = pattern[i];
    if (character === '{') depth++;
    else if (character === '}') depth--;
    if ((character === ',' && depth === 1) || depth === 0) {
      parts.push(pattern.slice(start, i));
      start = i + 1;
    }
    if (depth === 0) {
      const after = expandBraces(pattern.slice(i + 1));
      const before = pattern.slice(0, open);
      if (parts.length === 1) return after.map((rest) => `${before}{${parts[0]}}${rest}`);
      const expanded = parts.flatMap(expandBraces);
      // Each pair of braces multiplies.
      if (expanded.length * after.length > MOST_ALTERNATIVES)
        throw new Error(`The braces of ${pattern} stand for too much.`);
      return expanded.flatMap((part) => after.map((rest) => before + part + rest));
    }
  }
  return [pattern];
}
