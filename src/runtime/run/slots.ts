import { abortError } from '../../errors.ts';

/** Runs work when there is room for it. Rejects with an `AbortError` when the signal aborts before that. */
export type Admit = <Result>(work: () => Promise<Result>, signal: AbortSignal) => Promise<Result>;

/** Lets so many pieces of work run at once; the rest wait in order. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  readonly run: Admit = async (work, signal) => {
    if (signal.aborted) throw abortError(signal.reason);
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next) next();
      else this.#free++;
    }
  };

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(start);
        signal.removeEventListener('abort', giveUp);
      };
      const start = () => {
        leave();
        resolve();
      };
      const giveUp = () => {
        leave();
        reject(abortError(signal.reason));
      };
      this.#waiting.add(start);
      signal.addEventListener('abort', giveUp);
    });
  }
}
