import type { JSONObject } from '@ai-sdk/provider';
import type { ThinkingLevel } from './model.ts';
import type { ProviderApi } from './providers.ts';

const levels: ThinkingLevel[] = ['off', 'minimal', 'low', 'medium', 'high', 'xhigh'];

/** Tokens to think with, for models that want a number. */
const budgets: Record<ThinkingLevel, number> = {
  off: 0,
  minimal: 1_024,
  low: 2_048,
  medium: 8_192,
  high: 16_384,
  xhigh: 32_768,
};

/** The provider's own setting for a level; `undefined` for models that do not think or are not known to. */
export function thinkingOptions(
  api: ProviderApi | undefined,
  modelId: string,
  level: ThinkingLevel,
): JSONObject | undefined {
  switch (api) {
    case 'anthropic-messages':
      return anthropic(modelId, level);
    case 'openai-responses':
      return openai(modelId, level, { reasoningSummary: 'auto' });
    case 'openai-completions':
      return openai(modelId, level, {});
    case 'google-generative-ai':
      return google(modelId, level);
    case undefined:
      return undefined;
  }
}

/** The level itself where a model has it, else the nearest lower one, else its lowest. */
function nearest(level: ThinkingLevel, offered: ThinkingLevel[]): ThinkingLevel {
  const lower = levels.slice(0, levels.indexOf(level) + 1).reverse();
  return lower.find((candidate) => offered.includes(candidate)) ?? offered[0] ?? 'off';
}

function anthropic(modelId: string, level: ThinkingLevel): JSONObject | undefined {
  if (!modelId.includes('claude') || /claude-(2|instant|3-(haiku|opus|sonnet)|3-5-)/.test(modelId)) return undefined;
  if (level === 'off') {
    // These can't do without thinking: the library takes the least that they offer, and a low effort is the nearest.
    const always = /claude-((opus|sonnet)-5-5|fable-)/.test(modelId);
    return { thinking: { type: 'disabled' }, ...(always && { effort: 'low' }) };
  }
  // Until 4.5 a budget; since 4.6 the model decides, guided by an effort.
  if (/claude-(3-7|(opus|sonnet|haiku)-4(-[015])?(-\d{8}|-latest|$))/.test(modelId)) {
    // It must stay below the output limit, which is 32,000 for these.
    const most = /claude-opus-4(-[01])?(-\d{8}|-latest|$)/.test(modelId) ? 24_576 : 32_768;
    return { thinking: { type: 'enabled', budgetTokens: Math.min(budgets[level], most) } };
  }
  const highest = /claude-(opus|sonnet)-4-6/.test(modelId) ? 'high' : 'xhigh';
  const effort = nearest(level, ['low', 'medium', 'high', highest]);
  return { thinking: { type: 'adaptive', display: 'summarized' }, effort };
}

function openai(modelId: string, level: ThinkingLevel, thinking: JSONObject): JSONObject | undefined {
  const offered = openaiLevels(modelId);
  if (!offered) return undefined;
  const effort = nearest(level, offered);
  return effort === 'off' ? { reasoningEffort: 'none' } : { reasoningEffort: effort, ...thinking };
}

function openaiLevels(modelId: string): ThinkingLevel[] | undefined {
  if (/^o\d/.test(modelId)) return ['low', 'medium', 'high'];
  const [, major, minor, variant = ''] = /^gpt-(\d+)(?:\.(\d+))?(?:-(.+))?$/.exec(modelId) ?? [];
  if (major === undefined || Number(major) < 5 || variant.startsWith('chat')) return undefined;
  if (variant.startsWith('pro')) return ['high'];
  if (variant.startsWith('codex')) return ['low', 'medium', 'high'];
  if (Number(major) > 5) {
    const canDoWithout = /^gpt-(6-(sol|luna)|6\.1-terra)$/.test(modelId);
    return canDoWithout ? ['off', 'low', 'medium', 'high', 'xhigh'] : ['low', 'medium', 'high', 'xhigh'];
  }
  if (minor === undefined) return ['minimal', 'low', 'medium', 'high'];
  return Number(minor) === 1 ? ['off', 'low', 'medium', 'high'] : ['off', 'low', 'medium', 'high', 'xhigh'];
}

function google(modelId: string, level: ThinkingLevel): JSONObject | undefined {
  const [, major, variant = ''] = /^gemini-(\d+)(?:\.\d+)?-(.+)$/.exec(modelId) ?? [];
  if (/image|tts|audio/.test(variant)) return undefined;
  if (/^gemini-2\.5-/.test(modelId)) {
    // The pro model can't do without, and takes no more than this.
    const least = variant.startsWith('pro') ? 128 : 0;
    const thinkingBudget = Math.min(Math.max(budgets[level], least), variant.startsWith('pro') ? 32_768 : 24_576);
    return { thinkingConfig: { thinkingBudget, includeThoughts: level !== 'off' } };
  }
  if (major === undefined || Number(major) < 3) return undefined;
  const offered: ThinkingLevel[] = variant.includes('flash') ? ['minimal', 'low', 'medium', 'high'] : ['low', 'high'];
  return { thinkingConfig: { thinkingLevel: nearest(level, offered), includeThoughts: level !== 'off' } };
}
