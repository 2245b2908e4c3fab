import { harmlessLine } from './harmless.ts';
import { cellWidth } from './width.ts';

/** Rows with their columns below each other; the first one has the names. */
export function tableLines(rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map(harmlessLine));
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...cells.map((row) => cellWidth(row[i] ?? ''))));
  return cells.map((row) =>
    row
      .map((cell, i) => cell + ' '.repeat((widths[i] ?? 0) - cellWidth(cell)))
      .join('  ')
      .trimEnd(),
  );
}
