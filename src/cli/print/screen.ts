import type { WriteStream } from 'node:tty';
import { createStyle, type Style } from './style.ts';
import { cellWidth } from './width.ts';

/** Where a view is drawn: lines that stay, and below them a region that is drawn again and again. */
export interface Screen {
  readonly style: Style;
  /** The cells of a line; `undefined` where lines may have any length. */
  readonly columns: number | undefined;
  /** The lines that the region may have; 0 where nothing can be drawn again. */
  readonly liveRows: number;
  print(lines: readonly string[]): void;
  live(lines: readonly string[]): void;
  /** Takes the region away. */
  close(): void;
}

/** The output as a screen. Plain lines where it is no terminal, or the user or a CI system wants no escape sequences. */
export function openScreen(output: NodeJS.WriteStream, env: NodeJS.ProcessEnv = process.env): Screen {
  const plain = !output.isTTY || Boolean(env.NO_COLOR) || Boolean(env.CI) || env.TERM === 'dumb';
  return plain ? new LineScreen(output) : new TerminalScreen(output);
}

class LineScreen implements Screen {
  readonly style = createStyle(false);
  readonly liveRows = 0;
  readonly #output: NodeJS.WriteStream;

  constructor(output: NodeJS.WriteStream) {
    this.#output = output;
  }

  get columns(): number | undefined {
    return this.#output.isTTY ? this.#output.columns : undefined;
  }

  print(lines: readonly string[]): void {
    if (lines.length > 0) this.#output.write(`${lines.join('\n')}\n`);
  }

  live(): void {}

  close(): void {}
}

const hideCursor = '\x1b[?25l';
const showCursor = '\x1b[?25h';
const clearToEndOfLine = '\x1b[K';
const clearBelow = '\x1b[J';

/**
 * A terminal. Each change is one write that draws over what was there, so that nothing flickers; the cursor stays at
 * the end of the region, where the terminal's own `^C` is drawn over with the next change. It is hidden only within a
 * write, so that a process that is killed leaves a whole terminal behind.
 */
export class TerminalScreen implements Screen {
  readonly style = createStyle(true);
  readonly #output: Pick<WriteStream, 'write' | 'columns' | 'rows'>;
  #live: readonly string[] = [];
  #drawn: readonly string[] = [];
  #closed = false;

  constructor(output: Pick<WriteStream, 'write' | 'columns' | 'rows'>) {
    this.#output = output;
  }

  get columns(): number {
    // Not the last cell: a terminal whose last cell is full forgets it when the rest of the line is cleared.
    return Math.max(20, this.#output.columns || 80) - 1;
  }

  get liveRows(): number {
    return Math.max(2, (this.#output.rows || 24) - 2);
  }

  print(lines: readonly string[]): void {
    this.#draw(lines);
  }

  live(lines: readonly string[]): void {
    this.#live = this.#closed ? [] : lines.slice(-this.liveRows);
    this.#draw([]);
  }

  close(): void {
    this.live([]);
    this.#closed = true;
  }

  #draw(kept: readonly string[]): void {
    if (kept.length === 0 && same(this.#live, this.#drawn)) return;
    const up = this.#rowsAbove();
    const lines = kept.map((line) => `${line}${clearToEndOfLine}\n`);
    lines.push(this.#live.map((line) => line + clearToEndOfLine).join('\n'));
    this.#output.write(`${hideCursor}\r${up > 0 ? `\x1b[${up}A` : ''}${lines.join('')}${clearBelow}${showCursor}`);
    this.#drawn = this.#live;
  }

  /** How far above the cursor the region starts. Lines that a narrower terminal has broken take more than one row. */
  #rowsAbove(): number {
    const columns = this.#output.columns || 80;
    const rows = this.#drawn.reduce(
      (sum, line) => sum + Math.max(1, Math.ceil(cellWidth(line.replace(colours, '')) / columns)),
      0,
    );
    return Math.max(0, rows - 1);
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((line, i) => line === b[i]);
}

const colours = /\x1b\[\d+m/g;
