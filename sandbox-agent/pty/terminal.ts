import { writeSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { ReadStream } from 'node:tty';
import type { TerminalSize } from '../../src/protocol/values.ts';
import { setTerminalSize } from '../kernel.ts';

/** How long a program that does not read its input is left alone, at first and at most. */
const firstPauseMs = 1;
const longestPauseMs = 50;

/** Our side of a terminal. It ends with the session of the program: the kernel then hangs up. */
export class Terminal {
  /**
   * What the programs write, as it comes. The error EIO is its end. Node reads no further than one chunk ahead here, and
   * does not see the end before that is taken: nothing is lost by it.
   */
  readonly output: ReadStream;
  readonly #master: number;

  /** @param master - from `openTerminal`; belongs to this object from now on */
  constructor(master: number) {
    this.#master = master;
    this.output = new ReadStream(master);
  }

  /** Types `chunk`, as fast as the programs read. @returns whether it was typed: not on a terminal that has ended */
  async write(chunk: Uint8Array): Promise<boolean> {
    let pauseMs = firstPauseMs;
    for (let rest = chunk; rest.length > 0; ) {
      if (this.output.destroyed) return false;
      const written = this.#tryWrite(rest);
      rest = rest.subarray(written);
      // A stream of Node would wait for room with the whole sandbox-agent: libuv writes to a terminal blocking.
      if (written > 0) pauseMs = firstPauseMs;
      else {
        await wait(pauseMs);
        pauseMs = Math.min(2 * pauseMs, longestPauseMs);
      }
    }
    return true;
  }

  resize(size: TerminalSize): void {
    if (!this.output.destroyed) setTerminalSize(this.#master, size);
  }

  /** Hangs up. What was not read is lost. */
  close(): void {
    this.output.destroy();
  }

  #tryWrite(chunk: Uint8Array): number {
    try {
      return writeSync(this.#master, chunk);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      return 0;
    }
  }
}
