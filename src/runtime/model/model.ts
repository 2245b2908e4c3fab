import type { JSONSchema7 } from '@ai-sdk/provider';

/** How much a model thinks before it answers; a provider that has fewer levels takes the nearest lower one. */
export type ThinkingLevel = 'off' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh';

/** Tokens of one or more model requests, and their price in US dollars. `reasoning` is a part of `output`. */
export interface Usage {
  input: number;
  output: number;
  reasoning: number;
  cacheRead: number;
  cacheWrite: number;
  totalTokens: number;
  /** `null` when the price of a model that took part is not known. */
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number; total: number } | null;
}

/** US dollars per million tokens. */
export interface ModelPrices {
  input: number;
  output: number;
  cacheRead?: number;
  cacheWrite?: number;
}

/** `providerMetadata` is what a provider wants back unchanged with the next request (a signature, say). */
export interface TextPart {
  type: 'text';
  text: string;
  providerMetadata?: Record<string, unknown>;
}

/** `data` is base64. */
export interface ImagePart {
  type: 'image';
  data: string;
  mimeType: string;
}

/** `providerMetadata` as in `TextPart`. */
export interface ThinkingPart {
  type: 'thinking';
  text: string;
  providerMetadata?: Record<string, unknown>;
}

/** `input` is the text that the model wrote: it may not be JSON. */
export interface ToolCallPart {
  type: 'tool-call';
  toolCallId: string;
  toolName: string;
  input: string;
  providerMetadata?: Record<string, unknown>;
}

export interface UserMessage {
  role: 'user';
  content: (TextPart | ImagePart)[];
}

export interface AssistantMessage {
  role: 'assistant';
  content: (TextPart | ThinkingPart | ToolCallPart)[];
  finishReason?: FinishReason;
  usage?: Usage;
  model?: { provider: string; id: string };
}

export interface ToolMessage {
  role: 'tool';
  toolCallId: string;
  toolName: string;
  content: (TextPart | ImagePart)[];
  isError: boolean;
  /** For programs, not for the model: `{ diff }` of an edit, say. */
  details?: unknown;
}

export type Message = UserMessage | AssistantMessage | ToolMessage;

export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'content-filter' | 'error' | 'aborted';

export interface ModelTool {
  name: string;
  description: string;
  parameters: JSONSchema7;
}

export interface ModelRequest {
  system: string;
  messages: Message[];
  tools: ModelTool[];
  thinkingLevel: ThinkingLevel;
  /** Tokens that the answer may have. Default: as many as the model can */
  maxOutputTokens?: number;
}

/**
 * What a model says while it answers. `index` numbers the blocks of one answer, in the order of their start.
 * `progress` says only that the answer goes on: a piece of a tool's arguments came, or a sign of life. `usage` is what
 * the request has used so far, for the case that it breaks off: a later one, or that of `finish`, takes its place.
 */
export type ModelEvent =
  | { type: 'progress' }
  | { type: 'usage'; usage: Usage }
  | { type: 'text-delta'; index: number; text: string }
  | { type: 'text-end'; index: number; providerMetadata?: Record<string, unknown> }
  | { type: 'thinking-start'; index: number }
  | { type: 'thinking-delta'; index: number; text: string }
  | { type: 'thinking-end'; index: number; providerMetadata?: Record<string, unknown> }
  | ({ type: 'tool-call'; index: number } & Omit<ToolCallPart, 'type'>)
  | {
      type: 'finish';
      finishReason: FinishReason;
      usage: Usage;
      responseId?: string;
      responseModel?: string;
    };

/**
 * A model that Berth can ask: the one small interface between the loop and any provider.
 * `stream` ends after `finish`; it throws `ModelRequestError` when the provider refuses or the connection breaks.
 */
export interface Model {
  readonly provider: string;
  readonly id: string;
  /** Tokens; left out when not known, as are the others. */
  readonly contextWindow?: number;
  readonly maxOutputTokens?: number;
  readonly seesImages?: boolean;
  /** For events: the wire format, and where requests go. */
  readonly api?: string;
  readonly baseUrl?: string;
  stream(request: ModelRequest, signal: AbortSignal): AsyncIterable<ModelEvent>;
}
