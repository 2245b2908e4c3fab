import type { ImagePart, ModelTool, TextPart } from './model.ts';

/** What a tool knows about the call that it answers. */
export interface CallContext {
  toolCallId: string;
  /** Aborted with the operation, and when the tool's time is over. */
  signal: AbortSignal;
  /** Shows a piece of a command's output to whoever watches. The model sees the result only. */
  output(stream: 'stdout' | 'stderr', text: string): void;
}

/** What a tool gives to the model. */
export interface ToolResult {
  content: (TextPart | ImagePart)[];
  isError?: boolean;
  /** For programs, not for the model. */
  details?: unknown;
  /** The loop ends when the calls of this turn have ended: a structured result is settled. */
  endsLoop?: boolean;
}

/** A tool as the loop runs it. */
export interface LoopTool extends ModelTool {
  /**
   * `sequential` calls of one turn run one after the other, in the order of the calls; an `after-sequential` one waits
   * for those before it. Default: the call starts at once.
   */
  order?: 'sequential' | 'after-sequential';
  /**
   * A call that was interrupted is made again in a later attempt: it joins what it had begun, or has no effect. Default: its
   * outcome is unknown, which the model is told
   */
  isResumable?: boolean;
  /** Its work is that of models or of code, which comes to rest by itself. */
  delegates?: boolean;
  /** Milliseconds; then the call's signal is aborted and its result is an error. Default: none */
  timeoutMs?: number;
  /** Checks the arguments itself: they are JSON, nothing more is known. What it throws becomes an error result. */
  run(input: unknown, context: CallContext): Promise<ToolResult>;
}

/** What a model is told of a tool. */
export function modelTool({ name, description, parameters }: ModelTool): ModelTool {
  return { name, description, parameters };
}

/** A result that is only text. */
export function textResult(text: string, more: Omit<ToolResult, 'content'> = {}): ToolResult {
  return { content: [{ type: 'text', text }], ...more };
}

/** What a tool of ours returns in place of a value: the result as a model gets it. */
export class ReadyResult {
  readonly result: ToolResult;
  constructor(result: ToolResult) {
    this.result = result;
  }
}
