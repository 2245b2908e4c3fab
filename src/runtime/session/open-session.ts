import type * as v from 'valibot';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { toTool } from '../define/tool.ts';
import { HarnessClosedError, InvalidRequestError, SessionBusyError } from '../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import { type CallHandle, callHandle } from '../harness/call-handle.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { OpenHarness, Operation } from '../harness/open-harness.ts';
import { recordedShell } from '../harness/shell.ts';
import { newId } from '../id.ts';
import { ModelNotConfiguredError } from '../model/errors.ts';
import { type LoopResult, runLoop } from '../model/loop.ts';
import type { Message, UserMessage } from '../model/model.ts';
import type { Files } from '../sandbox/files.ts';
import type { Schema } from '../schema/parse.ts';
import { customTool } from '../tools/custom-tool.ts';
import { type HistoryMessage, type KeptMessage, toHistory } from './history.ts';
import type { PromptOptions, PromptResult, Session } from './session.ts';
import { StructuredResult } from './structured-result.ts';
import { systemPrompt } from './system-prompt.ts';

const maxImageBytes = 14 * 1024 * 1024;

/** A conversation in memory. */
export class OpenSession implements Session {
  readonly name: string;
  readonly conversationId = newId('conv');
  readonly fs: Files;
  readonly #harness: OpenHarness;
  readonly #onDelete: () => void;
  readonly #messages: KeptMessage[] = [];
  /** Made at the first turn and kept: what a provider has cached of it stays good. */
  #system: string | undefined;
  #active: CallHandle<unknown> | undefined;
  #activeKind = '';
  #deleted = false;

  constructor(name: string, harness: OpenHarness, onDelete: () => void) {
    this.name = name;
    this.fs = harness.fs;
    this.#harness = harness;
    this.#onDelete = onDelete;
  }

  prompt<Result extends Schema>(
    text: string,
    options: PromptOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  prompt(text: string, options?: PromptOptions): CallHandle<PromptResult>;
  prompt(text: string, options: PromptOptions = {}): CallHandle<PromptResult & { data?: unknown }> {
    return this.#operation('prompt', options.signal, (operation) => this.#prompt(text, options, operation));
  }

  shell(command: string, options: ShellOptions = {}): CallHandle<ExecResult> {
    return this.#operation('shell', options.signal, (operation) => this.#shell(command, options, operation));
  }

  async history(): Promise<HistoryMessage[]> {
    return toHistory(this.#messages);
  }

  async delete(): Promise<void> {
    this.#deleted = true;
    this.#active?.abort('The session was deleted.');
    await this.#active?.catch(() => {}); // who waits for it gets the error
    this.#messages.length = 0;
    this.#onDelete();
  }

  #operation<Result>(
    kind: 'prompt' | 'shell',
    signal: AbortSignal | undefined,
    work: (operation: Operation) => Promise<Result>,
  ): CallHandle<Result> {
    const refusal = this.#deleted
      ? new HarnessClosedError()
      : this.#active && new SessionBusyError({ session: this.name, activeOperation: this.#activeKind });
    if (refusal) return callHandle([signal], () => Promise.reject(refusal));
    const scope = { session: this.name, conversationId: this.conversationId };
    const handle = this.#harness.operation(kind, scope, signal, work);
    this.#active = handle;
    this.#activeKind = kind;
    const free = () => {
      if (this.#active === handle) this.#active = undefined;
    };
    handle.then(free, free);
    return handle;
  }

  async #prompt(
    text: string,
    options: PromptOptions,
    operation: Operation,
  ): Promise<PromptResult & { data?: unknown }> {
    const { agent, models, env } = this.#harness.parts;
    const { signal, emit } = operation;
    const given = options.model ?? agent.model;
    if (given === undefined) throw new ModelNotConfiguredError();
    const model = models.resolve(given);
    const structured = options.result && new StructuredResult(options.result);
    const tools = this.#harness.tools(
      operation,
      model.seesImages !== false,
      (options.tools ?? []).map((tool) => customTool(toTool(tool), this.#harness.log({ tool: tool.name }))),
    );
    const message = userMessage(structured ? `${text}\n\n${structured.footer}` : text, options);
    if (options.images?.length && model.seesImages === false) {
      throw new InvalidRequestError(`the model ${model.provider}/${model.id} takes no images`);
    }
    this.#system ??= await systemPrompt(agent, env, this.#harness.log());

    emit({ type: 'message_start', message });
    this.#record(message);
    emit({ type: 'message_end', message });
    const startedAt = performance.now();
    emit({ type: 'agent_start' });
    const end = (error?: unknown) =>
      emit({
        type: 'agent_end',
        durationMs: Math.round(performance.now() - startedAt),
        isError: error !== undefined,
        ...(error !== undefined && { error: recordedError(error) }),
      });
    let result: LoopResult;
    try {
      result = await runLoop({
        model,
        system: this.#system,
        tools: structured ? [...tools, ...structured.tools] : tools,
        thinkingLevel: options.thinkingLevel ?? agent.thinkingLevel,
        operation: 'prompt',
        signal,
        context: () => this.#messages.map(({ message: kept }) => kept),
        record: (kept) => this.#record(kept),
        emit,
        ...(structured && { followUp: () => structured.reminder() }),
        ...(options.maxTurns !== undefined && { maxTurns: options.maxTurns }),
      });
    } catch (error) {
      end(error);
      throw error;
    }
    end();
    return {
      text: result.text,
      usage: operation.meter.total,
      model: { provider: model.provider, id: model.id },
      finishReason: result.finishReason,
      turns: result.turns,
      ...(structured && { data: structured.data(result.text) }),
    };
  }

  /** The command as a user's message with a call and its result, so that the model knows what was done. */
  async #shell(command: string, options: ShellOptions, operation: Operation): Promise<ExecResult> {
    const toolCallId = newId('call');
    const result = await recordedShell(this.#harness.sandbox, command, options, operation, toolCallId);
    const output = `${result.stdout}\n${result.stderr}`.trim() || '(no output)';
    const text = result.exitCode === 0 ? output : `${output}\n\nExit code: ${result.exitCode ?? result.signal}`;
    this.#record({ role: 'user', content: [{ type: 'text', text: `I ran a command:\n${command}` }] });
    this.#record({
      role: 'assistant',
      content: [{ type: 'tool-call', toolCallId, toolName: 'bash', input: JSON.stringify({ command }) }],
      finishReason: 'tool-calls',
    });
    this.#record({
      role: 'tool',
      toolCallId,
      toolName: 'bash',
      content: [{ type: 'text', text }],
      isError: false,
    });
    return result;
  }

  #record(message: Message): void {
    if (this.#deleted) return;
    this.#messages.push({ id: newId('msg'), timestamp: new Date().toISOString(), message });
  }
}

function userMessage(text: string, { images = [] }: PromptOptions): UserMessage {
  if (typeof text !== 'string') throw new InvalidRequestError('the text of a prompt must be a string');
  for (const { data } of images) {
    if ((data.length * 3) / 4 > maxImageBytes) throw new InvalidRequestError('an image has more than 14 MB');
  }
  return { role: 'user', content: [{ type: 'text', text }, ...images] };
}
