import type * as v from 'valibot';
import type { ExecResult } from '../../sandbox/process/result.ts';
import type { ToolDefinition } from '../define/tool.ts';
import type { CallHandle } from '../harness/call-handle.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { ImagePart, Model, ThinkingLevel, Usage } from '../model/model.ts';
import type { Files } from '../sandbox/files.ts';
import type { Schema } from '../schema/parse.ts';
import type { SkillReference } from '../skills/skill.ts';
import type { HistoryMessage } from './history.ts';

/** Options of `session.prompt`. One that it does not have is refused. */
export interface PromptOptions {
  /** A Valibot schema, which the answer must fit; its parsed side is `data` of the result. Default: the text is the result */
  result?: Schema;
  /** Further tools, for this call only. */
  tools?: readonly ToolDefinition[];
  /** `'provider/model'` or a model itself. Default: that of the agent */
  model?: string | Model;
  /** Default: that of the agent */
  thinkingLevel?: ThinkingLevel;
  /** Up to 14 MiB each. A model that is known not to see refuses them with `InvalidRequestError`. */
  images?: readonly ImagePart[];
  /** Answers of the model that are taken, of which each may call tools; then `TurnLimitError`. Default: 200 */
  maxTurns?: number;
  /** Stops the model, its tools and their commands; the call then rejects with an `AbortError`. */
  signal?: AbortSignal;
}

/** Options of `session.skill`: those of `prompt`, and `args`. */
export interface SkillOptions extends PromptOptions {
  /** What the skill is to be done with: JSON. Default: nothing */
  args?: unknown;
}

/** Options of `session.task`: those of `prompt`, and which subagent works where. */
export interface TaskOptions extends PromptOptions {
  /** A subagent, by its name. Default: one that is as the agent of this session */
  agent?: string;
  /** Where it works, relative to the directory of this session. Default: that */
  cwd?: string;
}

/** What came of a prompt, a skill, a task or a message to an agent instance. */
export interface PromptResult {
  /** The text blocks of the last assistant message, joined with newlines. */
  text: string;
  /** Of all model requests of this call, and of the tasks and actions below it. */
  usage: Usage;
  /** The one that was selected. */
  model: { provider: string; id: string };
  /** `length`: the last answer was cut off at the model's output limit. */
  finishReason: 'stop' | 'length';
  /** Answers of the model. */
  turns: number;
}

/** A conversation with a model that works in the sandbox. One operation at a time. */
export interface Session {
  /** Of a task: `task:<parent>:<taskId>`. */
  readonly name: string;
  /** Of this conversation in events; another one of the same name has another. */
  readonly conversationId: string;
  /**
   * Of all model requests of its operations so far, and of the tasks and actions below them. In an agent instance also
   * those of earlier processes.
   */
  readonly usage: Usage;
  /** The files of the sandbox: no operation, so also while one is under way. */
  readonly fs: Files;
  /**
   * Sends a user message and lets the model work until it stops.
   * @throws {SessionBusyError} another operation of this session is under way
   * @throws {ModelNotConfiguredError} neither the agent nor the call names a model
   * @throws {OperationFailedError} the provider refused, or failed also when it was asked again
   * @throws {TurnLimitError} the model wanted more than `maxTurns` turns
   * @throws {ResultUnavailableError} `result` was asked for, and the model gave none
   * @example const { data } = await session.prompt('How many?', { result: v.object({ count: v.number() }) });
   */
  prompt<Result extends Schema>(
    text: string,
    options: PromptOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  /** As above; the answer is the text. */
  prompt(text: string, options?: PromptOptions): CallHandle<PromptResult>;
  /**
   * Prompts with the instructions of a skill.
   * @param skill - a name, of a skill of the agent or its workspace; or any skill
   * @throws {SkillNotRegisteredError} there is none of that name
   * @throws all that `prompt` throws
   * @example await session.skill('release-notes', { args: { since: 'v1.2.0' } });
   */
  skill<Result extends Schema>(
    skill: string | SkillReference,
    options: SkillOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  /** As above; the answer is the text. */
  skill(skill: string | SkillReference, options?: SkillOptions): CallHandle<PromptResult>;
  /**
   * Gives a task to a child session, with an empty conversation and the same files: nothing of it enters this one.
   * @param options.agent - a subagent, by its name. Default: one that is as the agent of this session
   * @param options.cwd - where it works. Default: the directory of this session
   * @throws {SubagentNotDeclaredError} the agent has no subagent of that name
   * @throws {DelegationDepthExceededError} tasks and actions are nested more than 4 deep
   * @throws all that `prompt` throws
   * @example const { text } = await session.task('Where are prices rounded?', { agent: 'searcher' });
   */
  task<Result extends Schema>(
    text: string,
    options: TaskOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  /** As above; the answer is the text. */
  task(text: string, options?: TaskOptions): CallHandle<PromptResult>;
  /**
   * Runs a command and records it in the conversation, so that the model knows.
   * @returns also for a command that fails: look at `exitCode`
   * @throws {SessionBusyError} another operation of this session is under way
   */
  shell(command: string, options?: ShellOptions): CallHandle<ExecResult>;
  /**
   * Has the older part of the conversation give way to a summary, whether or not the model's window is full. Without
   * effect when there is nothing to be left out.
   * @throws {SessionBusyError} another operation of this session is under way
   * @throws {ModelNotConfiguredError} neither the agent nor its `compaction` names a model
   * @throws {OperationFailedError} there is no summary; the conversation is as it was
   */
  compact(): CallHandle<void>;
  /** The messages so far, the results of tools in their calls; also while an operation is under way. */
  history(): Promise<HistoryMessage[]>;
  /** Aborts what is under way and removes the conversation. Its name is free again; this object is then dead. */
  delete(): Promise<void>;
}
