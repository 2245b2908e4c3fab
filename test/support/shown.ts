import type { Readable } from 'node:stream';

/** What came on a terminal so far. */
export class Shown {
  #chunks: Buffer[] = [];
  #text = '';
  #wake = () => {};

  constructor(output: Readable) {
    output.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#text += chunk.toString('latin1');
      this.#wake();
    });
  }

  /** All of it. */
  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Waits for `start`, then for `end`. @returns what is between them */
  async between(start: string, end: string): Promise<string> {
    await this.until(start);
    return this.until(end);
  }

  /** Waits for text that comes after what was waited for before. @returns what came in front of it */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.#text.indexOf(text);
      if (at !== -1) {
        const before = this.#text.slice(0, at);
        this.#text = this.#text.slice(at + text.length);
        return before;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
