const usualSliceMs = 10;

/** Keeps long work from holding up the rest: `turn` is called often, and lets the event loop go on when a slice is over. */
export class Pace {
  readonly #signal: AbortSignal | undefined;
  readonly #sliceMs: number;
  #since = performance.now();

  /** @param sliceMs - what the work may take of a turn of the event loop. Default: 10 ms */
  constructor(signal?: AbortSignal, sliceMs = usualSliceMs) {
    this.#signal = signal;
    this.#sliceMs = sliceMs;
  }

  /** For work whose pieces are so short that even a call of `turn` would count. */
  get isOver(): boolean {
    return performance.now() - this.#since >= this.#sliceMs;
  }

  /** @throws the signal's reason, when nobody waits for the work any more */
  async turn(): Promise<void> {
    if (!this.isOver) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#since = performance.now();
    this.#signal?.throwIfAborted();
  }
}
