/** Keeps the newest bytes of an output, and counts all of them. */
export class NewestOutput {
  total = 0;
  readonly #limit: number;
  #chunks: Uint8Array[] = [];
  #held = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get truncated(): boolean {
    return this.total > this.#limit;
  }

  add(chunk: Uint8Array): void {
    this.total += chunk.length;
    this.#held += chunk.length;
    this.#chunks.push(chunk);
    for (let first = this.#chunks[0]; first && this.#held - first.length >= this.#limit; first = this.#chunks[0]) {
      this.#chunks.shift();
      this.#held -= first.length;
    }
  }

  /** UTF-8; what is not is replaced by U+FFFD. */
  text(): string {
    const all = Buffer.concat(this.#chunks);
    return all.subarray(Math.max(0, all.length - this.#limit)).toString();
  }
}
