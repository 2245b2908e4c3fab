import { inspect } from 'node:util';
import { abortError } from '../../errors.ts';
import { type ActionContext, type Delivered, makeAction } from '../define/action.ts';
import {
  AttemptsFailedError,
  DelegationDepthExceededError,
  InvalidRequestError,
  SandboxOperationUnsupportedError,
} from '../errors.ts';
import type { Log } from '../events/log.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import { checkOptions } from '../options.ts';
import type { Step } from '../run/step.ts';
import type { SandboxEnv, WorkOutcome } from '../sandbox/env.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { forkableBy } from './forks.ts';
import type { Harness } from './harness.ts';
import type { OpenHarness } from './open-harness.ts';
import { maxDepth, type Operation } from './operation.ts';

const maxAttempts = 16;

/** What the work of an attempt gets. */
export interface AttemptContext {
  /** Works on the attempt's own fork of the files; lives as long as the attempt. */
  readonly harness: Harness;
  /** Which one it is, from 1. */
  readonly attempt: number;
  /** Writes `log` events, with the number of the attempt among their attributes. */
  readonly log: Log;
  /** Aborts with the call of `harness.attempt`. */
  readonly signal: AbortSignal;
}

/** What an attempt gave that completed. */
export interface CompletedAttempt<Value> {
  /** From 1. */
  readonly attempt: number;
  /** A copy, as JSON holds it. */
  readonly value: Value;
}

/** Options of `harness.attempt`. */
export interface AttemptOptions<Value> {
  /** How many are made, side by side: 1 to 16. Default: 1 */
  count?: number;
  /**
   * Gives the number of the attempt whose files are put in place, of those that completed. It looks at their values only: what
   * needs the files, a command or a model is done in the attempts. Default: the first one, in their order
   */
  choose?: (completed: readonly CompletedAttempt<Delivered<undefined, Value>>[]) => number | Promise<number>;
  /** Aborts all of them; nothing is put in place then. */
  signal?: AbortSignal;
}

/** `choose`, whatever the values are. */
export type Choose = (completed: readonly CompletedAttempt<JsonValue>[]) => unknown;

/** @throws {InvalidRequestError} @throws {SandboxOperationUnsupportedError} */
export function checkAttempt(run: unknown, options: object, env: SandboxEnv): void {
  checkOptions('attempt', options, { count: true, choose: true, signal: true });
  const { count = 1, choose } = options as Record<string, unknown>;
  if (typeof run !== 'function') throw new InvalidRequestError('an attempt needs a function that does its work');
  if (!Number.isInteger(count) || (count as number) < 1 || (count as number) > maxAttempts) {
    throw new InvalidRequestError(`count is a whole number from 1 to ${maxAttempts}`);
  }
  if (choose !== undefined && typeof choose !== 'function') throw new InvalidRequestError('choose is a function');
  if (!env.fork) throw new SandboxOperationUnsupportedError({ operation: 'attempts', supportedBy: forkableBy });
}

interface Attempt {
  /** From 1. */
  attempt: number;
  step: Step;
  /** Of its fork. */
  name: string;
}

type Outcome = { value: JsonValue } | { error: unknown };

/**
 * Makes attempts side by side, each on a fork of the files as they are now, and puts the files of one of them in place.
 * @returns what that one gave
 * @throws the error of the only one; {AttemptsFailedError} none of several completed
 * @throws {FilesConflictError} other work has changed the same files meanwhile
 */
export async function runAttempts(
  harness: OpenHarness,
  run: (context: AttemptContext) => unknown,
  { count, choose }: { count: number; choose: Choose | undefined },
  operation: Operation,
): Promise<JsonValue> {
  const { place, signal, step: whole, meter } = operation;
  const { forks, rest } = harness.parts;
  if (place.depth >= maxDepth) throw new DelegationDepthExceededError({ maxDepth });
  const steps = whole.below;
  const [forking, choosing, landing] = [steps.next('files.fork'), steps.next('choice'), forks.landing(steps)];
  const attempts = Array.from({ length: count }, (_, index): Attempt => {
    const step = steps.next('attempt', index + 1);
    return { attempt: index + 1, step, name: step.id('fork') };
  });
  for (const { step } of attempts) if (step.outcome?.usage) meter.restore(step.outcome.usage);

  // Of one that was interrupted some may be decided already.
  const needsFork = ({ attempt, step }: Attempt) => {
    if (landing.isOver) return false;
    return choosing.outcome && !choosing.outcome.error ? choosing.outcome.result === attempt : !step.outcome?.error;
  };
  if (forking.outcome) {
    const over = attempts.filter((attempt) => !needsFork(attempt));
    await Promise.all(over.map(({ name }) => forks.discard(place.env, name, signal)));
  }
  const before = landing.outcome;
  if (before) return before.result;

  const needed = attempts.filter(needsFork);
  const names = needed.map(({ name }) => name);
  const made = await forks.open(place.env, { step: forking, names, operation: 'attempts', signal });
  const open = new Map(needed.map(({ attempt }, index) => [attempt, made[index]] as const));
  const close = async (attempt: number, outcome: WorkOutcome) => {
    const fork = open.get(attempt);
    open.delete(attempt);
    if (fork) await forks.close(fork, outcome);
  };

  const perform = async ({ attempt, step }: Attempt): Promise<Outcome> => {
    if (step.outcome?.error) return { error: restoredError(step.outcome.error) };
    if (step.outcome) return { value: step.outcome.result as JsonValue }; // it was recorded below
    const fork = open.get(attempt);
    const action = makeAction({
      name: 'attempt',
      description: 'One of several attempts.',
      run: (context: ActionContext) => run({ ...context, attempt }),
    });
    const own = new UsageMeter(meter);
    step.begin();
    try {
      const part = { ...operation, meter: own, step };
      const value = await harness.runAction(action, undefined, part, { attempt, ...(fork && { fork }) });
      step.end({ result: value }, own.total);
      return { value };
    } catch (error) {
      if (signal.aborted) throw error;
      step.end({ error }, own.total);
      await harness.parts.journal.flush(); // whoever finds the fork gone knows why
      await close(attempt, 'failed');
      return { error };
    }
  };
  try {
    const ended = await Promise.allSettled(attempts.map(perform));
    signal.throwIfAborted();
    const outcomes = ended.map((each): Outcome => (each.status === 'fulfilled' ? each.value : { error: each.reason }));
    const completed = outcomes.flatMap((outcome, index) =>
      'value' in outcome ? [{ attempt: index + 1, value: outcome.value }] : [],
    );
    if (completed.length === 0) throw failureOf(outcomes);
    const chosen = await rest.perform(choosing, () => chosenOf(completed, choose), signal);
    const others = [...open.keys()].filter((attempt) => attempt !== chosen);
    await Promise.all(others.map((attempt) => close(attempt, 'cancelled')));
    const value = completed.find(({ attempt }) => attempt === chosen)?.value ?? null;
    const fork = open.get(chosen);
    if (fork) await landing.land(fork, value, signal);
    await close(chosen, 'completed');
    return value;
  } catch (error) {
    const reason = signal.aborted ? abortError(signal.reason) : error;
    await landing.fail(reason);
    throw reason;
  } finally {
    await Promise.all([...open.keys()].map((attempt) => close(attempt, 'cancelled')));
  }
}

/** @throws {InvalidRequestError} there is no such attempt */
async function chosenOf(
  completed: readonly CompletedAttempt<JsonValue>[],
  choose: Choose | undefined,
): Promise<number> {
  const numbers = completed.map(({ attempt }) => attempt);
  const chosen = choose ? await choose(structuredClone(completed)) : numbers[0]; // what it does to them must not show
  if (typeof chosen === 'number' && numbers.includes(chosen)) return chosen;
  throw new InvalidRequestError(
    `choose gave ${inspect(chosen, { depth: 0 })}, and completed are the attempts ${numbers.join(', ')}`,
  );
}

function failureOf(outcomes: readonly Outcome[]): unknown {
  const errors = outcomes.flatMap((outcome) => ('error' in outcome ? [outcome.error] : []));
  return errors.length === 1
    ? errors[0]
    : new AttemptsFailedError({ errors: errors.map(recordedError) }, { cause: errors[0] });
}
