import { expect, test } from 'vitest';
import type { ThinkingLevel } from '../../../src/runtime/model/model.ts';
import type { ProviderApi } from '../../../src/runtime/model/providers.ts';
import { thinkingOptions } from '../../../src/runtime/model/thinking.ts';

const anthropic = 'anthropic-messages';
const openai = 'openai-responses';
const google = 'google-generative-ai';

// contract: 4.6-thinking, 4.6-thinking-ignored
test.each<[ProviderApi, string, ThinkingLevel, object | undefined]>([
  [anthropic, 'claude-opus-5', 'medium', { thinking: { type: 'adaptive', display: 'summarized' }, effort: 'medium' }],
  [anthropic, 'claude-opus-5', 'minimal', { thinking: { type: 'adaptive', display: 'summarized' }, effort: 'low' }],
  [anthropic, 'claude-opus-5', 'xhigh', { thinking: { type: 'adaptive', display: 'summarized' }, effort: 'xhigh' }],
  [anthropic, 'claude-sonnet-4-6', 'xhigh', { thinking: { type: 'adaptive', display: 'summarized' }, effort: 'high' }],
  [anthropic, 'claude-sonnet-4-5-20250929', 'low', { thinking: { type: 'enabled', budgetTokens: 2_048 } }],
  [anthropic, 'claude-opus-4-20250514', 'high', { thinking: { type: 'enabled', budgetTokens: 16_384 } }],
  [anthropic, 'claude-3-7-sonnet-latest', 'low', { thinking: { type: 'enabled', budgetTokens: 2_048 } }],
  [anthropic, 'claude-opus-5', 'off', { thinking: { type: 'disabled' } }],
  [anthropic, 'claude-3-5-haiku-latest', 'high', undefined],
  [anthropic, 'some-other-model', 'high', undefined],
  [openai, 'gpt-5', 'off', { reasoningEffort: 'minimal', reasoningSummary: 'auto' }],
  [openai, 'gpt-5-mini', 'xhigh', { reasoningEffort: 'high', reasoningSummary: 'auto' }],
  [openai, 'gpt-5.1', 'minimal', { reasoningEffort: 'none' }],
  [openai, 'gpt-5.2', 'xhigh', { reasoningEffort: 'xhigh', reasoningSummary: 'auto' }],
  [openai, 'gpt-6-sol', 'minimal', { reasoningEffort: 'none' }],
  [openai, 'gpt-6.1-sol', 'off', { reasoningEffort: 'low', reasoningSummary: 'auto' }],
  [openai, 'gpt-5-codex', 'minimal', { reasoningEffort: 'low', reasoningSummary: 'auto' }],
  [anthropic, 'claude-opus-5-5', 'off', { thinking: { type: 'disabled' }, effort: 'low' }],
  [anthropic, 'claude-opus-4-1', 'xhigh', { thinking: { type: 'enabled', budgetTokens: 24_576 } }],
  [anthropic, 'claude-opus-4-5', 'xhigh', { thinking: { type: 'enabled', budgetTokens: 32_768 } }],
  [google, 'gemini-4-argon', 'minimal', { thinkingConfig: { thinkingLevel: 'low', includeThoughts: true } }],
  [openai, 'o4-mini', 'minimal', { reasoningEffort: 'low', reasoningSummary: 'auto' }],
  [openai, 'gpt-4.1', 'high', undefined],
  ['openai-completions', 'gpt-5', 'low', { reasoningEffort: 'low' }],
  ['openai-completions', 'llama-4', 'low', undefined],
  [google, 'gemini-2.5-flash', 'off', { thinkingConfig: { thinkingBudget: 0, includeThoughts: false } }],
  [google, 'gemini-2.5-flash', 'xhigh', { thinkingConfig: { thinkingBudget: 24_576, includeThoughts: true } }],
  [google, 'gemini-2.5-pro', 'off', { thinkingConfig: { thinkingBudget: 128, includeThoughts: false } }],
  [google, 'gemini-3-pro-preview', 'medium', { thinkingConfig: { thinkingLevel: 'low', includeThoughts: true } }],
  [google, 'gemini-3.5-flash', 'xhigh', { thinkingConfig: { thinkingLevel: 'high', includeThoughts: true } }],
  [google, 'gemini-2.0-flash', 'high', undefined],
  [google, 'gemma-3-27b-it', 'high', undefined],
])('%s %s at level %s', (api, model, level, options) => {
  expect(thinkingOptions(api, model, level)).toEqual(options);
});
