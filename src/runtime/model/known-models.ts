import type { ModelPrices } from './model.ts';

/** What is known of a model besides its name. Sizes are tokens. */
export interface ModelFacts {
  contextWindow?: number;
  maxTokens?: number;
  cost?: ModelPrices;
}

function facts(contextWindow: number, maxTokens: number, cost?: ModelPrices): ModelFacts {
  return { contextWindow, maxTokens, ...(cost && { cost }) };
}

/** Anthropic: writing to the cache costs 1.25 times the input price, reading a tenth of it. */
function claude(maxTokens: number, input: number, output: number): ModelFacts {
  return facts(200_000, maxTokens, { input, output, cacheRead: input / 10, cacheWrite: input * 1.25 });
}

/** From the providers' price lists, for models whose price does not depend on the size of the request. */
const known: Record<string, Record<string, ModelFacts>> = {
  anthropic: {
    'claude-opus-4-5': claude(64_000, 5, 25),
    'claude-sonnet-4-5': claude(64_000, 3, 15),
    'claude-haiku-4-5': claude(64_000, 1, 5),
    'claude-opus-4-1': claude(32_000, 15, 75),
  },
  openai: {
    'gpt-5': facts(400_000, 128_000, { input: 1.25, output: 10, cacheRead: 0.125 }),
    'gpt-5-mini': facts(400_000, 128_000, { input: 0.25, output: 2, cacheRead: 0.025 }),
    'gpt-5-nano': facts(400_000, 128_000, { input: 0.05, output: 0.4, cacheRead: 0.005 }),
    'gpt-5.1': facts(400_000, 128_000, { input: 1.25, output: 10, cacheRead: 0.125 }),
    'gpt-4.1': facts(1_047_576, 32_768, { input: 2, output: 8, cacheRead: 0.5 }),
    'gpt-4.1-mini': facts(1_047_576, 32_768, { input: 0.4, output: 1.6, cacheRead: 0.1 }),
    'gpt-4o': facts(128_000, 16_384, { input: 2.5, output: 10, cacheRead: 1.25 }),
    'gpt-4o-mini': facts(128_000, 16_384, { input: 0.15, output: 0.6, cacheRead: 0.075 }),
    'o4-mini': facts(200_000, 100_000, { input: 1.1, output: 4.4, cacheRead: 0.275 }),
  },
  google: {
    'gemini-2.5-pro': facts(1_048_576, 65_536),
    'gemini-2.5-flash': facts(1_048_576, 65_536, { input: 0.3, output: 2.5, cacheRead: 0.03 }),
  },
};

/** The facts of a model, also of a dated version of it (`claude-opus-4-5-20251101`). Empty for one that is not known. */
export function knownModel(provider: string, id: string): ModelFacts {
  const models = new Map(Object.entries(known[provider] ?? {}));
  return models.get(id) ?? models.get(id.replace(/-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$/, '')) ?? {};
}
