import type { ModelPrices } from './model.ts';

/** What is known of a model besides its name. Sizes are tokens. */
export interface ModelFacts {
  /** Of request and answer together. */
  contextWindow?: number;
  /** Of an answer. */
  maxTokens?: number;
  /** US dollars per million tokens. */
  cost?: ModelPrices;
  /** `false`: images are refused before the model is asked. */
  seesImages?: boolean;
}

/** Models with names that are alike. `name` is the whole id, without the date of a version. */
interface Family extends ModelFacts {
  name: RegExp;
}

/** Anthropic: writing to the cache costs 1.25 times the input price, reading a tenth of it. */
function claude(name: RegExp, maxTokens: number, input: number, output: number): Family {
  const cost = { input, output, cacheRead: input / 10, cacheWrite: input * 1.25 };
  return { name, contextWindow: 200_000, maxTokens, cost, seesImages: true };
}

/** OpenAI: `cacheRead` is left out where a model has no cache, so that it can't be billed. */
function gpt(name: RegExp, contextWindow: number, maxTokens: number, prices?: [number, number, number?]): Family {
  const facts = { name, contextWindow, maxTokens, seesImages: true };
  if (!prices) return facts;
  const [input, output, cacheRead] = prices;
  return { ...facts, cost: { input, output, ...(cacheRead !== undefined && { cacheRead }) } };
}

function gemini(name: RegExp, maxTokens: number, prices?: [number, number, number]): Family {
  const facts = { name, contextWindow: 1_048_576, maxTokens, seesImages: true };
  if (!prices) return facts;
  const [input, output, cacheRead] = prices;
  return { ...facts, cost: { input, output, cacheRead } };
}

/**
 * From the providers' own lists, the first that fits. A price is here only when it is known and does not depend on the
 * size of the request, a window also when a model is known to have at least that much.
 */
const known: Record<string, Family[]> = {
  anthropic: [
    claude(/^claude-opus-4-6$/, 128_000, 5, 25),
    claude(/^claude-sonnet-4-6$/, 128_000, 3, 15),
    claude(/^claude-opus-4-5$/, 64_000, 5, 25),
    claude(/^claude-sonnet-4(-0|-5)?$/, 64_000, 3, 15),
    claude(/^claude-haiku-4-5$/, 64_000, 1, 5),
    claude(/^claude-opus-4(-0|-1)?$/, 32_000, 15, 75),
    // No Claude since the third has had a smaller window.
    { name: /^claude-(opus-4-[78]|(opus|sonnet|haiku|fable)-5(-[15])?)$/, contextWindow: 200_000, seesImages: true },
    { name: /^claude-3(-[57])?-(opus|sonnet|haiku)$/, contextWindow: 200_000 },
  ],
  openai: [
    gpt(/^gpt-5(\.1)?(-codex|-codex-max)?$/, 400_000, 128_000, [1.25, 10, 0.125]),
    gpt(/^gpt-5(-mini|\.1-codex-mini)$/, 400_000, 128_000, [0.25, 2, 0.025]),
    gpt(/^gpt-5-nano$/, 400_000, 128_000, [0.05, 0.4, 0.005]),
    gpt(/^gpt-5-pro$/, 400_000, 272_000, [15, 120]),
    gpt(/^gpt-5(\.1)?-chat$/, 128_000, 16_384, [1.25, 10, 0.125]),
    gpt(/^gpt-5\.2(-codex)?$/, 400_000, 128_000, [1.75, 14, 0.175]),
    gpt(/^gpt-5\.2-pro$/, 400_000, 128_000, [21, 168]),
    gpt(/^gpt-5\.\d-chat$/, 128_000, 16_384),
    gpt(/^gpt-5\.\d(-mini|-nano|-pro|-codex)?$/, 400_000, 128_000),
    gpt(/^gpt-4\.1$/, 1_047_576, 32_768, [2, 8, 0.5]),
    gpt(/^gpt-4\.1-mini$/, 1_047_576, 32_768, [0.4, 1.6, 0.1]),
    gpt(/^gpt-4\.1-nano$/, 1_047_576, 32_768, [0.1, 0.4, 0.025]),
    gpt(/^gpt-4o-2024-05-13$/, 128_000, 4_096, [5, 15]),
    gpt(/^gpt-4o$/, 128_000, 16_384, [2.5, 10, 1.25]),
    gpt(/^gpt-4o-mini$/, 128_000, 16_384, [0.15, 0.6, 0.075]),
    gpt(/^o1$/, 200_000, 100_000, [15, 60, 7.5]),
    gpt(/^o3$/, 200_000, 100_000, [2, 8, 0.5]),
    gpt(/^o4-mini$/, 200_000, 100_000, [1.1, 4.4, 0.275]),
    { ...gpt(/^o3-mini$/, 200_000, 100_000, [1.1, 4.4, 0.55]), seesImages: false },
    { ...gpt(/^gpt-3\.5-turbo$/, 16_385, 4_096, [0.5, 1.5]), seesImages: false },
  ],
  google: [
    gemini(/^gemini-2\.5-flash$/, 65_536, [0.3, 2.5, 0.03]),
    gemini(/^gemini-2\.5-flash-lite$/, 65_536, [0.1, 0.4, 0.01]),
    gemini(/^gemini-2\.0-flash$/, 8_192, [0.1, 0.4, 0.025]),
    gemini(/^gemini-2\.0-flash-lite$/, 8_192),
    gemini(/^gemini-3-flash$/, 65_536, [0.5, 3, 0.05]),
    gemini(/^gemini-(2\.5|3(\.\d)?)-(pro|flash|flash-lite)(-customtools)?$/, 65_536),
  ],
};

/** Dates, numbers and states of a version: `-20251101`, `-2025-08-07`, `-001`, `-preview`, `-preview-09-2025`, `-latest`. */
const version = /(-preview)?(-\d{8}|-\d{4}-\d{2}-\d{2}|-\d{2}-\d{4}|-\d{3,4}|-latest)?$/;

/** The facts of a model, also of a dated version of it. Empty for one that is not known. */
export function knownModel(provider: string, id: string): ModelFacts {
  const families = new Map(Object.entries(known)).get(provider) ?? [];
  for (const candidate of [id, id.replace(version, ''), id.replace('-preview', '')]) {
    const family = families.find(({ name }) => name.test(candidate));
    if (!family) continue;
    const { name: _, ...facts } = family;
    return facts;
  }
  return {};
}
