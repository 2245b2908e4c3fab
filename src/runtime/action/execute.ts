import { abortError } from '../../errors.ts';
import { after } from '../after.ts';
import type { ActionDefinition } from '../define/action.ts';
import {
  ActionInputValidationError,
  ActionOutputSerializationError,
  ActionOutputValidationError,
  ActionTimeoutError,
} from '../errors.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { WorkOutcome } from '../sandbox/env.ts';
import { outputJson } from '../schema/output.ts';
import { parse } from '../schema/parse.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { unlessIgnored } from '../unless-ignored.ts';

export interface Execution {
  action: ActionDefinition;
  input: unknown;
  /** An input for an action that takes none is dropped; else it is refused. */
  ignoreInput: boolean;
  signal: AbortSignal;
  /** Milliseconds that earlier attempts have taken of its time. Default: none */
  spentMs?: number;
  /** How long a `run` that ignores its signal is waited for. */
  graceMs: number;
  /** Added to the attributes of what `log` writes. */
  logAttributes: Record<string, unknown>;
  /** Called when the input is good. `signal` aborts with the caller and when the time is over. */
  openHarness: (signal: AbortSignal) => Promise<OpenHarness>;
}

/** The order of runtime-contract.md, section 2: input, harness, `run`, output, files, and the end of the harness, always. */
export async function executeAction(execution: Execution): Promise<JsonValue> {
  const { action, signal } = execution;
  const input = actionInput(action, execution.input, execution.ignoreInput);
  const stop = new LinkedAbort(signal);
  const startedAt = performance.now() - (execution.spentMs ?? 0);
  let timeoutMs = action.timeoutMs ?? Number.POSITIVE_INFINITY;
  let timeout: ActionTimeoutError | undefined;
  const timeOut = () => {
    timeout ??= new ActionTimeoutError({ action: action.name, timeoutMs });
    stop.abort(timeout);
  };
  const isLate = () => performance.now() >= startedAt + timeoutMs;
  // Of work whose time was over before, the harness is opened for its end.
  let stopTimer = isLate() ? () => {} : after(startedAt + timeoutMs - performance.now(), timeOut);
  stop.signal.addEventListener('abort', () => stopTimer(), { once: true });
  /** Whatever an action throws because it was aborted, this is why. */
  const reasonOf = (error: unknown) => {
    if (!stop.signal.aborted) return error;
    return timeout && stop.signal.reason === timeout ? timeout : abortError(stop.signal.reason);
  };
  try {
    const harness = await execution.openHarness(stop.signal);
    if (harness.timeoutMs < timeoutMs) {
      stopTimer();
      timeoutMs = harness.timeoutMs;
      stopTimer = after(startedAt + timeoutMs - performance.now(), timeOut);
    }
    let outcome: WorkOutcome = 'failed';
    try {
      const { transaction } = harness.parts;
      const before = transaction?.landing.outcome;
      if (before) {
        outcome = 'completed';
        return before.result;
      }
      if (isLate()) timeOut();
      stop.signal.throwIfAborted();
      const run = action.run as (context: object) => unknown; // its context is the one made here
      const log = harness.log(execution.logAttributes);
      const context = { harness, signal: stop.signal, log, ...(action.input && { input }) };
      // Asynchronous, so that one that throws at once is like one that rejects.
      const running = (async () => run(context))();
      const returned = await unlessIgnored(running, stop.signal, {
        graceMs: execution.graceMs,
        giveUp: () => log.warn(`The action ${action.name} did not end when it was aborted; it may still be at work`),
      });
      stopTimer();
      if (isLate()) timeOut(); // work that holds the event loop keeps timers from firing
      stop.signal.throwIfAborted(); // what comes from work that ignored its signal comes too late
      const output = actionOutput(action, returned, harness.parts.maxValueBytes);
      if (transaction?.fork) await transaction.landing.land(transaction.fork, output, stop.signal);
      outcome = 'completed';
      return output;
    } catch (error) {
      await harness.parts.transaction?.landing.fail(reasonOf(error));
      throw error;
    } finally {
      await harness.close(signal.aborted ? 'cancelled' : outcome);
    }
  } catch (error) {
    throw reasonOf(error);
  } finally {
    stopTimer();
    stop.release();
  }
}

/** @throws {ActionInputValidationError} */
export function actionInput(action: ActionDefinition, input: unknown, ignoreInput = false): unknown {
  if (!action.input) {
    if (input === undefined || ignoreInput) return undefined;
    throw new ActionInputValidationError({ action: action.name, issues: [{ message: 'the action takes no input' }] });
  }
  const parsed = parse(action.input, input === undefined ? {} : input);
  if (!parsed.success) throw new ActionInputValidationError({ action: action.name, issues: parsed.issues });
  return parsed.output;
}

function actionOutput({ name: action, output }: ActionDefinition, returned: unknown, maxBytes: number): JsonValue {
  return outputJson({ schema: output, maxBytes }, returned, {
    invalid: (issues) => new ActionOutputValidationError({ action, issues }),
    notJson: (found, cause) => new ActionOutputSerializationError({ action, ...found }, { cause }),
  });
}
