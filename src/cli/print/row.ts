import type { Paint } from './style.ts';
import { cellWidth, cut } from './width.ts';

/** A piece of a line: harmless text, and how it is painted. */
export type Span = readonly [text: string, paint?: Paint | undefined];

/**
 * One line of a terminal. The right side stays whole and stands at the right edge; the left one is cut where it would
 * not fit. Without a width nothing is cut, and the right side follows the left one.
 */
export function row(left: readonly Span[], right: readonly Span[] = [], columns?: number): string {
  const rightWidth = widthOf(right);
  const gap = rightWidth > 0 ? 2 : 0;
  if (columns === undefined) return paint(left) + ' '.repeat(gap) + paint(right);
  if (rightWidth + gap > columns / 2) return paint(fitted(left, columns)); // too narrow for two sides
  const kept = fitted(left, columns - rightWidth - gap);
  const space = rightWidth > 0 ? columns - rightWidth - widthOf(kept) : 0;
  return paint(kept) + ' '.repeat(space) + paint(right);
}

function widthOf(spans: readonly Span[]): number {
  return spans.reduce((sum, [text]) => sum + cellWidth(text), 0);
}

function fitted(spans: readonly Span[], columns: number): Span[] {
  const kept: Span[] = [];
  let rest = Math.max(1, columns);
  for (const [i, [text, painted]] of spans.entries()) {
    const more = spans.slice(i + 1).some(([later]) => later !== '');
    const width = cellWidth(text);
    // The last cell is kept for the sign that something is missing.
    if (width > rest || (width === rest && more)) {
      kept.push([cut(width === rest ? `${text}…` : text, rest), painted]);
      break;
    }
    kept.push([text, painted]);
    rest -= width;
  }
  return kept;
}

function paint(spans: readonly Span[]): string {
  return spans.map(([text, painted]) => (painted ? painted(text) : text)).join('');
}
