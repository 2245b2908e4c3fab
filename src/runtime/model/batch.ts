import { after } from '../after.ts';
import type { Emit, RecordedError } from '../events/event.ts';
import { frozenCopy } from '../events/frozen-copy.ts';
import { recordedError } from '../events/recorded-error.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { Rest } from '../run/rest.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import type { Message, ToolCallPart, ToolMessage } from './model.ts';
import { type LoopTool, type ToolResult, textResult } from './tool.ts';

export interface BatchOptions {
  tools: LoopTool[];
  signal: AbortSignal;
  emit: Emit;
  record(message: Message): void | Promise<void>;
  /** Why no call of this batch may run: its model was cut off. */
  refusal?: string;
  /** How long a tool that ignores its signal is waited for. */
  graceMs: number;
  /** What an earlier attempt recorded of this batch, which was interrupted. Default: the batch is a new one */
  kept?: readonly ToolMessage[];
  /** Whether a call that is kept was begun, and its end was not told. Default: none was */
  isOpen?(toolCallId: string): boolean;
  /** Knows what is at work. */
  rest?: Rest;
}

/** What the calls of one turn gave, in the order of the calls. */
export interface Batch {
  /** As events tell of them. */
  results: ToolMessage[];
  endsLoop: boolean;
  /** A call was cut short, or never started, because of an abort. */
  interrupted: boolean;
}

interface Outcome {
  result: ToolResult;
  error?: RecordedError;
  interrupted?: boolean;
}

/** Runs the calls of one turn. Comes back when all have ended; each result is recorded as soon as it is there. */
export async function runBatch(calls: ToolCallPart[], options: BatchOptions): Promise<Batch> {
  let sequence: Promise<unknown> = Promise.resolve();
  const running = calls.map((call) => {
    const kept = options.kept?.find(({ toolCallId }) => toolCallId === call.toolCallId);
    if (kept) {
      if (options.isOpen?.(call.toolCallId)) {
        tellStart(call, options);
        tellEnd(kept, performance.now(), options);
      }
      return { result: kept, message: kept };
    }
    const tool = options.tools.find(({ name }) => name === call.toolName);
    const ended = runCall(call, tool, tool?.order === undefined ? undefined : sequence, options);
    // A call that fails to be recorded must not keep the next ones from their end.
    if (tool?.order === 'sequential') sequence = ended.catch(() => {});
    return ended;
  });
  const outcomes: (Outcome & { message: ToolMessage })[] = [];
  const failures: unknown[] = [];
  for (const ended of await Promise.allSettled(running)) {
    if (ended.status === 'fulfilled') outcomes.push(ended.value);
    else failures.push(ended.reason);
  }
  if (failures.length > 0) throw failures[0];
  return {
    results: outcomes.map(({ message }) => message),
    endsLoop: outcomes.some(({ result }) => result.endsLoop === true),
    interrupted: outcomes.some(({ interrupted }) => interrupted === true),
  };
}

async function runCall(
  call: ToolCallPart,
  tool: LoopTool | undefined,
  before: Promise<unknown> | undefined,
  options: BatchOptions,
): Promise<Outcome & { message: ToolMessage }> {
  await before;
  const { toolName, toolCallId } = call;
  const startedAt = performance.now();
  const outcome = await answerCall(call, tool, tellStart(call, options), options);
  const { content, isError = false, details } = outcome.result;
  const shown = details === undefined ? { content } : { content, details };
  const message: ToolMessage = { role: 'tool', toolCallId, toolName, isError, ...shown };
  await options.record(message);
  return { ...outcome, message: tellEnd(message, startedAt, options, outcome.error) };
}

/** @returns the arguments */
function tellStart({ toolName, toolCallId, input: text }: ToolCallPart, { emit }: BatchOptions): Parsed {
  const input = parseJson(text);
  emit({ type: 'tool_start', toolName, toolCallId, args: input.ok ? input.value : text });
  return input;
}

/** @returns the message as it was told, without the bytes of images */
function tellEnd(message: ToolMessage, startedAt: number, { emit }: BatchOptions, error?: RecordedError): ToolMessage {
  const { toolName, toolCallId, isError, content, details } = message;
  const shown = details === undefined ? { content } : { content, details };
  const told = frozenCopy(shown) as typeof shown;
  emit({
    type: 'tool',
    toolName,
    toolCallId,
    result: told,
    durationMs: Math.round(performance.now() - startedAt),
    isError,
    ...(error && { error }),
  });
  return { ...message, ...told };
}

type Parsed = { ok: true; value: unknown } | { ok: false; problem: string };

function parseJson(text: string): Parsed {
  // Some providers send nothing where a tool has no parameters.
  if (text.trim() === '') return { ok: true, value: {} };
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (error) {
    return { ok: false, problem: error instanceof Error ? error.message : String(error) };
  }
}

async function answerCall(
  call: ToolCallPart,
  tool: LoopTool | undefined,
  input: Parsed,
  options: BatchOptions,
): Promise<Outcome> {
  if (options.refusal !== undefined) return { result: textResult(options.refusal, { isError: true }) };
  if (options.signal.aborted) {
    const text = 'Interrupted before this call started: it was not run.';
    return { result: textResult(text, { isError: true }), interrupted: true };
  }
  if (!tool) {
    const known = options.tools.map(({ name }) => name).join(', ');
    const text = `There is no tool named ${JSON.stringify(call.toolName)}. The tools are: ${known}.`;
    return { result: textResult(text, { isError: true }) };
  }
  if (options.kept && !tool.isResumable) {
    // Nobody can know whether it had begun.
    return { result: textResult(INTERRUPTED, { isError: true, details: { type: 'interrupted' } }) };
  }
  if (!input.ok) {
    const text = `The arguments of ${tool.name} are not JSON (${input.problem}). Call it again with valid JSON.`;
    return { result: textResult(text, { isError: true }) };
  }
  return runTool(call.toolCallId, tool, input.value, options);
}

async function runTool(toolCallId: string, tool: LoopTool, input: unknown, options: BatchOptions): Promise<Outcome> {
  const { signal, emit, graceMs } = options;
  const stop = new LinkedAbort(signal);
  let over = false;
  let timedOut = false;
  const stopTimer = after(tool.timeoutMs ?? Number.POSITIVE_INFINITY, () => {
    timedOut = true;
    stop.abort(new DOMException(`${tool.name} took longer than ${tool.timeoutMs} ms.`, 'TimeoutError'));
  });
  const output = (stream: 'stdout' | 'stderr', text: string) => {
    // A tool that was given up may still write; nothing of it may come after its end.
    if (!over) emit({ type: 'tool_output', toolCallId, stream, text });
  };
  const giveUp = () => {
    const message = `Tool ${tool.name} did not end when it was aborted; it may still be at work.`;
    emit({ type: 'log', level: 'warn', message, attributes: { tool: tool.name, toolCallId } });
  };
  try {
    // Asynchronous, so that a tool that throws at once is like one that rejects.
    const run = async () => tool.run(input, { toolCallId, signal: stop.signal, output });
    const running = options.rest && !tool.delegates ? options.rest.busy(run) : run();
    const result = await unlessIgnored(running, stop.signal, { graceMs, giveUp });
    return timedOut ? { result: textResult(timeoutText(tool), { isError: true }) } : { result };
  } catch (error) {
    if (timedOut) return { result: textResult(timeoutText(tool), { isError: true }) };
    if (signal.aborted) return interrupted();
    const recorded = recordedError(error);
    return { result: textResult(recorded.message, { isError: true }), error: recorded };
  } finally {
    over = true;
    stopTimer();
    stop.release();
  }
}

function timeoutText(tool: LoopTool): string {
  return `${tool.name} took longer than ${tool.timeoutMs} ms and was stopped; its outcome is unknown.`;
}

const INTERRUPTED = 'Interrupted while this call was running: its outcome is unknown.';

function interrupted(): Outcome {
  return { result: textResult(INTERRUPTED, { isError: true }), interrupted: true };
}
