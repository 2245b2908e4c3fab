import type { JSONSchema7 } from '@ai-sdk/provider';

/** How much a model thinks before it answers; a provider that has fewer levels takes the nearest lower one. */
export type ThinkingLevel = 'off' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh';

/** Tokens of one or more model requests, and their price in US dollars. */
export interface Usage {
  /** What was neither read from a cache nor written to one. */
  input: number;
  output: number;
  /** A part of `output`. */
  reasoning: number;
  cacheRead: number;
  cacheWrite: number;
  /** `input`, `output`, `cacheRead` and `cacheWrite` together. */
  totalTokens: number;
  /** US dollars; `null` when the price of a model that took part is not known. */
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

/** An image for a model. */
export interface ImagePart {
  type: 'image';
  /** Base64; up to 14 MiB of bytes. */
  data: string;
  /** As in `image/png`. Which ones it takes is a matter of the model. */
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

/** What was told to the model. */
export interface UserMessage {
  role: 'user';
  content: (TextPart | ImagePart)[];
}

/** What a model answered. */
export interface AssistantMessage {
  role: 'assistant';
  content: (TextPart | ThinkingPart | ToolCallPart)[];
  finishReason?: FinishReason;
  usage?: Usage;
  /** Whose answer it is. */
  model?: { provider: string; id: string };
}

/** What one tool call gave. */
export interface ToolMessage {
  role: 'tool';
  toolCallId: string;
  toolName: string;
  content: (TextPart | ImagePart)[];
  isError: boolean;
  /** For programs, not for the model: `{ diff }` of an edit, say. */
  details?: unknown;
}

/** One message of a conversation. */
export type Message = UserMessage | AssistantMessage | ToolMessage;

/**
 * Why an answer ended. `length`: at the output limit. `content-filter`: the provider refused it. `error` and `aborted`: it
 * broke off.
 */
export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'content-filter' | 'error' | 'aborted';

/** A tool as a model sees it; `parameters` is the JSON Schema of its arguments. */
export interface ModelTool {
  name: string;
  description: string;
  parameters: JSONSchema7;
}

/** What a model is asked for one answer: all of it, as models remember nothing. */
export interface ModelRequest {
  /** The system prompt. */
  system: string;
  /** The conversation so far, the oldest first; each tool call has its result. */
  messages: Message[];
  /** What it may call, each with the JSON Schema of its arguments. */
  tools: ModelTool[];
  /** One that the model does not have is to be taken as the nearest lower one. */
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
  /** What stands before the slash in `provider/model`. */
  readonly provider: string;
  /** What stands behind it. */
  readonly id: string;
  /** Tokens of request and answer together. Left out when not known: then nothing is compacted before a request fails. */
  readonly contextWindow?: number;
  /** Tokens. Left out when not known */
  readonly maxOutputTokens?: number;
  /** `false`: images are refused before it is asked, and left out of what it gets. Left out when not known */
  readonly seesImages?: boolean;
  /** For events: the wire format. Default: `custom` */
  readonly api?: string;
  /** For events: where requests go, an absolute URL. */
  readonly baseUrl?: string;
  /** Asks it once; ends early when the signal aborts. */
  stream(request: ModelRequest, signal: AbortSignal): AsyncIterable<ModelEvent>;
}
