/** Of each output of a command, unless it is asked for otherwise. Bytes. */
export const defaultMaxOutput = 16 * 1024 * 1024;

/** Keeps the newest bytes of an output, in one buffer whatever the pieces that it came in, and counts all of them. */
export class NewestOutput {
  total = 0;
  readonly #limit: number;
  /** The byte that was written at offset n is at n modulo the limit; until that is reached, the buffer grows. */
  #ring = Buffer.alloc(0);
  #isRestarted = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get truncated(): boolean {
    return this.total > this.#limit;
  }

  get keptBytes(): number {
    return Math.min(this.total, this.#limit);
  }

  add(chunk: Uint8Array): void {
    const rest = chunk.length > this.#limit ? chunk.subarray(chunk.length - this.#limit) : chunk;
    const offset = this.total + chunk.length - rest.length;
    this.total += chunk.length;
    if (rest.length === 0) return;
    this.#grow(Math.min(this.total, this.#limit));
    const at = offset % this.#limit;
    const untilEnd = this.#limit - at;
    this.#ring.set(rest.subarray(0, untilEnd), at);
    if (rest.length > untilEnd) this.#ring.set(rest.subarray(untilEnd), 0);
  }

  /** What comes now does not follow on what is kept, which is forgotten. */
  restart(): void {
    this.total = 0;
    this.#isRestarted = true;
  }

  /** UTF-8; what is not is replaced by U+FFFD. The rest of a character whose beginning is not kept is left out. */
  text(): string {
    if (!this.truncated && !this.#isRestarted) return this.#ring.toString('utf8', 0, this.total);
    if (this.#limit === 0) return '';
    const start = this.truncated ? this.total % this.#limit : 0;
    const all = Buffer.concat([this.#ring.subarray(start, this.keptBytes), this.#ring.subarray(0, start)]);
    let cut = 0;
    while (cut < 3 && ((all[cut] ?? 0) & 0xc0) === 0x80) cut++;
    return all.toString('utf8', cut);
  }

  #grow(bytes: number): void {
    if (bytes <= this.#ring.length) return;
    const grown = Buffer.allocUnsafe(Math.min(this.#limit, Math.max(bytes, 2 * this.#ring.length)));
    this.#ring.copy(grown);
    this.#ring = grown;
  }
}
