import { complain } from './failure.ts';

const codes = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Ctrl-C and SIGTERM for a command that has something to put away. The first one aborts `signal`; later ones only get
 * an answer, so that the clean-up is always whole. It listens until the process ends: there is no moment in which a
 * signal would end it before its time.
 */
export class Interruption {
  readonly #abort = new AbortController();
  readonly #onFirst: () => void;
  readonly #onAgain: () => void;
  /** What the process ends with; `undefined` until it is interrupted. */
  code: number | undefined;

  constructor({ onFirst = () => {}, onAgain = askForPatience }: { onFirst?: () => void; onAgain?: () => void } = {}) {
    this.#onFirst = onFirst;
    this.#onAgain = onAgain;
    process.on('SIGINT', this.#interrupt).on('SIGTERM', this.#interrupt);
  }

  /** Resolves with that, for a command that goes on until then. */
  get ended(): Promise<number> {
    return new Promise((resolve) => {
      const end = () => resolve(this.code ?? 0);
      if (this.code !== undefined) end();
      else this.signal.addEventListener('abort', end, { once: true });
    });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Stops the work for a reason of its own, such as a reader that is gone. */
  stop(code: number): void {
    if (this.code !== undefined) return;
    this.code = code;
    this.#abort.abort();
    this.#onFirst();
  }

  readonly #interrupt = (name: NodeJS.Signals): void => {
    if (this.code === undefined)
      this.stop(codes[name as keyof typeof codes]); // only these two are listened to
    else this.#onAgain();
  };
}

function askForPatience(): void {
  complain('cleaning up, so that nothing is left behind; this takes a moment');
}
