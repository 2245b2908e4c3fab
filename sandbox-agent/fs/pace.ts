import { setImmediate as nextTurn } from 'node:timers/promises';

const sliceMs = 10;

/** Keeps long work from holding up the rest: `turn` is called often, and lets the event loop go on every 10 ms. */
export class Pace {
  readonly #signal: AbortSignal;
  #since = performance.now();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** @throws the signal's reason, when nobody waits for the work any more */
  async turn(): Promise<void> {
    if (performance.now() - this.#since < sliceMs) return;
    await nextTurn();
    this.#since = performance.now();
    this.#signal.throwIfAborted();
  }
}
