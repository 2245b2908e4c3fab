import { harmlessLine, overwritten } from './harmless.ts';

/** A line longer than this is cut: nobody reads it, and a command could write one without end. */
const longestLine = 2_000;

/** The first and the newest lines of a command's output, made harmless, while it comes. */
export class OutputLines {
  readonly #first: number;
  readonly #newest: number;
  readonly #open: Record<'stdout' | 'stderr', string> = { stdout: '', stderr: '' };
  readonly #head: string[] = [];
  #tail: string[] = [];
  /** Lines that were in `#tail` and are no more. */
  #dropped = 0;

  constructor({ first, newest }: { first: number; newest: number }) {
    this.#first = first;
    this.#newest = newest;
  }

  push(stream: 'stdout' | 'stderr', text: string): void {
    const lines = (this.#open[stream] + text).split('\n');
    // Of what has no line break yet, only what is seen counts: programs draw progress for hours on one line.
    this.#open[stream] = overwritten(lines.pop() ?? '', { keepEnd: true }).slice(-longestLine);
    while (lines.length > 0 && this.#head.length < this.#first) this.#head.push(shown(lines.shift() ?? ''));
    const kept = lines.slice(-this.#newest).map(shown);
    const tail = [...this.#tail, ...kept].slice(-this.#newest);
    this.#dropped += this.#tail.length + lines.length - tail.length;
    this.#tail = tail;
  }

  /** The newest lines, those that are still being written included. */
  newest(): string[] {
    return [...this.#head, ...this.#tail, ...this.#unfinished()].slice(-this.#newest);
  }

  /** All that is kept, `missing` lines being left out after the first `head.length`. */
  all(): { head: string[]; missing: number; tail: string[] } {
    const tail = [...this.#tail, ...this.#unfinished()];
    return { head: [...this.#head], missing: this.#dropped, tail };
  }

  #unfinished(): string[] {
    return [this.#open.stdout, this.#open.stderr].map(shown).filter((line) => line !== '');
  }
}

function shown(line: string): string {
  return harmlessLine(overwritten(line).slice(0, longestLine));
}
