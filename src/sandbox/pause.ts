import { abortError } from '../errors.ts';
import { SandboxPausedError } from './errors.ts';

/** Whether a sandbox is paused, as far as this process knows. What is frozen can't confirm an end, nor keep a timeout. */
export class Pause {
  readonly #sandboxId: string;
  readonly #listeners = new Set<() => void>();
  #isOn: boolean;

  constructor(sandboxId: string, isOn: boolean) {
    this.#sandboxId = sandboxId;
    this.#isOn = isOn;
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  set isOn(value: boolean) {
    this.#isOn = value;
    if (value) for (const listener of this.#listeners) listener();
  }

  /**
   * Gives up on `work` once `signal` aborts, or `timeoutMs` is over, and the sandbox is paused then or gets so later.
   * What is given up on goes on when the sandbox is resumed: it is for `work` to end by itself what it began.
   * @throws {SandboxPausedError} the time was over
   */
  async unlessPaused<Result>(
    work: Promise<Result>,
    { signal, timeoutMs }: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined },
  ): Promise<Result> {
    if (!signal && timeoutMs === undefined) return work;
    work.catch(() => {}); // after it was given up on
    let listener = () => {};
    let timer: NodeJS.Timeout | undefined;
    const watch = () => {
      if (this.#isOn) listener();
      else this.#listeners.add(listener);
    };
    const givenUp = new Promise<never>((_, reject) => {
      listener = () => {
        const timedOut = timeoutMs !== undefined && !signal?.aborted;
        reject(
          signal?.aborted
            ? abortError(signal.reason)
            : new SandboxPausedError({ sandboxId: this.#sandboxId, timedOut }),
        );
      };
      if (signal?.aborted || timeoutMs === 0) watch();
      else if (timeoutMs !== undefined) timer = setTimeout(watch, timeoutMs);
      signal?.addEventListener('abort', watch, { once: true });
    });
    try {
      return await Promise.race([work, givenUp]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', watch);
      this.#listeners.delete(listener);
    }
  }

  /** Does not wait for `work` while the sandbox is paused. @throws {SandboxPausedError} */
  now<Result>(work: Promise<Result>): Promise<Result> {
    return this.unlessPaused(work, { timeoutMs: 0 });
  }
}
