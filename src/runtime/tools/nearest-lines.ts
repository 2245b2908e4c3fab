const COMPARED_LINES = 40;
const SHOWN_LINES = 12;
const COMPARED_CHARACTERS = 200;
/** So many lines take some 100 ms; a file that is longer must not hold up everything else. */
const SEARCHED_LINES = 20_000;

/**
 * The lines of a file that are most like those of a text that is not in it, as they stand in the file. `line` counts
 * from 1. `undefined` when nothing in the file is like them.
 */
export function nearestLines(text: string, sought: string): { line: number; lines: string[] } | undefined {
  const lines = text.split(/\r?\n/);
  const wanted = sought.split(/\r?\n/).map(normal);
  while (wanted[0] === '') wanted.shift();
  while (wanted.at(-1) === '') wanted.pop();
  const compared = wanted.slice(0, COMPARED_LINES);
  // The longest line says most; the others are only looked at where it may stand.
  const anchor = compared.reduce((best, line, i) => (line.length > (compared[best]?.length ?? 0) ? i : best), 0);
  const anchorPairs = pairs(compared[anchor] ?? '');
  let best = { score: 0, start: 0 };
  for (const [i, line] of lines.slice(0, SEARCHED_LINES).entries()) {
    const likeAnchor = likeness(anchorPairs, pairs(normal(line)));
    if (likeAnchor < 0.3) continue;
    const start = Math.max(0, i - anchor);
    const same = compared.filter((line, j) => line !== '' && line === normal(lines[start + j] ?? '')).length;
    const score = likeAnchor + same;
    if (score > best.score) best = { score, start };
  }
  if (best.score === 0) return undefined;
  const end = best.start + Math.min(compared.length, SHOWN_LINES);
  return { line: best.start + 1, lines: lines.slice(best.start, end).map((line) => line.slice(0, 500)) };
}

/** A line without what is most often wrong: its white space. */
function normal(line: string): string {
  return line.trim().replace(/\s+/g, ' ').slice(0, COMPARED_CHARACTERS);
}

/** Each two characters that stand together, with how often they do. */
function pairs(line: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + 1 < line.length; i++) {
    const pair = line.slice(i, i + 2);
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  return counts;
}

/** Sørensen–Dice coefficient: 0 for nothing in common, 1 for the same pairs. */
function likeness(a: Map<string, number>, b: Map<string, number>): number {
  let common = 0;
  let all = 0;
  for (const [pair, count] of a) {
    common += Math.min(count, b.get(pair) ?? 0);
    all += count;
  }
  for (const count of b.values()) all += count;
  return all === 0 ? 0 : (2 * common) / all;
}
