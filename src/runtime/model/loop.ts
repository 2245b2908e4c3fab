import { setTimeout as sleepFor } from 'node:timers/promises';
import { abortError, BerthError } from '../../errors.ts';
import type { Emit } from '../events/event.ts';
import { recordedError } from '../events/recorded-error.ts';
import { ask, type Turn } from './ask.ts';
import { runBatch } from './batch.ts';
import { sendable, textOf } from './conversation.ts';
import { ModelRequestError, OperationFailedError, TurnLimitError } from './errors.ts';
import type { Message, Model, ThinkingLevel, ToolMessage, UserMessage } from './model.ts';
import type { LoopTool } from './tool.ts';

export interface LoopOptions {
  model: Model;
  system: string;
  tools: LoopTool[];
  thinkingLevel: ThinkingLevel;
  /** What errors call the work: `prompt`, say. */
  operation: string;
  /** Stops the request, a wait and the tools; the loop rejects with an `AbortError` when these have ended. */
  signal: AbortSignal;
  /** The conversation so far, asked for before each request: all that was recorded, or what a compaction left of it. */
  context(): Message[] | Promise<Message[]>;
  /**
   * Keeps a message of the conversation. Results of tools come in the order of their ends. The next request is made
   * only when all of a turn are kept.
   */
  record(message: Message): void | Promise<void>;
  emit: Emit;
  /** Asked when the model stops without a tool call: a message that makes it go on. Default: the loop ends */
  followUp?(): UserMessage | undefined;
  /** Turns that the model may answer. Default: 200 */
  maxTurns?: number;
  /** A stream that is silent for so long counts as broken. Default: 120 s */
  idleTimeoutMs?: number;
  /** How long a tool that ignores its signal is waited for. Default: 10 s */
  graceMs?: number;
  /** The wait before a retry. Default: the clock's */
  sleep?(ms: number, signal: AbortSignal): Promise<void>;
}

export interface LoopResult {
  /** The text blocks of the last answer, joined with newlines. */
  text: string;
  finishReason: 'stop' | 'length';
  turns: number;
}

const RETRIES = 3;
const FIRST_RETRY_DELAY_MS = 2_000;
const LONGEST_RETRY_AFTER_MS = 60_000;
const CUT_OFF =
  'Your answer was cut off at the output limit, so none of its tool calls was run. Make the calls again, each smaller.';

/**
 * Asks the model, runs the tools that it calls, and asks again, until it stops.
 * @throws {OperationFailedError} the provider refused, or failed more often than is retried
 * @throws {TurnLimitError} the model wanted more than `maxTurns` turns
 */
export async function runLoop(options: LoopOptions): Promise<LoopResult> {
  const { signal, emit, record, maxTurns = 200 } = options;
  for (let turns = 1; ; turns++) {
    if (signal.aborted) throw abortError(signal.reason);
    if (turns > maxTurns) throw new TurnLimitError({ maxTurns });
    const { turnId, message, calls } = await answeredTurn(options);
    const finishReason = message.finishReason === 'length' ? 'length' : 'stop';
    const result = { text: textOf(message), finishReason, turns } as const;
    const turnMessages = (toolResults: ToolMessage[]) =>
      emit({ type: 'turn_messages', purpose: 'agent', message, toolResults }, { turnId });

    if (calls.length > 0) {
      const batch = await runBatch(calls, {
        tools: options.tools,
        signal,
        emit: (body) => emit(body, { turnId }),
        record,
        graceMs: options.graceMs ?? 10_000,
        ...(finishReason === 'length' && { refusal: CUT_OFF }),
      });
      turnMessages(batch.results);
      if (batch.endsLoop && !batch.interrupted) return result;
      continue;
    }
    turnMessages([]);
    const followUp = options.followUp?.();
    if (!followUp) return result;
    emit({ type: 'message_start', message: followUp });
    await record(followUp);
    emit({ type: 'message_end', message: followUp });
  }
}

/** One turn that the model answered. A request that failed in passing is made again, up to three times in a row. */
async function answeredTurn(options: LoopOptions): Promise<Turn> {
  const { model, signal, emit, record, idleTimeoutMs = 120_000 } = options;
  const tools = options.tools.map(({ name, description, parameters }) => ({ name, description, parameters }));
  let emptyFails = true;
  for (let attempt = 1; ; attempt++) {
    const request = {
      system: options.system,
      messages: sendable(await options.context(), model.seesImages !== false),
      tools,
      thinkingLevel: options.thinkingLevel,
    };
    const turn = await ask({ model, request, purpose: 'agent', signal, emit, record, emptyFails, idleTimeoutMs });
    if (!turn.failure) return turn;
    const { error } = turn.failure;
    if (signal.aborted) throw abortError(signal.reason);
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

async function wait({ signal, sleep = sleepUnlessAborted }: LoopOptions, ms: number): Promise<void> {
  try {
    await sleep(ms, signal);
  } catch (error) {
    throw signal.aborted ? abortError(signal.reason) : error;
  }
}

function sleepUnlessAborted(ms: number, signal: AbortSignal): Promise<void> {
  return sleepFor(ms, undefined, { signal });
}
