import type { LanguageModelV3Usage } from '@ai-sdk/provider';
import type { ModelPrices, Usage } from './model.ts';
import type { ProviderApi } from './providers.ts';
import { type Tokens, withCost } from './usage.ts';

/** The usage of a whole answer. A server that reports none leaves the cost unknown: no answer is made of 0 tokens. */
export function usageOf({ inputTokens, outputTokens }: LanguageModelV3Usage, prices: ModelPrices | undefined): Usage {
  const { total = 0, cacheRead = 0, cacheWrite = 0 } = inputTokens;
  const tokens: Tokens = {
    input: inputTokens.noCache ?? Math.max(0, total - cacheRead - cacheWrite),
    output: outputTokens.total ?? 0,
    reasoning: outputTokens.reasoning ?? 0,
    cacheRead,
    cacheWrite,
  };
  const reported = inputTokens.total !== undefined && outputTokens.total !== undefined && total + tokens.output > 0;
  const usage = withCost(tokens, prices);
  return reported ? usage : { ...usage, cost: null };
}

/**
 * What a provider says of its usage before the end of an answer. The library keeps that to itself until `finish`, so it
 * is read from the provider's own chunks.
 */
export class ToldUsage {
  readonly #api: ProviderApi | undefined;
  readonly #prices: ModelPrices | undefined;
  #fields: Fields = {};

  constructor(api: ProviderApi | undefined, prices: ModelPrices | undefined) {
    this.#api = api;
    this.#prices = prices;
  }

  /** The usage so far; `undefined` when this chunk says nothing of it. */
  add(chunk: unknown): Usage | undefined {
    const { usage, usageMetadata, message, response } = fieldsOf(chunk);
    const told = usage ?? usageMetadata ?? fieldsOf(message).usage ?? fieldsOf(response).usage;
    if (typeof told !== 'object' || told === null) return undefined;
    // Anthropic says at the start what went in, and later only what came out.
    const known = Object.entries(told).filter(([, value]) => value !== null && value !== undefined);
    this.#fields = { ...this.#fields, ...Object.fromEntries(known) };
    const tokens = tokensOf(this.#api, this.#fields);
    return tokens && withCost(tokens, this.#prices);
  }
}

type Fields = Record<string, unknown>;

function fieldsOf(value: unknown): Fields {
  return { ...(value as object) }; // of whatever a provider sent; what has no fields gives none
}

function tokensOf(api: ProviderApi | undefined, fields: Fields): Tokens | undefined {
  const count = (name: string, within = fields) => {
    const value = within[name];
    return typeof value === 'number' ? value : 0;
  };
  const details = (name: string, part: string) => count(part, fieldsOf(fields[name]));
  switch (api) {
    case 'anthropic-messages':
      return {
        input: count('input_tokens'),
        output: count('output_tokens'),
        reasoning: details('output_tokens_details', 'thinking_tokens'),
        cacheRead: count('cache_read_input_tokens'),
        cacheWrite: count('cache_creation_input_tokens'),
      };
    case 'openai-responses':
    case 'openai-completions': {
      const [input, output] = api === 'openai-responses' ? ['input', 'output'] : ['prompt', 'completion'];
      const cacheRead = details(`${input}_tokens_details`, 'cached_tokens');
      const cacheWrite = details(`${input}_tokens_details`, 'cache_write_tokens');
      return {
        input: count(`${input}_tokens`) - cacheRead - cacheWrite,
        output: count(`${output}_tokens`),
        reasoning: details(`${output}_tokens_details`, 'reasoning_tokens'),
        cacheRead,
        cacheWrite,
      };
    }
    case 'google-generative-ai': {
      const cacheRead = count('cachedContentTokenCount');
      const reasoning = count('thoughtsTokenCount');
      return {
        input: count('promptTokenCount') - cacheRead,
        output: count('candidatesTokenCount') + reasoning,
        reasoning,
        cacheRead,
        cacheWrite: 0,
      };
    }
    case undefined:
      return undefined;
  }
}
