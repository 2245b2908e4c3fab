import type { Emit, TurnPurpose, TurnRequest } from '../events/event.ts';
import { frozenCopy } from '../events/frozen-copy.ts';
import { recordedError } from '../events/recorded-error.ts';
import { newId } from '../id.ts';
import { LinkedAbort } from '../linked-abort.ts';
import { ModelRequestError } from './errors.ts';
import type {
  AssistantMessage,
  FinishReason,
  Message,
  Model,
  ModelEvent,
  ModelRequest,
  TextPart,
  ThinkingPart,
  ToolCallPart,
  Usage,
} from './model.ts';
import { unknownUsage } from './usage.ts';

/** One model request and what came of it. When it failed, `message` is what the model had said until then. */
export interface Turn {
  turnId: string;
  message: AssistantMessage;
  calls: ToolCallPart[];
  /** `empty`: the answer was complete, but without text and tool call. */
  failure?: { error: unknown; empty: boolean };
}

export interface AskOptions {
  model: Model;
  request: ModelRequest;
  purpose: TurnPurpose;
  signal: AbortSignal;
  emit: Emit;
  record(message: Message, turnId: string): void | Promise<void>;
  /** An answer without text and tool call counts as a failed request. */
  emptyFails: boolean;
  /** A stream that is silent for so long is given up. */
  idleTimeoutMs: number;
}

/** Asks the model once. The answer is told as it comes, and recorded when it is there, also when it broke off. */
export async function ask(options: AskOptions): Promise<Turn> {
  const { model, request, purpose, signal } = options;
  const turnId = newId('turn');
  const emit: Emit = (body) => options.emit(body, { turnId });
  const startedAt = performance.now();
  const answer = new Answer(model, emit);
  let finish: Extract<ModelEvent, { type: 'finish' }> | undefined;
  let told: Usage | undefined;
  let failure: Turn['failure'];

  emit({ type: 'turn_start', purpose });
  const { system, messages, tools } = request;
  const full = { ...summary(model, request), system, messages, tools };
  emit({ type: 'turn_request', purpose, request: full });
  try {
    for await (const event of watched(model, request, signal, options.idleTimeoutMs)) {
      if (event.type === 'finish') finish = event;
      else if (event.type === 'usage') told = event.usage;
      else answer.add(event);
    }
    const error = finishError(finish, model, answer);
    if (error) failure = { error, empty: false };
    else if (answer.empty && options.emptyFails) failure = { error: emptyAnswer(), empty: true };
  } catch (error) {
    failure = { error, empty: false };
  }

  // What broke off counts too; an answer of which nobody said what it used makes the cost unknown.
  const usage = finish?.usage ?? told ?? (answer.started ? unknownUsage() : undefined);
  const message = answer.close(failure ? (signal.aborted ? 'aborted' : 'error') : finish?.finishReason, usage);
  // A request that brought nothing leaves nothing in the conversation.
  if (answer.started || !failure) await options.record(message, turnId);
  const recorded = failure && { error: recordedError(failure.error) };
  emit({
    type: 'turn',
    purpose,
    request: summary(model, request),
    response: {
      ...(finish?.responseId !== undefined && { responseId: finish.responseId }),
      ...(finish?.responseModel !== undefined && { responseModel: finish.responseModel }),
      ...(answer.started && { output: message }),
      ...(usage && { usage }),
      ...(finish && { finishReason: finish.finishReason }),
      ...recorded,
    },
    durationMs: Math.round(performance.now() - startedAt),
    isError: failure !== undefined,
    ...(usage && { usage }),
    ...recorded,
  });
  const calls = message.content.filter((part) => part.type === 'tool-call');
  return { turnId, message, calls, ...(failure && { failure }) };
}

/** Why an answer that ended is none, if so. */
function finishError(
  finish: { finishReason: FinishReason; usage: Usage } | undefined,
  model: Model,
  answer: Answer,
): ModelRequestError | undefined {
  if (!finish) return new ModelRequestError('the answer ended before it was complete', { transient: true });
  switch (finish.finishReason) {
    case 'error':
      return new ModelRequestError('the provider could not complete the answer', { transient: true });
    case 'content-filter':
      return new ModelRequestError('the provider refused to answer this content', { transient: false });
    default:
      return didNotFit(finish.usage, model, finish.finishReason === 'length' && answer.empty)
        ? new ModelRequestError('the request was longer than the model takes', { transient: false, overflow: true })
        : undefined;
  }
}

/** Some providers do not refuse what is too long: they answer to a part of it, or have no room left for an answer. */
function didNotFit({ input, cacheRead, cacheWrite }: Usage, { contextWindow }: Model, noRoom: boolean): boolean {
  if (contextWindow === undefined) return false;
  const tokens = input + cacheRead + cacheWrite;
  return tokens > contextWindow || (noRoom && tokens >= 0.99 * contextWindow);
}

function emptyAnswer(): ModelRequestError {
  return new ModelRequestError('the model answered with neither text nor tool call', { transient: true });
}

/** The events of one request. Ends it when the signal is aborted or nothing came for too long, whatever the model does. */
async function* watched(model: Model, request: ModelRequest, signal: AbortSignal, idleTimeoutMs: number) {
  const stop = new LinkedAbort(signal);
  const stopped = new Promise<never>((_, reject) => {
    const onAbort = () => reject(stop.signal.reason);
    if (stop.signal.aborted) onAbort();
    else stop.signal.addEventListener('abort', onAbort, { once: true });
  });
  stopped.catch(() => {}); // it may be rejected when nobody waits any more
  let iterator: AsyncIterator<ModelEvent> | undefined;
  let idle: NodeJS.Timeout | undefined;
  try {
    iterator = model.stream(request, stop.signal)[Symbol.asyncIterator]();
    for (;;) {
      idle = setTimeout(() => {
        const seconds = Math.round(idleTimeoutMs / 1000);
        stop.abort(new ModelRequestError(`the provider was silent for ${seconds} s`, { transient: true }));
      }, idleTimeoutMs);
      const next = await Promise.race([iterator.next(), stopped]);
      clearTimeout(idle);
      if (next.done) return;
      yield next.value;
      if (next.value.type === 'finish') return;
    }
  } finally {
    clearTimeout(idle);
    stop.release();
    stop.abort();
    // Not awaited: a generator that hangs in an await would never answer.
    Promise.resolve(iterator?.return?.()).catch(() => {});
  }
}

/** Puts the answer together and tells of it. */
class Answer {
  readonly #model: Model;
  readonly #emit: Emit;
  readonly #parts: AssistantMessage['content'] = [];
  readonly #openThinking = new Set<number>();
  started = false;

  constructor(model: Model, emit: Emit) {
    this.#model = model;
    this.#emit = emit;
  }

  /** Nothing that an application or a tool could use. */
  get empty(): boolean {
    return !this.#parts.some((part) => part.type === 'tool-call' || (part.type === 'text' && part.text !== ''));
  }

  add(event: Exclude<ModelEvent, { type: 'finish' | 'usage' }>): void {
    if (event.type === 'progress') return;
    this.#start();
    switch (event.type) {
      case 'text-delta':
        this.#text(event.index).text += event.text;
        if (event.text !== '') this.#emit({ type: 'text_delta', text: event.text });
        break;
      case 'text-end':
        if (event.providerMetadata) this.#text(event.index).providerMetadata = event.providerMetadata;
        break;
      case 'thinking-start':
        this.#thinking(event.index);
        break;
      case 'thinking-delta':
        this.#thinking(event.index).text += event.text;
        this.#emit({ type: 'thinking_delta', contentIndex: event.index, delta: event.text });
        break;
      case 'thinking-end': {
        const part = this.#thinking(event.index);
        if (event.providerMetadata) part.providerMetadata = event.providerMetadata;
        this.#endThinking(event.index, part);
        break;
      }
      case 'tool-call': {
        const { index, ...call } = event;
        const { toolCallId } = call;
        // Some servers give all calls of an answer one id, or an empty one: results would be taken for those of others.
        const isTaken = this.#parts.some((part) => part.type === 'tool-call' && part.toolCallId === toolCallId);
        this.#parts[index] = isTaken || toolCallId === '' ? { ...call, toolCallId: newId('call') } : call;
      }
    }
  }

  /** The whole message, and the events that end it. */
  close(finishReason: AssistantMessage['finishReason'], usage: Usage | undefined): AssistantMessage {
    if (finishReason !== 'error' && finishReason !== 'aborted') this.#start();
    for (const index of this.#openThinking) this.#endThinking(index, this.#thinking(index));
    // Frozen, so that the events that tell of it need no further copies. It is JSON, and comes out with the same fields.
    const message = frozenCopy({
      // `filter` also skips an index that no event used.
      content: this.#parts.filter((part) => part.type !== 'text' || part.text !== ''),
      ...(finishReason && { finishReason }),
      ...(usage && { usage }),
      ...this.#head(),
    } satisfies AssistantMessage) as AssistantMessage;
    if (this.started) this.#emit({ type: 'message_end', message });
    return message;
  }

  #head() {
    return { role: 'assistant', model: { provider: this.#model.provider, id: this.#model.id } } as const;
  }

  #start(): void {
    if (this.started) return;
    this.started = true;
    this.#emit({ type: 'message_start', message: { content: [], ...this.#head() } });
  }

  #text(index: number): TextPart {
    const part = this.#parts[index];
    if (part?.type === 'text') return part;
    const added: TextPart = { type: 'text', text: '' };
    this.#parts[index] = added;
    return added;
  }

  #thinking(index: number): ThinkingPart {
    const part = this.#parts[index];
    if (part?.type === 'thinking') return part;
    const added: ThinkingPart = { type: 'thinking', text: '' };
    this.#parts[index] = added;
    this.#openThinking.add(index);
    this.#emit({ type: 'thinking_start', contentIndex: index });
    return added;
  }

  #endThinking(index: number, part: ThinkingPart): void {
    if (!this.#openThinking.delete(index)) return;
    this.#emit({ type: 'thinking_end', contentIndex: index, content: part.text });
  }
}

function summary(model: Model, request: ModelRequest): TurnRequest {
  const maxTokens = request.maxOutputTokens ?? model.maxOutputTokens;
  const server = model.baseUrl === undefined ? undefined : new URL(model.baseUrl);
  return {
    providerId: model.provider,
    providerName: model.provider,
    requestedModel: model.id,
    api: model.api ?? 'custom',
    ...(server && { serverAddress: server.hostname }),
    ...(server && server.port !== '' && { serverPort: Number(server.port) }),
    reasoningLevel: request.thinkingLevel,
    ...(maxTokens !== undefined && { maxTokens }),
  };
}
