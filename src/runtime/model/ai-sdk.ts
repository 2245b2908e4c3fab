import type {
  LanguageModelV3,
  LanguageModelV3FinishReason,
  LanguageModelV3StreamPart,
  SharedV3ProviderMetadata,
  SharedV3ProviderOptions,
} from '@ai-sdk/provider';
import { requestError } from './ai-sdk-error.ts';
import { toPrompt } from './ai-sdk-prompt.ts';
import { ToldUsage, usageOf } from './ai-sdk-usage.ts';
import { ModelRequestError } from './errors.ts';
import type { ModelFacts } from './known-models.ts';
import type { FinishReason, Model, ModelEvent, ModelRequest } from './model.ts';
import type { ProviderApi } from './providers.ts';
import { thinkingOptions } from './thinking.ts';

export interface AiSdkModelOptions extends ModelFacts {
  provider: string;
  id: string;
  /** The library's model, made at the first request: that is when a missing key is an error. */
  make(): LanguageModelV3;
  /** `undefined` when the wire format is not known; then nothing that is special to a provider is sent. */
  api: ProviderApi | undefined;
  baseUrl?: string;
  /** The provider keeps the answers: OpenAI's Responses API only. */
  storeResponses?: boolean;
}

/** A model of the AI SDK as ours. Its own retries are not used: `doStream` asks once. */
export function aiSdkModel(options: AiSdkModelOptions): Model {
  const { provider, id, api, baseUrl, contextWindow, maxTokens, seesImages } = options;
  let made: LanguageModelV3 | undefined;

  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    made ??= options.make();
    const providerOptions = optionsOf(options, request);
    const limit = Math.min(request.maxOutputTokens ?? Number.POSITIVE_INFINITY, maxTokens ?? Number.POSITIVE_INFINITY);
    let parts: AsyncIterable<LanguageModelV3StreamPart>;
    try {
      const result = await made.doStream({
        prompt: toPrompt(request, options),
        abortSignal: signal,
        // Every chunk then shows that the provider is alive, also those that the library has no use for.
        includeRawChunks: true,
        ...(Number.isFinite(limit) && { maxOutputTokens: limit }),
        ...(request.tools.length > 0 && { tools: toolsOf(request, api) }),
        ...(providerOptions && { providerOptions }),
      });
      parts = result.stream;
    } catch (error) {
      throw requestError(error);
    }
    try {
      yield* events(parts, options);
    } catch (error) {
      throw requestError(error);
    }
  }

  return {
    provider,
    id,
    api: api ?? 'ai-sdk',
    ...(baseUrl !== undefined && { baseUrl }),
    ...(contextWindow !== undefined && { contextWindow }),
    ...(maxTokens !== undefined && { maxOutputTokens: maxTokens }),
    ...(seesImages !== undefined && { seesImages }),
    stream,
  };
}

function toolsOf({ tools }: ModelRequest, api: ProviderApi | undefined) {
  return tools.map(({ name, description, parameters }) => ({
    type: 'function' as const,
    name,
    description,
    inputSchema: parameters,
    // OpenAI's Responses API is strict unless told otherwise, and strict knows no optional parameters.
    ...(api === 'openai-responses' && { strict: false }),
  }));
}

function optionsOf(options: AiSdkModelOptions, request: ModelRequest): SharedV3ProviderOptions | undefined {
  const { api, id, storeResponses = false } = options;
  const thinking = thinkingOptions(api, id, request.thinkingLevel);
  switch (api) {
    case 'anthropic-messages':
      return thinking && { anthropic: thinking };
    case 'openai-responses':
      return { openai: { store: storeResponses, ...thinking } };
    case 'openai-completions':
      return thinking && { openai: thinking };
    case 'google-generative-ai':
      return thinking && { google: thinking };
    case undefined:
      return undefined;
  }
}

async function* events(parts: AsyncIterable<LanguageModelV3StreamPart>, { api, cost }: AiSdkModelOptions) {
  const blocks = new Blocks();
  const told = new ToldUsage(api, cost);
  const response: { responseId?: string; responseModel?: string } = {};
  for await (const part of parts) {
    switch (part.type) {
      case 'text-start':
        blocks.add(part);
        break;
      case 'text-delta':
        yield { type: 'text-delta', index: blocks.add(part).index, text: part.delta } satisfies ModelEvent;
        break;
      case 'text-end':
        yield { type: 'text-end', ...blocks.end(part) } satisfies ModelEvent;
        break;
      case 'reasoning-start':
        yield { type: 'thinking-start', index: blocks.add(part).index } satisfies ModelEvent;
        break;
      case 'reasoning-delta': {
        const { index } = blocks.add(part);
        if (part.delta !== '') yield { type: 'thinking-delta', index, text: part.delta } satisfies ModelEvent;
        break;
      }
      case 'reasoning-end':
        yield { type: 'thinking-end', ...blocks.end(part) } satisfies ModelEvent;
        break;
      case 'tool-input-start':
        blocks.add(part);
        break;
      case 'tool-call': {
        if (part.providerExecuted) break; // no tool of ours
        const { toolCallId, toolName, input } = part;
        const block = blocks.end({ ...part, type: 'tool-input-end', id: toolCallId });
        yield { type: 'tool-call', toolCallId, toolName, input, ...block } satisfies ModelEvent;
        break;
      }
      case 'response-metadata':
        if (part.id !== undefined) response.responseId = part.id;
        if (part.modelId !== undefined) response.responseModel = part.modelId;
        break;
      case 'raw': {
        const usage = told.add(part.rawValue);
        yield (usage ? { type: 'usage', usage } : { type: 'progress' }) satisfies ModelEvent;
        break;
      }
      case 'error':
        throw requestError(part.error);
      case 'finish': {
        const finishReason = finishReasonOf(part.finishReason);
        yield {
          type: 'finish',
          finishReason,
          usage: usageOf(part.usage, cost),
          ...response,
        } satisfies ModelEvent;
      }
    }
  }
}

/** Gives each block of an answer its number, and gathers what its parts say for the provider's later use. */
class Blocks {
  readonly #blocks = new Map<string, { index: number; metadata: SharedV3ProviderMetadata }>();
  #count = 0;

  add(part: { type: string; id: string; providerMetadata?: SharedV3ProviderMetadata }) {
    const key = `${part.type.replace(/-(start|delta|end)$/, '')} ${part.id}`;
    let block = this.#blocks.get(key);
    if (!block) {
      block = { index: this.#count++, metadata: {} };
      this.#blocks.set(key, block);
    }
    for (const [provider, values] of Object.entries(part.providerMetadata ?? {})) {
      block.metadata[provider] = { ...block.metadata[provider], ...values };
    }
    return block;
  }

  /** The last of a block. Another with the same id is a new block. */
  end(part: { type: string; id: string; providerMetadata?: SharedV3ProviderMetadata }) {
    const { index, metadata } = this.add(part);
    this.#blocks.delete(`${part.type.replace(/-(start|delta|end)$/, '')} ${part.id}`);
    return Object.keys(metadata).length === 0 ? { index } : { index, providerMetadata: metadata };
  }
}

function finishReasonOf({ unified, raw }: LanguageModelV3FinishReason): FinishReason {
  if (unified !== 'other') return unified;
  // What the library says when the stream just ended, without the provider's word that it was complete.
  if (raw === undefined) throw new ModelRequestError('the answer ended before it was complete', { transient: true });
  return 'stop';
}
