import { setTimeout as sleep } from 'node:timers/promises';
import { abortError } from '../../errors.ts';
import type { Step } from './step.ts';

/** How long nothing may have happened before a run whose code only waits is suspended, and how long the wait has to be. */
const longWaitMs = 10_000;
const lookMs = 1_000;
/** Between two pieces of work there is code of the application, and a write to the store. */
const quietMs = 100;

/** Why work ends that goes on in a later attempt. Nobody is told of it as of an abort. */
export class Suspension extends Error {}

/** Something that the work waits for: a time, in ms since 1970, a message of a name, or whichever comes first. */
interface Wait {
  wakeAt: number;
  message?: string;
}

/**
 * What a run or an agent instance is at work on, so that it can be brought to rest: where a turn of a model has ended, a
 * command or a step. What was under way then goes on in a later attempt.
 */
export class Rest {
  readonly #waits = new Set<Wait>();
  readonly #onLongWait: (() => void) | undefined;
  #atWork = 0;
  #quietSince = performance.now();
  #isAsked = false;
  #spent: Error | undefined;
  #over: 'suspended' | 'left' | undefined;
  #looking: NodeJS.Timeout | undefined;

  /** @param onLongWait - called once, when the work does nothing but wait, and will for long */
  constructor(onLongWait?: () => void) {
    this.#onLongWait = onLongWait;
  }

  /** Nothing of it counts here any more: it goes on later (`suspended`), or another process is at it (`left`). */
  get over(): 'suspended' | 'left' | undefined {
    return this.#over;
  }

  /** From when on the work can go on by itself, in ms since 1970: 0 for now, `undefined` for not before a message comes. */
  get wakeAt(): number | undefined {
    if (this.#atWork > 0 || this.#waits.size === 0) return 0;
    const first = Math.min(...[...this.#waits].map((wait) => wait.wakeAt));
    return Number.isFinite(first) ? first : undefined;
  }

  /** The names of the messages that are waited for. */
  get awaited(): ReadonlySet<string> {
    return new Set([...this.#waits].flatMap(({ message }) => message ?? []));
  }

  /** Nothing further is done: what would begin fails with this error. What is recorded already is still given. */
  spend(error: Error): void {
    this.#spent = error;
  }

  /** A further piece of work may begin at once; once rest was asked for, it never does: then there is a promise of that. */
  admit(signal: AbortSignal): Promise<never> | undefined {
    if (this.#spent) return Promise.reject(this.#spent);
    if (!this.#isAsked) return undefined;
    return new Promise((_, reject) => {
      const refuse = () => {
        if (!(signal.reason instanceof Suspension)) reject(abortError(signal.reason));
      };
      if (signal.aborted) refuse();
      else signal.addEventListener('abort', refuse, { once: true });
    });
  }

  /** Does a piece of work that is not interrupted by a rest. */
  async busy<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#atWork++;
    try {
      return await work();
    } finally {
      this.#atWork--;
      this.#quietSince = performance.now();
    }
  }

  /** Does a step as a piece of work. What comes of it when the work is over here is never given. */
  async perform<Result>(step: Step, work: () => Result | Promise<Result>, signal: AbortSignal): Promise<Result> {
    const held = step.outcome ? undefined : this.admit(signal);
    if (held) await held;
    try {
      const result = await this.busy(() => step.perform(work, signal));
      if (!this.#over) return result;
    } catch (error) {
      if (!this.#over) throw error;
    }
    return never();
  }

  /** Waits for something, during which the work can be suspended. */
  async waiting<Result>(wait: Wait, work: () => Promise<Result>): Promise<Result> {
    this.#waits.add(wait);
    this.#quietSince = performance.now();
    if (this.#onLongWait) this.#looking ??= setInterval(() => this.#look(), lookMs).unref();
    try {
      return await work();
    } finally {
      this.#waits.delete(wait);
      this.#quietSince = performance.now(); // the code goes on with what came
      if (this.#waits.size === 0) this.#stopLooking();
    }
  }

  /** Lets nothing more begin; resolves when what is under way has ended, at the latest after `timeoutMs`. */
  async ask(timeoutMs: number): Promise<void> {
    this.#isAsked = true;
    this.#stopLooking();
    const until = performance.now() + timeoutMs;
    const from = performance.now();
    for (;;) {
      const now = performance.now();
      if (now >= until || (this.#atWork === 0 && now - Math.max(from, this.#quietSince) >= quietMs)) return;
      await sleep(20);
    }
  }

  end(how: 'suspended' | 'left'): void {
    this.#over ??= how;
    this.#stopLooking();
  }

  #look(): void {
    if (this.#isAsked || this.#atWork > 0 || performance.now() - this.#quietSince < longWaitMs) return;
    const { wakeAt = Number.POSITIVE_INFINITY } = this;
    if (wakeAt - Date.now() < longWaitMs) return;
    this.#stopLooking();
    this.#onLongWait?.();
  }

  #stopLooking(): void {
    clearInterval(this.#looking);
    this.#looking = undefined;
  }
}

/** What came too late to be used by anybody. */
export function never<Result>(): Promise<Result> {
  return new Promise(() => {});
}
