import { SandboxGoneError, SandboxOperationUnsupportedError } from '../errors.ts';
import { restoredError } from '../events/recorded-error.ts';
import type { Rest } from '../run/rest.ts';
import type { Step, Steps } from '../run/step.ts';
import type { SandboxEnv, SandboxFork, WorkOutcome } from '../sandbox/env.ts';
import type { JsonValue } from '../schema/snapshot.ts';

/** The factories of ours whose sandboxes can be forked, and remember files. */
export const forkableBy = ['docker()', 'virtual()'];

/** The forks that a run or an agent instance has under way, in whichever of its harnesses. */
export class Forks {
  readonly #rest: Rest;
  readonly #open = new Set<SandboxFork>();

  constructor(rest: Rest) {
    this.#rest = rest;
  }

  /**
   * Makes forks of a sandbox, or finds those that an earlier attempt has made.
   * @param options.step - what it is recorded as
   * @param options.operation - what needs them
   * @throws {SandboxOperationUnsupportedError} the sandbox can't be forked
   * @throws {SandboxGoneError} those that were made are no longer there
   */
  async open(
    env: SandboxEnv,
    {
      step,
      names,
      operation,
      signal,
    }: { step: Step; names: readonly string[]; operation: string; signal: AbortSignal },
  ): Promise<SandboxFork[]> {
    const fork = async (resume: boolean) => {
      if (!env.fork) throw new SandboxOperationUnsupportedError({ operation, supportedBy: forkableBy });
      const forks = await env.fork({ names, resume, signal });
      for (const each of forks) this.#open.add(each);
      if (this.#rest.over) await this.closeAll(this.#rest.over); // the others were let go of before
      return forks;
    };
    if (step.outcome && !step.outcome.error) return fork(true);
    let made: SandboxFork[] = [];
    const make = async () => {
      made = await fork(false);
    };
    await this.#rest.perform(step, make, signal);
    return made;
  }

  /** Removes what an earlier attempt may have left under a name. */
  async discard(env: SandboxEnv, name: string, signal: AbortSignal): Promise<void> {
    try {
      for (const fork of (await env.fork?.({ names: [name], resume: true, signal })) ?? [])
        await fork.close('cancelled');
    } catch (error) {
      if (!(error instanceof SandboxGoneError)) throw error;
    }
  }

  /** Ends a fork. What was not put in place by then is gone, unless its work goes on later. */
  async close(fork: SandboxFork, outcome: WorkOutcome): Promise<void> {
    this.#open.delete(fork);
    await fork.close(this.#rest.over ?? outcome);
  }

  /** Ends those that are under way. */
  async closeAll(outcome: WorkOutcome): Promise<void> {
    await Promise.all([...this.#open].map((fork) => this.close(fork, outcome)));
  }

  /** Where it is recorded, for `steps` of an operation, what becomes of its forks. */
  landing(steps: Steps): Landing {
    return new Landing(steps.next('files.land'), this.#rest);
  }

  /**
   * A fork for an action whose files are a transaction.
   * @param options.steps - where it is recorded, by an earlier attempt too
   * @param options.name - of the fork
   * @throws {SandboxOperationUnsupportedError} @throws {SandboxGoneError}
   */
  async transaction(
    env: SandboxEnv,
    { steps, name, signal }: { steps: Steps; name: string; signal: AbortSignal },
  ): Promise<Transaction> {
    const [step, landing] = [steps.next('files.fork'), this.landing(steps)];
    if (landing.isOver) {
      await this.discard(env, name, signal);
      return { landing };
    }
    const [fork] = await this.open(env, { step, names: [name], operation: "files: 'transaction'", signal });
    return { landing, ...(fork && { fork }) };
  }
}

/** What an action works in whose files are a transaction. */
export interface Transaction {
  /** Left out: an earlier attempt has come to the end of it. */
  fork?: SandboxFork;
  landing: Landing;
}

/** The end of work in forks: changes of one are put in place, or it has failed. Recorded before the forks are gone. */
export class Landing {
  readonly #step: Step;
  readonly #rest: Rest;
  #failed = false;

  constructor(step: Step, rest: Rest) {
    this.#step = step;
    this.#rest = rest;
  }

  /** It was reached in an earlier attempt: nothing is to be done. */
  get isOver(): boolean {
    return this.#step.outcome !== undefined;
  }

  /** What the work gave then. @throws the error that it has failed with */
  get outcome(): { result: JsonValue } | undefined {
    const { outcome } = this.#step;
    if (outcome?.error) throw restoredError(outcome.error);
    return outcome && { result: outcome.result as JsonValue }; // `land` recorded it
  }

  /**
   * Puts the changes of a fork in place: from then on this is what the work gave.
   * @throws {FilesConflictError} other work has changed the same files meanwhile
   */
  async land(fork: SandboxFork, result: JsonValue, signal: AbortSignal): Promise<void> {
    const land = async () => {
      await fork.land({ signal });
      return result;
    };
    try {
      await this.#rest.perform(this.#step, land, signal);
    } catch (error) {
      this.#failed = !signal.aborted; // then it is recorded
      throw error;
    }
  }

  /** Nothing is put in place. */
  async fail(error: unknown): Promise<void> {
    if (this.#rest.over || this.#failed || this.isOver) return;
    await this.#step.perform(() => Promise.reject(error)).catch(() => {}); // who fails throws it
  }
}
