import { abortError } from '../errors.ts';

interface Waiting {
  start: () => void;
}

/** Lets a few do something at once. The others wait in the order in which they came; those in the background come last. */
export class Turns {
  #free: number;
  readonly #waiting: Waiting[] = [];
  readonly #waitingInBackground: Waiting[] = [];

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** @returns gives the turn back when it is disposed of */
  async take({ signal, background = false }: { signal?: AbortSignal | undefined; background?: boolean } = {}) {
    if (signal?.aborted) throw abortError(signal.reason);
    if (this.#free > 0) this.#free--;
    else await this.#wait(background ? this.#waitingInBackground : this.#waiting, signal);
    return { [Symbol.dispose]: () => this.#giveBack() };
  }

  #wait(queue: Waiting[], signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = {
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        queue.splice(queue.indexOf(waiting), 1);
        reject(abortError(signal?.reason));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      queue.push(waiting);
    });
  }

  #giveBack(): void {
    const next = this.#waiting.shift() ?? this.#waitingInBackground.shift();
    if (next) next.start();
    else this.#free++;
  }
}
