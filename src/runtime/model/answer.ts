import { setTimeout as sleepFor } from 'node:timers/promises';
import { abortError, BerthError } from '../../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import { type AskOptions, ask, type Turn } from './ask.ts';
import { ModelRequestError, OperationFailedError } from './errors.ts';
import type { ModelRequest } from './model.ts';

export interface AnswerOptions extends Omit<AskOptions, 'request' | 'emptyFails' | 'idleTimeoutMs'> {
  /** Made anew for each try. */
  request(): ModelRequest | Promise<ModelRequest>;
  /** What errors call the work. */
  operation: string;
  /** Default: 120 s */
  idleTimeoutMs?: number | undefined;
  /** Called when the request was too long; `true`: the next one will be shorter. Default: it fails */
  afterOverflow?(): Promise<boolean>;
  /** The wait before a retry. Default: the clock's */
  sleep?(ms: number, signal: AbortSignal): Promise<void>;
}

const RETRIES = 3;
const FIRST_RETRY_DELAY_MS = 2_000;
const LONGEST_RETRY_AFTER_MS = 60_000;

/**
 * One turn that the model answered. A request that failed in passing is made again, up to three times in a row.
 * @throws {OperationFailedError} the provider refused, or failed more often than is retried
 */
export async function answer(options: AnswerOptions): Promise<Turn> {
  const { signal, emit, idleTimeoutMs = 120_000 } = options;
  let emptyFails = true;
  for (let attempt = 1; ; attempt++) {
    const turn = await ask({ ...options, request: await options.request(), emptyFails, idleTimeoutMs });
    if (!turn.failure) return turn;
    const { error } = turn.failure;
    if (signal.aborted) throw abortError(signal.reason);
    if (error instanceof ModelRequestError && error.overflow) {
      if (!(await options.afterOverflow?.())) throw operationError(options.operation, error);
      attempt = 0; // errors in a row are counted, and what follows is another request
      continue;
    }
    const delayMs = retryDelay(error, attempt);
    if (delayMs === undefined) throw operationError(options.operation, error);
    emit({ type: 'retry', attempt, delayMs, error: recordedError(error) }, { turnId: turn.turnId });
    await wait(options, delayMs);
    // The first empty answer is taken for a fault of the provider, the next for the model's last word.
    if (turn.failure.empty) emptyFails = false;
  }
}

/** How long to wait before asking again after the failure of request number `attempt`; `undefined`: not at all. */
function retryDelay(error: unknown, attempt: number): number | undefined {
  if (!(error instanceof ModelRequestError) || !error.transient || attempt > RETRIES) return undefined;
  const { retryAfterMs = 0 } = error;
  if (retryAfterMs > LONGEST_RETRY_AFTER_MS) return undefined;
  const backoffMs = FIRST_RETRY_DELAY_MS * 2 ** (attempt - 1) * (0.75 + Math.random() / 4);
  return Math.round(Math.max(backoffMs, retryAfterMs));
}

function operationError(operation: string, error: unknown): unknown {
  if (error instanceof BerthError) return error; // it says already what to do: a missing key, say
  const { message } = recordedError(error);
  const status = error instanceof ModelRequestError && error.status !== undefined ? { status: error.status } : {};
  return new OperationFailedError({ operation, reason: message, ...status }, { cause: error });
}

async function wait({ signal, sleep = sleepUnlessAborted }: AnswerOptions, ms: number): Promise<void> {
  try {
    await sleep(ms, signal);
  } catch (error) {
    throw signal.aborted ? abortError(signal.reason) : error;
  }
}

function sleepUnlessAborted(ms: number, signal: AbortSignal): Promise<void> {
  return sleepFor(ms, undefined, { signal });
}
