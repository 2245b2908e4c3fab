import { harmlessLine, overwritten } from './harmless.ts';

/** A line longer than this is cut: nobody reads it, and a command could write one without end. */
const longestLine = 2_000;

/** The newest lines of a command's output, made harmless, while it comes. */
export class OutputLines {
  readonly #keep: number;
  readonly #open: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' };
  #lines: string[] = [];
  #total = 0;

  constructor(keep: number) {
    this.#keep = keep;
  }

  push(stream: 'stdout' | 'stderr', text: string): void {
    const lines = (this.#open[stream] + text).split('\n');
    // Of what has no line break yet, only what is seen counts: programs draw progress for hours on one line.
    this.#open[stream] = lastDrawn(lines.pop() ?? '').slice(-longestLine);
    this.#total += lines.length;
    const seen = lines.slice(-this.#keep).map((line) => harmlessLine(overwritten(line).slice(0, longestLine)));
    this.#lines = [...this.#lines, ...seen].slice(-this.#keep);
  }

  /** The newest lines, those that are still being written included, and how many there were before them. */
  newest(): { lines: string[]; before: number } {
    const open = [this.#open.stdout, this.#open.stderr].map((line) => harmlessLine(overwritten(line)));
    const lines = [...this.#lines, ...open.filter((line) => line !== '')];
    const kept = lines.slice(-this.#keep);
    return { lines: kept, before: this.#total + lines.length - this.#lines.length - kept.length };
  }
}

/** From the last carriage return that something follows: the next chunk may write over it. */
function lastDrawn(line: string): string {
  const end = line.replace(/\r+$/, '');
  return line.slice(end.lastIndexOf('\r') + 1);
}
