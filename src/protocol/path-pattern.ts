// A pattern is matched piece by piece and never by a regular expression: `*a*a*a*b` would try all ways to split a name.

type Piece = { kind: 'text'; text: string } | { kind: 'any' } | { kind: 'star' } | CharacterSet;
interface CharacterSet {
  kind: 'set';
  negated: boolean;
  ranges: [from: string, to: string][];
}
/** What stands between two slashes; `**` alone stands for any number of names. */
type Segment = Piece[] | '**';

/** Whether a path, relative and with `/` between its names, matches. */
export type Matcher = (path: string) => boolean;

/**
 * `*` any characters of a name, `?` one, `[a-z]` and `[!a-z]` one of a set, `**` any directories, `\` takes away the
 * meaning of what follows. Dots at the start of a name are nothing special. A pattern without `/` matches the name at any
 * depth.
 */
export function pathMatcher(pattern: string): Matcher {
  if (!pattern.includes('/')) return nameMatcher(pattern);
  // `src/**` is what is below `src`: one name at least.
  const segments = pattern.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (segments.at(-1) === '**') segments.push('*');
  const parsed = segments.map((segment) => (segment === '**' ? segment : parseSegment(segment)));
  return (path) => matchesPath(parsed, path.split('/'));
}

function nameMatcher(pattern: string): Matcher {
  const pieces = parseSegment(pattern);
  return (path) => matchesName(pieces, path.slice(path.lastIndexOf('/') + 1));
}

function matchesPath(segments: Segment[], names: string[]): boolean {
  return matchesSequence(
    names.length,
    segments.length,
    (segment) => segments[segment] === '**',
    (segment, at) => {
      const pieces = segments[segment];
      const name = names[at];
      return pieces !== undefined && pieces !== '**' && name !== undefined && matchesName(pieces, name);
    },
  );
}

function matchesName(pieces: Piece[], name: string): boolean {
  const characters = Array.from(name);
  return matchesSequence(
    characters.length,
    pieces.length,
    (piece) => pieces[piece]?.kind === 'star',
    (piece, at) => {
      const character = characters[at];
      return character !== undefined && matchesCharacter(pieces[piece], character);
    },
  );
}

function matchesCharacter(piece: Piece | undefined, character: string): boolean {
  switch (piece?.kind) {
    case 'any':
      return true;
    case 'text':
      return piece.text === character;
    case 'set':
      return piece.ranges.some(([from, to]) => from <= character && character <= to) !== piece.negated;
    default:
      return false;
  }
}

/**
 * Whether `length` items match `parts` parts, of which some stand for any number of items and the others for one. When
 * an item does not match, only the last such part can help, by taking one item more: no other way needs to be tried.
 */
function matchesSequence(
  length: number,
  parts: number,
  isAnyNumber: (part: number) => boolean,
  matchesOne: (part: number, item: number) => boolean,
): boolean {
  let part = 0;
  let item = 0;
  let lastAnyNumber = -1;
  let takenUpTo = 0;
  while (item < length) {
    if (part < parts && isAnyNumber(part)) {
      lastAnyNumber = part;
      takenUpTo = item;
      part += 1;
    } else if (part < parts && matchesOne(part, item)) {
      part += 1;
      item += 1;
    } else if (lastAnyNumber !== -1) {
      takenUpTo += 1;
      item = takenUpTo;
      part = lastAnyNumber + 1;
    } else {
      return false;
    }
  }
  while (part < parts && isAnyNumber(part)) part += 1;
  return part === parts;
}

function parseSegment(text: string): Piece[] {
  const characters = Array.from(text);
  const pieces: Piece[] = [];
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? '';
    const set = character === '[' ? parseSet(characters, at) : undefined;
    if (set) {
      pieces.push(set.piece);
      at = set.end;
    } else if (character === '*') {
      if (pieces.at(-1)?.kind !== 'star') pieces.push({ kind: 'star' });
    } else if (character === '?') {
      pieces.push({ kind: 'any' });
    } else if (character === '\\' && at + 1 < characters.length) {
      at += 1;
      pieces.push({ kind: 'text', text: characters[at] ?? '' });
    } else {
      pieces.push({ kind: 'text', text: character });
    }
  }
  return pieces;
}

/** The set that starts with the `[` at `start`; `undefined` when it has no end, and so is a `[` and no more. */
function parseSet(characters: string[], start: number): { piece: CharacterSet; end: number } | undefined {
  let at = start + 1;
  const negated = characters[at] === '!' || characters[at] === '^';
  if (negated) at += 1;
  const ranges: [string, string][] = [];
  const take = (): string => {
    if (characters[at] === '\\') at += 1;
    const character = characters[at] ?? '';
    at += 1;
    return character;
  };
  // A `]` at the start is one of the characters.
  for (let first = true; first || characters[at] !== ']'; first = false) {
    if (at >= characters.length) return undefined;
    const from = take();
    const isRange = characters[at] === '-' && at + 1 < characters.length && characters[at + 1] !== ']';
    if (isRange) at += 1;
    ranges.push([from, isRange ? take() : from]);
  }
  return { piece: { kind: 'set', negated, ranges }, end: at };
}
