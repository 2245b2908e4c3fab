import type * as v from 'valibot';
import type { ExecResult } from '../../sandbox/process/result.ts';
import type { ToolDefinition } from '../define/tool.ts';
import type { CallHandle } from '../harness/call-handle.ts';
import type { ShellOptions } from '../harness/harness.ts';
import type { ImagePart, Model, ThinkingLevel, Usage } from '../model/model.ts';
import type { Files } from '../sandbox/files.ts';
import type { Schema } from '../schema/parse.ts';
import type { HistoryMessage } from './history.ts';

export interface PromptOptions {
  /** The answer must fit this schema; its parsed side is `data` of the result. */
  result?: Schema;
  /** Further tools, for this call only. */
  tools?: readonly ToolDefinition[];
  model?: string | Model;
  thinkingLevel?: ThinkingLevel;
  /** Up to 14 MB each. */
  images?: readonly ImagePart[];
  /** How often the model may be asked; then `TurnLimitError`. Default: 200 */
  maxTurns?: number;
  signal?: AbortSignal;
}

export interface PromptResult {
  /** The text blocks of the last assistant message, joined with newlines. */
  text: string;
  /** Of all model requests of this call, and of the actions below it. */
  usage: Usage;
  /** The one that was selected. */
  model: { provider: string; id: string };
  finishReason: 'stop' | 'length';
  turns: number;
}

/** A conversation with a model that works in the sandbox. One operation at a time. */
export interface Session {
  readonly name: string;
  readonly conversationId: string;
  readonly fs: Files;
  /**
   * Sends a user message and lets the model work until it stops.
   * @throws {SessionBusyError} another operation of this session is under way
   * @throws {ResultUnavailableError} `result` was asked for, and the model gave none
   */
  prompt<Result extends Schema>(
    text: string,
    options: PromptOptions & { result: Result },
  ): CallHandle<PromptResult & { data: v.InferOutput<Result> }>;
  prompt(text: string, options?: PromptOptions): CallHandle<PromptResult>;
  /** Runs a command and records it in the conversation, so that the model knows. */
  shell(command: string, options?: ShellOptions): CallHandle<ExecResult>;
  /** The messages so far. */
  history(): Promise<HistoryMessage[]>;
  /** Removes the conversation. Its name is free again; this object is then dead. */
  delete(): Promise<void>;
}
