import { abortError } from '../../errors.ts';

/**
 * Runs work when there is room for it. Rejects with an `AbortError` when `signal` aborts before that. When `urgent` aborts,
 * it waits no longer, and needs no room.
 */
export type Admit = <Result>(work: () => Promise<Result>, signal: AbortSignal, urgent?: AbortSignal) => Promise<Result>;

/** Lets so many pieces of work run at once; the rest wait in order. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  readonly run: Admit = async (work, signal, urgent) => {
    if (signal.aborted) throw abortError(signal.reason);
    const hasSlot = await this.#slot(signal, urgent);
    try {
      return await work();
    } finally {
      if (hasSlot) this.#leave();
    }
  };

  /** @returns whether it has one, or goes without */
  async #slot(signal: AbortSignal, urgent: AbortSignal | undefined): Promise<boolean> {
    if (urgent?.aborted) return false;
    if (this.#free === 0) return this.#turn(signal, urgent);
    this.#free--;
    return true;
  }

  #leave(): void {
    const [next] = this.#waiting;
    if (next) next();
    else this.#free++;
  }

  #turn(signal: AbortSignal, urgent: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(start);
        signal.removeEventListener('abort', giveUp);
        urgent?.removeEventListener('abort', goWithout);
      };
      const start = () => {
        leave();
        resolve(true);
      };
      const goWithout = () => {
        leave();
        resolve(false);
      };
      const giveUp = () => {
        leave();
        reject(abortError(signal.reason));
      };
      this.#waiting.add(start);
      signal.addEventListener('abort', giveUp);
      urgent?.addEventListener('abort', goWithout);
    });
  }
}
