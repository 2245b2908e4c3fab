import type { Pty } from '../../../src/sandbox/pty/pty.ts';

/** What came on a terminal so far. */
export class Screen {
  #chunks: Buffer[] = [];
  #shown = '';
  #wake = () => {};

  constructor({ output }: Pty) {
    output.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#shown += chunk.toString('latin1');
      this.#wake();
    });
  }

  /** All of it. */
  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Waits for text that comes after what was waited for before. */
  async until(text: string): Promise<void> {
    for (;;) {
      const at = this.#shown.indexOf(text);
      if (at !== -1) {
        this.#shown = this.#shown.slice(at + text.length);
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
