import { Models, type ProviderApi } from '../../../src/runtime/model/providers.ts';
import {
  anthropicEvents,
  chatEvents,
  googleEvents,
  type ProviderAnswer,
  type Reply,
  responsesEvents,
  startProvider,
} from '../../support/provider-server.ts';

/** The wire formats, each with a model that thinks if any does, and what makes an answer in it. */
export const wires: { api: ProviderApi; model: string; events(answer: ProviderAnswer): unknown[]; thinks: boolean }[] =
  [
    { api: 'anthropic-messages', model: 'claude-opus-5', events: anthropicEvents, thinks: true },
    { api: 'openai-responses', model: 'gpt-5.2', events: responsesEvents, thinks: true },
    { api: 'openai-completions', model: 'some/model', events: chatEvents, thinks: false },
    { api: 'google-generative-ai', model: 'gemini-3.5-flash', events: googleEvents, thinks: true },
  ];

const prices = { input: 1_000_000, output: 10_000_000, cacheRead: 100_000, cacheWrite: 0 };

/** A model of a provider on this machine that gives these replies. */
export async function served({ api, model }: { api: ProviderApi; model: string }, replies: Reply[]) {
  const provider = await startProvider(replies);
  const { baseUrl } = provider;
  const models = new Models({ here: { api, baseUrl, apiKey: 'secret-key', models: { [model]: { cost: prices } } } });
  return { provider, model: models.resolve(`here/${model}`) };
}
