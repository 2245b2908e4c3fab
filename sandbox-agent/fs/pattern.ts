import { type Matcher, pathMatcher } from '../../src/protocol/path-pattern.ts';
import { RequestError } from '../errors.ts';

const maxAlternatives = 1_000;

/**
 * As `pathMatcher`, and `{a,b}` is either.
 * @throws {RequestError} `{…}` stand for more than 1,000 patterns
 */
export function globMatcher(pattern: string): Matcher {
  const alternatives = expandBraces(pattern).map(pathMatcher);
  return (path) => alternatives.some((matches) => matches(path));
}

/** All that `{a,b}` stand for; braces without a comma or without an end are characters. */
function expandBraces(pattern: string): string[] {
  const done: string[] = [];
  const open = [pattern];
  for (let text = open.pop(); text !== undefined; text = open.pop()) {
    const braces = firstBraces(text);
    if (braces === undefined) done.push(text);
    else open.push(...braces.reverse());
    if (done.length + open.length > maxAlternatives) {
      throw new RequestError('EINVAL', `EINVAL: the pattern stands for more than ${maxAlternatives} patterns`);
    }
  }
  return done;
}

/** `text` with each of the choices of its first braces in their place. */
function firstBraces(text: string): string[] | undefined {
  // Where a brace opened, and the commas that belong to it.
  const open: { at: number; commas: number[] }[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '\\') at += 1;
    else if (character === '{') open.push({ at, commas: [] });
    else if (character === ',') open.at(-1)?.commas.push(at);
    else if (character === '}') {
      const braces = open.pop();
      if (!braces || braces.commas.length === 0) continue;
      const borders = [braces.at, ...braces.commas, at];
      return borders
        .slice(1)
        .map(
          (border, choice) =>
            text.slice(0, braces.at) + text.slice((borders[choice] ?? 0) + 1, border) + text.slice(at + 1),
        );
    }
  }
  return undefined;
}
