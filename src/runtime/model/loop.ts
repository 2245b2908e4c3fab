import { abortError } from '../../errors.ts';
import type { Emit } from '../events/event.ts';
import type { Rest } from '../run/rest.ts';
import { answer } from './answer.ts';
import { runBatch } from './batch.ts';
import { sendable, textOf } from './conversation.ts';
import { TurnLimitError } from './errors.ts';
import type {
  AssistantMessage,
  Message,
  Model,
  ModelRequest,
  ThinkingLevel,
  ToolMessage,
  UserMessage,
} from './model.ts';
import type { LoopTool } from './tool.ts';

/** The system prompt, and what the model is told of tools. */
type Preamble = Pick<ModelRequest, 'system' | 'tools'>;

export interface LoopOptions {
  model: Model;
  /** What a request begins with, asked for before each one, as the conversation is. */
  preamble(): Preamble | Promise<Preamble>;
  /** Those of which `preamble` tells can be called. */
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
   * @param turnId - of an answer
   */
  record(message: Message, turnId?: string): void | Promise<void>;
  emit: Emit;
  /** Makes the conversation shorter; rejects when the signal is aborted, and only then. Default: nothing does */
  compaction?: {
    /** Called before each turn. */
    whenFull(): Promise<void>;
    /** Called when a request was too long; `true`: the conversation is shorter now, and the request is made again. */
    afterOverflow(): Promise<boolean>;
  };
  /** Asked when the model stops without a tool call: a message that makes it go on. Default: the loop ends */
  followUp?(): UserMessage | undefined;
  /** Turns that the model may answer. Default: 200 */
  maxTurns?: number;
  /** What an earlier attempt had of it. Default: nothing */
  before?: LoopStart | undefined;
  /** Lets the loop come to rest between two turns. Default: it does not */
  rest?: Rest;
  /** A stream that is silent for so long counts as broken. Default: 120 s */
  idleTimeoutMs?: number;
  /** How long a tool that ignores its signal is waited for. Default: 10 s */
  graceMs?: number;
  /** The wait before a retry. Default: the clock's */
  sleep?(ms: number, signal: AbortSignal): Promise<void>;
}

/** Where a loop goes on that was interrupted. */
export interface LoopStart {
  /** Answers that the model gave. */
  turns: number;
  /** The last one, when all that follows it is results of its calls. */
  answer?: { turnId: string; message: AssistantMessage; results: readonly ToolMessage[] } | undefined;
  /** One of these results has ended the loop. */
  isSettled: boolean;
  /** Whether the end of the call that a result is of was not told. */
  isOpen(toolCallId: string): boolean;
}

export interface LoopResult {
  /** The text blocks of the last answer, joined with newlines. */
  text: string;
  finishReason: 'stop' | 'length';
  turns: number;
}

const CUT_OFF =
  'Your answer was cut off at the output limit, so none of its tool calls was run. Make the calls again, each smaller.';

/**
 * Asks the model, runs the tools that it calls, and asks again, until it stops.
 * @throws {OperationFailedError} the provider refused, or failed more often than is retried
 * @throws {TurnLimitError} the model wanted more than `maxTurns` turns
 */
export async function runLoop(options: LoopOptions): Promise<LoopResult> {
  const { model, operation, signal, emit, record, compaction, thinkingLevel, sleep, maxTurns = 200 } = options;
  const { before, rest } = options;
  let told = new Set<string>();
  const preamble = async () => {
    const { system, tools } = await options.preamble();
    told = new Set(tools.map(({ name }) => name));
    return { system, tools };
  };
  const request = async () => {
    const { system, tools } = await preamble();
    const messages = sendable(await options.context(), model.seesImages !== false);
    return { system, messages, tools, thinkingLevel };
  };
  const ask = async () => {
    await compaction?.whenFull();
    return answer({
      model,
      request,
      purpose: 'agent',
      operation,
      signal,
      emit,
      record,
      idleTimeoutMs: options.idleTimeoutMs,
      ...(compaction && { afterOverflow: () => compaction.afterOverflow() }),
      ...(sleep && { sleep }),
    });
  };
  let turns = before?.turns ?? 0;
  for (let kept = before?.answer; ; kept = undefined) {
    if (kept) await preamble();
    else {
      await rest?.admit(signal);
      if (signal.aborted) throw abortError(signal.reason);
      if (++turns > maxTurns) throw new TurnLimitError({ maxTurns });
    }
    const { turnId, message } = kept ?? (await (rest ? rest.busy(ask) : ask()));
    const calls = message.content.filter((part) => part.type === 'tool-call');
    const finishReason = message.finishReason === 'length' ? 'length' : 'stop';
    const result = { text: textOf(message), finishReason, turns } as const;
    const turnMessages = (toolResults: ToolMessage[]) =>
      emit({ type: 'turn_messages', purpose: 'agent', message, toolResults }, { turnId });

    if (calls.length > 0) {
      const batch = await runBatch(calls, {
        tools: options.tools.filter(({ name }) => told.has(name)),
        signal,
        emit: (body) => emit(body, { turnId }),
        record,
        graceMs: options.graceMs ?? 10_000,
        ...(finishReason === 'length' && { refusal: CUT_OFF }),
        ...(kept && { kept: kept.results }),
        ...(before && { isOpen: before.isOpen }),
        ...(rest && { rest }),
      });
      turnMessages(batch.results);
      const endsLoop = batch.endsLoop || (kept && before?.isSettled);
      if (endsLoop && !batch.interrupted) return result;
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
