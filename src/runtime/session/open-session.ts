import type * as v from 'valibot';
import { abortError } from '../../errors.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { checkModel, checkThinkingLevel } from '../define/agent.ts';
import { Problems } from '../define/checks.ts';
import { checkToolItem, toTool } from '../define/tool.ts';
import { HarnessClosedError, InvalidRequestError, SessionBusyError } from '../errors.ts';
import type { Emit } from '../events/event.ts';
import { eventLog } from '../events/log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { type CallHandle, callHandle } from '../harness/call-handle.ts';
import { graceMs } from '../harness/grace.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { Call, OpenHarness, Operation } from '../harness/open-harness.ts';
import { checkShell, recordedShell, shellArguments, shellDetails } from '../harness/shell.ts';
import { newId } from '../id.ts';
import { ModelNotConfiguredError } from '../model/errors.ts';
import { type LoopResult, runLoop } from '../model/loop.ts';
import type { AssistantMessage, Message, UserMessage } from '../model/model.ts';
import { checkOptions } from '../options.ts';
import type { Files } from '../sandbox/files.ts';
import { jsonSchemaIssues } from '../schema/check.ts';
import type { Schema } from '../schema/parse.ts';
import { keepOutput } from '../tools/bash.ts';
import { customTool } from '../tools/custom-tool.ts';
import { type HistoryMessage, type KeptMessage, toHistory } from './history.ts';
import { checkImages } from './images.ts';
import type { PromptOptions, PromptResult, Session } from './session.ts';
import { StructuredResult } from './structured-result.ts';
import { systemPrompt } from './system-prompt.ts';

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
  #activeKind: string | undefined;
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
    return this.#operation<PromptResult & { data?: unknown }>({
      kind: 'prompt',
      options,
      check: () => checkPrompt(text, options),
      work: (operation) => this.#prompt(text, options, operation),
    });
  }

  shell(command: string, options: ShellOptions = {}): CallHandle<ExecResult> {
    return this.#operation({
      kind: 'shell',
      options,
      check: () => checkShell(command, options),
      work: (operation) => this.#shell(command, options, operation),
      shown: shellDetails,
    });
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

  #operation<Result>(call: Call<Result>): CallHandle<Result> {
    const refusal = this.#deleted
      ? new HarnessClosedError()
      : this.#activeKind && new SessionBusyError({ session: this.name, activeOperation: this.#activeKind });
    if (refusal) return callHandle([], () => Promise.reject(refusal));
    this.#activeKind = call.kind; // before it starts: whoever sees its first event finds the session at work
    const scope = { session: this.name, conversationId: this.conversationId };
    const handle = this.#harness.operation({ ...call, scope });
    this.#active = handle;
    const free = () => {
      this.#active = undefined;
      this.#activeKind = undefined;
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
      (options.tools ?? []).map((tool) => customTool(toTool(tool), emit)),
    );
    if (options.images?.length && model.seesImages === false) {
      throw new InvalidRequestError(`the model ${model.provider}/${model.id} takes no images`);
    }
    this.#system ??= await systemPrompt(agent, env, eventLog(emit));
    if (signal.aborted) throw abortError(signal.reason);

    const asked = structured ? `${text}\n\n${structured.footer}` : text;
    this.#say({ role: 'user', content: [{ type: 'text', text: asked }, ...(options.images ?? [])] }, emit);
    const startedAt = performance.now();
    emit({ type: 'agent_start' });
    const end = (error?: unknown) =>
      emit({
        type: 'agent_end',
        durationMs: Math.round(performance.now() - startedAt),
        isError: error !== undefined,
        usage: operation.meter.total,
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
        graceMs: graceMs(this.#harness.parts.depth),
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
    const { env, shared } = this.#harness.parts;
    const toolCallId = newId('call');
    const input = JSON.stringify(shellArguments(command, options));
    this.#say({ role: 'user', content: [{ type: 'text', text: `I ran a command:\n${command}` }] }, operation.emit);
    this.#say(
      {
        role: 'assistant',
        content: [{ type: 'tool-call', toolCallId, toolName: 'bash', input }],
        finishReason: 'tool-calls',
      },
      operation.emit,
    );
    const record = (text: string, isError: boolean) =>
      this.#record({ role: 'tool', toolCallId, toolName: 'bash', content: [{ type: 'text', text }], isError });
    try {
      const keep = (output: string) => keepOutput({ env, shared }, output);
      const { result, text } = await recordedShell(env, command, options, operation, { toolCallId, keep });
      record(text, false);
      return result;
    } catch (error) {
      const interrupted = 'Interrupted while the command was running: its outcome is unknown.';
      record(operation.signal.aborted ? interrupted : recordedError(error).message, true);
      throw error;
    }
  }

  #say(message: UserMessage | AssistantMessage, emit: Emit): void {
    emit({ type: 'message_start', message });
    this.#record(message);
    emit({ type: 'message_end', message });
  }

  #record(message: Message): void {
    if (this.#deleted) return;
    this.#messages.push({ id: newId('msg'), timestamp: new Date().toISOString(), message });
  }
}

/**
 * @throws {DefinitionError} the schema of the result or a tool of the call is no good one
 * @throws {InvalidRequestError} another argument is not
 */
function checkPrompt(text: string, options: PromptOptions): void {
  checkOptions('prompt', options, {
    result: true,
    tools: true,
    model: true,
    thinkingLevel: true,
    images: true,
    maxTurns: true,
    signal: true,
  });
  const problems = new Problems('The prompt');
  const tools = problems.array(options.tools, 'tools');
  for (const [i, item] of tools.entries()) checkToolItem(problems, item, `tools[${i}]`);
  problems.uniqueNames(tools, 'tools');
  if (options.result !== undefined) problems.addSchema('result', jsonSchemaIssues(options.result));
  problems.optional(options.model, 'model', (value, path) => checkModel(problems, value, path));
  problems.optional(options.thinkingLevel, 'thinkingLevel', (value, path) => checkThinkingLevel(problems, value, path));
  problems.throwIfAny();
  if (typeof text !== 'string') throw new InvalidRequestError('the text of a prompt must be a string');
  const { maxTurns = 1, images = [] } = options;
  if (!Number.isSafeInteger(maxTurns) || maxTurns < 1) {
    throw new InvalidRequestError('maxTurns must be a whole number over 0');
  }
  checkImages(images);
}
