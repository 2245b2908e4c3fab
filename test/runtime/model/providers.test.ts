import { describe, expect, test } from 'vitest';
import type { EventBody } from '../../../src/runtime/events/event.ts';
import {
  InvalidModelError,
  ModelNotFoundError,
  OperationFailedError,
  ProviderCredentialsError,
  ProviderRegistrationError,
} from '../../../src/runtime/model/errors.ts';
import { knownModel } from '../../../src/runtime/model/known-models.ts';
import type { Message } from '../../../src/runtime/model/model.ts';
import { Models, registerProvider } from '../../../src/runtime/model/providers.ts';
import { textResult } from '../../../src/runtime/model/tool.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import {
  anthropicEvents,
  chatEvents,
  googleEvents,
  type ProviderAnswer,
  type Reply,
  responsesEvents,
  startProvider,
} from '../../support/provider-server.ts';
import { converse, tool } from './conversation-of.ts';
import { served, wires } from './served.ts';

const echo = tool('echo', (input) => `got ${JSON.stringify(input)}`);
/** What a server sends that does not count tokens. */
function withoutUsage(event: unknown): unknown {
  return JSON.parse(
    JSON.stringify(event, (key, value) => {
      if (key === 'usageMetadata') return undefined;
      // These wires demand numbers.
      if (key === 'usage' && value !== null && 'input_tokens' in value) return { input_tokens: 0, output_tokens: 0 };
      return key === 'usage' ? (value?.output_tokens === undefined ? undefined : { output_tokens: 0 }) : value;
    }),
  );
}

describe.each(wires)('$api', (wire) => {
  const stream = (answer: ProviderAnswer, ending: 'end' | 'cut' | 'silence' = 'end'): Reply => ({
    events: wire.events(answer),
    ending,
  });

  // contract: 4.6-apis, 8-request-summary, 4.4-cost, 4.4-total
  test('streams text, counts tokens and says what they cost', async () => {
    const { provider, model } = await served(wire, [stream({ text: 'Hello, wörld!' })]);
    await using _ = provider;
    const { result, events } = converse(model);
    expect(await result).toEqual({ text: 'Hello, wörld!', finishReason: 'stop', turns: 1 });
    expect(events.filter(({ type }) => type === 'text_delta').length).toBeGreaterThan(3);
    expect(events.find(({ type }) => type === 'turn')).toMatchObject({
      request: { providerId: 'here', requestedModel: wire.model, api: wire.api, serverAddress: '127.0.0.1' },
      response: { finishReason: 'stop' },
      usage: {
        ...{ input: 15, output: 7, cacheRead: 5, cacheWrite: 0, totalTokens: 27 },
        cost: { input: 15, output: 70, cacheRead: 0.5, total: 85.5 },
      },
    });
  });

  // contract: 4.6-apis, 4.2-results-in-order
  test('runs the parallel calls of an answer, whose arguments come in pieces, and sends the results back', async () => {
    const toolCalls = [
      { id: 'call_a', name: 'echo', pieces: ['{"path":', '"a.ts"', '}'] },
      { id: 'call_b', name: 'echo', pieces: ['{"path":"b', '.ts"}'] },
    ];
    const { provider, model } = await served(wire, [stream({ text: 'Two.', toolCalls }), stream({ text: 'Done.' })]);
    await using _ = provider;
    const { result, messages } = converse(model, { tools: [echo] });
    expect(await result).toMatchObject({ text: 'Done.', turns: 2 });
    const results = messages.filter((message) => message.role === 'tool');
    expect(results.map(({ content }) => content)).toMatchObject([
      [{ text: 'got {"path":"a.ts"}' }],
      [{ text: 'got {"path":"b.ts"}' }],
    ]);
    const sent = JSON.stringify(provider.requests[1]?.body);
    expect(sent).toContain(String.raw`got {\"path\":\"a.ts\"}`);
    expect(sent).toContain('You are a test.');
    expect(sent).toContain('"echo"');
    expect(sent.indexOf('a.ts')).toBeLessThan(sent.indexOf('b.ts'));
  });

  // contract: 4.2-bad-json
  test('gives arguments that are no JSON an error result, and the model goes on', async () => {
    if (wire.api === 'google-generative-ai') return; // whose arguments are objects, not text
    const toolCalls = [{ id: 'call_a', name: 'echo', pieces: ['{"path": ', 'oops'] }];
    const { provider, model } = await served(wire, [stream({ toolCalls }), stream({ text: 'Sorry.' })]);
    await using _ = provider;
    const { result, messages } = converse(model, { tools: [echo] });
    expect(await result).toMatchObject({ text: 'Sorry.' });
    expect(messages.find(({ role }) => role === 'tool')).toMatchObject({ isError: true });
    expect(JSON.stringify(provider.requests[1]?.body)).toContain('not JSON');
  });

  // contract: 4.6-thinking-streamed
  test('streams thinking, and sends back what the provider wants to see again', async () => {
    if (!wire.thinks) return;
    const toolCalls = [{ id: 'call_a', name: 'echo', pieces: ['{}'] }];
    const { provider, model } = await served(wire, [
      stream({ thinking: 'Let me see.', toolCalls }),
      stream({ text: 'Done.' }),
    ]);
    await using _ = provider;
    const { result, messages, events } = converse(model, { tools: [echo], thinkingLevel: 'high' });
    await result;
    expect(messages[1]).toMatchObject({ content: [{ type: 'thinking', text: 'Let me see.' }, { type: 'tool-call' }] });
    expect(events.find(({ type }) => type === 'thinking_end')).toMatchObject({ content: 'Let me see.' });
    const [first, second] = provider.requests.map(({ body }) => JSON.stringify(body));
    expect(first).toMatch(/"(effort|thinkingLevel)":"high"/);
    expect(second).toMatch(/"signature":"signed"|"encrypted_content":"sealed"|"thoughtSignature":"signed"/);
  });

  // contract: 4.4-cost-unknown, 4.4-cost-untold
  test('says that the cost is not known when the server does not say what was used', async () => {
    const events = wire
      .events({ text: 'ok' })
      .map((event) => (typeof event === 'string' ? event : withoutUsage(event)));
    const { provider, model } = await served(wire, [{ events }]);
    await using _ = provider;
    const { result, events: told } = converse(model);
    expect(await result).toMatchObject({ text: 'ok' });
    expect(told.find(({ type }) => type === 'turn')).toMatchObject({ usage: { totalTokens: 0, cost: null } });
  });

  // contract: 3.2-result-length
  test('says so when the output limit was reached', async () => {
    const { provider, model } = await served(wire, [stream({ text: 'half', finish: 'length' })]);
    await using _ = provider;
    expect(await converse(model).result).toMatchObject({ text: 'half', finishReason: 'length' });
  });

  // contract: 4.3-refused
  test('fails for good when the content is refused', async () => {
    const { provider, model } = await served(wire, [stream({ text: 'I', finish: 'refusal' }), stream({ text: 'no' })]);
    await using _ = provider;
    await expect(converse(model).result).rejects.toThrow(OperationFailedError);
    expect(provider.requests).toHaveLength(1);
  });

  // contract: 4.3-statuses, 4.3-retry-after, 4.3-own-retries, 8-retry
  test('asks again after 429 when it was told to, and after 529 and 500', async () => {
    const body = {
      type: 'error',
      error: { type: 'some_error', message: 'Later, please.', status: 'UNAVAILABLE', code: 429 },
    };
    const { provider, model } = await served(wire, [
      { status: 429, headers: { 'retry-after': '7' }, body },
      { status: 529, body },
      { status: 500, body },
      stream({ text: 'ok' }),
    ]);
    await using _ = provider;
    const { result, waits, events } = converse(model);
    expect(await result).toMatchObject({ text: 'ok' });
    expect(waits[0]).toBe(7000);
    expect(events.find(({ type }) => type === 'retry')).toMatchObject({ error: { message: 'Later, please.' } });
  });

  // contract: 4.3-waits
  test('waits 2 s or a little less after 429 that names no time', async () => {
    const body = { type: 'error', error: { type: 'rate_limit_error', message: 'Later.', status: 'X', code: 429 } };
    const { provider, model } = await served(wire, [{ status: 429, body }, stream({ text: 'ok' })]);
    await using _ = provider;
    const { result, waits } = converse(model);
    expect(await result).toMatchObject({ text: 'ok' });
    expect(waits).toHaveLength(1);
    expect(waits[0]).toBeGreaterThanOrEqual(1500);
    expect(waits[0]).toBeLessThanOrEqual(2000);
  });

  // contract: 4.3-retry-after
  test('waits until the date that 429 names, and fails at once when that is too far', async () => {
    const body = { type: 'error', error: { type: 'rate_limit_error', message: 'Later.', status: 'X', code: 429 } };
    const inMs = (ms: number) => ({ 'retry-after': new Date(Date.now() + ms).toUTCString() });
    const { provider, model } = await served(wire, [
      { status: 429, headers: inMs(50_000), body },
      { status: 429, headers: inMs(3_600_000), body },
    ]);
    await using _ = provider;
    const { result, waits } = converse(model);
    await expect(result).rejects.toThrow(OperationFailedError);
    expect(waits).toHaveLength(1);
    expect(waits[0]).toBeGreaterThan(30_000);
  });

  // contract: 4.3-cut
  test('asks again when the stream is cut in the middle of a tool call, and runs nothing of it', async () => {
    const toolCalls = [{ id: 'call_a', name: 'echo', pieces: ['{"path":', '"a.ts"', '}'] }];
    const whole = wire.events({ text: 'I look.', toolCalls });
    const text = (event: unknown) => JSON.stringify(event);
    // Google's calls come in one piece: the stream is cut after one, before its end.
    const piece = wire.api === 'google-generative-ai' ? /functionCall/ : /\{\\"path\\":"/;
    const cut = whole.slice(0, whole.findIndex((event) => piece.test(text(event))) + 1);
    expect(cut.length).toBeGreaterThan(3);
    const { provider, model } = await served(wire, [{ events: cut, ending: 'cut' }, stream({ text: 'ok' })]);
    await using _ = provider;
    const calls: unknown[] = [];
    const noted = tool('echo', (input) => {
      calls.push(input);
      return '';
    });
    expect(await converse(model, { tools: [noted] }).result).toMatchObject({ text: 'ok' });
    expect(calls).toEqual([]);
    expect(text(provider.requests[1]?.body)).not.toContain('I look.');
  });

  // contract: 4.2-unknown-tool
  test('tells the model that there is no tool of that name', async () => {
    const toolCalls = [{ id: 'call_a', name: 'fly', pieces: ['{}'] }];
    const { provider, model } = await served(wire, [stream({ toolCalls }), stream({ text: 'ok' })]);
    await using _ = provider;
    expect(await converse(model, { tools: [echo] }).result).toMatchObject({ text: 'ok', turns: 2 });
    expect(JSON.stringify(provider.requests[1]?.body)).toMatch(/There is no tool named .*The tools are: echo/);
  });

  // contract: 4.2-empty
  test('asks again after an empty answer, and takes the second as the last word', async () => {
    const { provider, model } = await served(wire, [stream({}), stream({})]);
    await using _ = provider;
    const { result, waits } = converse(model);
    expect(await result).toEqual({ text: '', finishReason: 'stop', turns: 1 });
    expect(waits).toHaveLength(1);
  });

  test('gets 256 KB of what a tool says in 10 MB', async () => {
    const long = tool('long', () => 'x'.repeat(10 * 1024 * 1024));
    const toolCalls = [{ id: 'call_a', name: 'long', pieces: ['{}'] }];
    const { provider, model } = await served(wire, [stream({ toolCalls }), stream({ text: 'ok' })]);
    await using _ = provider;
    expect(await converse(model, { tools: [long] }).result).toMatchObject({ text: 'ok' });
    const sent = JSON.stringify(provider.requests[1]?.body);
    expect(sent).toContain('[Cut: this is the first 262144 of 10485760 bytes.]');
    expect(sent.length).toBeLessThan(300_000);
  });

  // contract: 4.3-cut
  test('asks again when the stream is cut', async () => {
    const cut = wire.events({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [{ events: cut, ending: 'cut' }, stream({ text: 'whole' })]);
    await using _ = provider;
    const { result, messages } = converse(model);
    expect(await result).toMatchObject({ text: 'whole' });
    expect(messages.at(-2)).toMatchObject({ finishReason: 'error' });
  });

  // contract: 4.3-cut
  test('asks again when the stream ends without a word that it is complete', async () => {
    const cut = wire.events({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [{ events: cut }, stream({ text: 'whole' })]);
    await using _ = provider;
    expect(await converse(model).result).toMatchObject({ text: 'whole' });
  });

  // contract: 4.3-silent
  test('asks again when the stream goes silent', async () => {
    const begun = wire.events({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [{ events: begun, ending: 'silence' }, stream({ text: 'whole' })]);
    await using _ = provider;
    const { result, events } = converse(model, { idleTimeoutMs: 200 });
    expect(await result).toMatchObject({ text: 'whole' });
    expect(events.find(({ type }) => type === 'retry')).toMatchObject({ error: { message: /silent/ } });
  });

  test('asks again when the stream holds what is no JSON', async () => {
    const broken = [...wire.events({ text: 'half of the answer' }).slice(0, 4), '{"type":'];
    const { provider, model } = await served(wire, [{ events: broken }, stream({ text: 'whole' })]);
    await using _ = provider;
    expect(await converse(model).result).toMatchObject({ text: 'whole' });
  });

  // contract: 4.3-connection, 4.3-waits
  test('asks again when nobody listens, and gives up after three times', async () => {
    const provider = await startProvider([]);
    const { baseUrl } = provider;
    await provider[Symbol.asyncDispose]();
    const model = new Models({ here: { api: wire.api, baseUrl, apiKey: 'k' } }).resolve(`here/${wire.model}`);
    const { result, waits } = converse(model);
    await expect(result).rejects.toMatchObject({ code: 'operation_failed', meta: { reason: /ECONNREFUSED/ } });
    expect(waits).toHaveLength(3);
  });

  // contract: 4.3-other-4xx, 4.3-quota, 4.3-failed, 4.3-own-retries
  test.each([
    { status: 401, code: 'invalid_api_key', message: 'Invalid key.' },
    { status: 400, code: 'invalid_request', message: 'Prompt too strange.' },
    { status: 404, code: 'not_found', message: 'No such model.' },
    { status: 429, code: 'insufficient_quota', message: 'Pay first.' },
  ])('fails at once with $status $code, and says why', async ({ status, code, message }) => {
    const body = {
      type: 'error',
      error: { type: code, code: wire.api.startsWith('google') ? status : code, message, status: code },
    };
    const { provider, model } = await served(wire, [{ status, body }, stream({ text: 'no' })]);
    await using _ = provider;
    const failure = await converse(model).result.catch((error) => error);
    expect(failure).toBeInstanceOf(OperationFailedError);
    expect(failure.meta).toEqual({ operation: 'prompt', reason: message, status });
    expect(provider.requests).toHaveLength(1);
  });

  // contract: 3.4-abort-stream
  test('an abort closes the connection', async () => {
    const begun = wire.events({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [{ events: begun, ending: 'silence' }]);
    await using _ = provider;
    const stop = new AbortController();
    const { result, messages } = converse(model, {
      signal: stop.signal,
      emit: ({ type }) => {
        if (type === 'text_delta') stop.abort();
      },
    });
    await expect(result).rejects.toMatchObject({ name: 'AbortError' });
    expect(messages.at(-1)).toMatchObject({ finishReason: 'aborted' });
  });

  test('sees the images that a tool gives', async () => {
    const image = { type: 'image', data: 'aW1hZ2U=', mimeType: 'image/png' } as const;
    const camera = {
      ...echo,
      name: 'camera',
      run: async () => ({ content: [{ type: 'text', text: 'cat.png' } as const, image] }),
    };
    const toolCalls = [{ id: 'call_a', name: 'camera', pieces: ['{}'] }];
    const { provider, model } = await served(wire, [stream({ toolCalls }), stream({ text: 'A cat.' })]);
    await using _ = provider;
    await converse(model, { tools: [camera] }).result;
    const sent = JSON.stringify(provider.requests[1]?.body);
    expect(sent).toContain('aW1hZ2U=');
    expect(sent).not.toContain(String.raw`\"aW1hZ2U=\"`); // an image, not text about one
  });
});

// contract: 4.6-cache-marks
test('Anthropic gets marks for its cache on the system prompt and the last two messages', async () => {
  const wire = { api: 'anthropic-messages', model: 'claude-opus-5' } as const;
  const toolCalls = [{ id: 'call_a', name: 'echo', pieces: ['{}'] }];
  const { provider, model } = await served(wire, [
    { events: anthropicEvents({ toolCalls }) },
    { events: anthropicEvents({ text: 'ok' }) },
  ]);
  await using _ = provider;
  await converse(model, { tools: [echo] }).result;
  const { system, messages } = provider.requests[1]?.body ?? {};
  const mark = { type: 'ephemeral' };
  expect(system).toMatchObject([{ cache_control: mark }]);
  expect(messages).toMatchObject([
    { role: 'user', content: [{ cache_control: mark }] },
    { role: 'assistant' },
    { role: 'user', content: [{ type: 'tool_result', cache_control: mark }] },
  ]);
});

describe('an answer that broke off counts', () => {
  const usageOf = ({ events }: ReturnType<typeof converse>) =>
    events.flatMap((event) => (event.type === 'turn' ? [event.usage] : []));

  // contract: 3.4-abort-usage, 4.4-failed
  test('as Anthropic said at its start, also when it was aborted', async () => {
    const wire = { api: 'anthropic-messages', model: 'claude-opus-5' } as const;
    const begun = anthropicEvents({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [
      { events: begun, ending: 'cut' },
      { events: begun, ending: 'silence' },
    ]);
    await using _ = provider;
    const stop = new AbortController();
    let deltas = 0;
    const events: EventBody[] = [];
    const { result } = converse(model, {
      signal: stop.signal,
      emit: (event) => {
        events.push(event);
        if (event.type === 'text_delta' && ++deltas === 2) stop.abort();
      },
    });
    await expect(result).rejects.toMatchObject({ name: 'AbortError' });
    const used = { input: 15, output: 1, cacheRead: 5, totalTokens: 21, cost: { total: 25.5 } };
    expect(events.flatMap((event) => (event.type === 'turn' ? [event.usage] : []))).toMatchObject([used, used]);
  });

  // contract: 4.4-failed
  test('as Google said with each of its chunks', async () => {
    const wire = { api: 'google-generative-ai', model: 'gemini-3.5-flash' } as const;
    const [chunk] = googleEvents({ text: 'half' });
    const usageMetadata = {
      promptTokenCount: 20,
      cachedContentTokenCount: 5,
      thoughtsTokenCount: 2,
      totalTokenCount: 22,
    };
    const { provider, model } = await served(wire, [
      { events: [{ ...(chunk as object), usageMetadata }], ending: 'cut' },
      { events: googleEvents({ text: 'ok' }) },
    ]);
    await using _ = provider;
    const talk = converse(model);
    await talk.result;
    expect(usageOf(talk)[0]).toMatchObject({ input: 15, output: 2, reasoning: 2, cacheRead: 5, cost: { total: 35.5 } });
  });

  test.each([
    [
      'openai-responses',
      {
        type: 'response.failed',
        sequence_number: 9,
        response: {
          error: { code: 'server_error', message: 'Oops' },
          usage: { input_tokens: 20, input_tokens_details: { cached_tokens: 5 }, output_tokens: 3 },
        },
      },
    ],
    [
      'openai-completions',
      { choices: [], usage: { prompt_tokens: 20, prompt_tokens_details: { cached_tokens: 5 }, completion_tokens: 3 } },
    ],
  ] as const)('as %s said before the end', async (api, last) => {
    const wire = wires.find((candidate) => candidate.api === api);
    if (!wire) throw new Error(api);
    const begun = wire.events({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [
      { events: [...begun, last], ending: 'cut' },
      { events: wire.events({ text: 'ok' }) },
    ]);
    await using _ = provider;
    const talk = converse(model);
    await talk.result;
    expect(usageOf(talk)[0]).toMatchObject({ input: 15, output: 3, cacheRead: 5, cost: { total: 45.5 } });
  });

  // contract: 4.4-cost-unknown
  test('as an unknown cost when nothing was said, but not when there was no answer at all', async () => {
    const wire = { api: 'openai-completions', model: 'some/model' } as const;
    const begun = chatEvents({ text: 'half of the answer' }).slice(0, 4);
    const { provider, model } = await served(wire, [
      { status: 503, body: {} },
      { events: begun, ending: 'cut' },
      { events: chatEvents({ text: 'ok' }) },
    ]);
    await using _ = provider;
    const talk = converse(model);
    await talk.result;
    expect(usageOf(talk)).toMatchObject([undefined, { totalTokens: 0, cost: null }, { cost: { total: 85.5 } }]);
  });
});

describe('a conversation that another model began', () => {
  const asked: Message = { role: 'user', content: [{ type: 'text', text: 'one' }] };
  const answer = (toolCallId: string, model: { provider: string; id: string }, key: string): Message => ({
    role: 'assistant',
    model,
    content: [
      {
        type: 'thinking',
        text: 'secret thought',
        providerMetadata: {
          [key]: { signature: 'foreign-seal', itemId: 'rs_foreign', reasoningEncryptedContent: 'foreign-seal' },
        },
      },
      {
        type: 'text',
        text: 'I look.',
        providerMetadata: { [key]: { itemId: 'msg_foreign', thoughtSignature: 'foreign-seal' } },
      },
      {
        type: 'tool-call',
        toolCallId,
        toolName: 'echo',
        input: '{}',
        providerMetadata: { [key]: { itemId: 'fc_foreign', thoughtSignature: 'foreign-seal' } },
      },
    ],
  });
  const result = (toolCallId: string, text: string): Message => ({
    role: 'tool',
    toolCallId,
    toolName: 'echo',
    isError: false,
    content: [{ type: 'text', text }],
  });
  const metadataKeys = {
    'anthropic-messages': 'anthropic',
    'openai-responses': 'openai',
    'openai-completions': 'openai',
    'google-generative-ai': 'google',
  };

  // contract: 4.6-thinking-streamed, 4.6-another-model
  test.each(wires)('goes on with $api without its thoughts, its seals and its ids', async (wire) => {
    const key = metadataKeys[wire.api];
    const conversation = (model: { provider: string; id: string }): Message[] => [
      asked,
      answer('call_1', model, key),
      result('call_1', 'found'),
      asked,
    ];
    const { provider, model } = await served(wire, [
      { events: wire.events({ text: 'ok' }) },
      { events: wire.events({ text: 'ok' }) },
    ]);
    await using _ = provider;
    await converse(model, { context: () => conversation({ provider: 'elsewhere', id: wire.model }) }).result;
    await converse(model, { context: () => conversation({ provider: model.provider, id: model.id }) }).result;
    const [foreign, own] = provider.requests.map(({ body }) => JSON.stringify(body));
    expect(foreign).toContain('I look.');
    expect(foreign).toContain('found');
    expect(foreign).not.toMatch(/secret thought|foreign/);
    if (wire.thinks) expect(own).toMatch(/foreign-seal/);
  });

  // contract: 4.6-call-ids
  test('gets ids of calls that every provider takes, each only once', async () => {
    const wire = { api: 'anthropic-messages', model: 'claude-opus-5' } as const;
    const { provider, model } = await served(wire, [{ events: anthropicEvents({ text: 'ok' }) }]);
    await using _ = provider;
    const elsewhere = { provider: 'elsewhere', id: 'x' };
    const ids = ['functions.echo:0', 'call_0', 'call_0', 'x'.repeat(70)];
    const messages = ids.flatMap((id, i) => [asked, answer(id, elsewhere, 'openai'), result(id, `result ${i}`)]);
    await converse(model, { context: () => messages }).result;
    const blocks = provider.requests[0]?.body.messages.flatMap(({ content }: { content: object[] }) => content);
    const called = blocks.flatMap((block: { type: string; id: string }) =>
      block.type === 'tool_use' ? [block.id] : [],
    );
    const answered = blocks.filter(({ type }: { type: string }) => type === 'tool_result');
    expect(new Set(called).size).toBe(4);
    for (const id of called) expect(id).toMatch(/^[a-zA-Z0-9_-]{1,64}$/);
    expect(called[1]).toBe('call_0');
    expect(answered).toMatchObject(ids.map((_, i) => ({ tool_use_id: called[i], content: `result ${i}` })));
  });

  // contract: 4.6-call-ids
  test("gets ids of nine letters and digits for Mistral's models", async () => {
    const wire = { api: 'openai-completions', model: 'mistral-large-latest' } as const;
    const { provider, model } = await served(wire, [{ events: chatEvents({ text: 'ok' }) }]);
    await using _ = provider;
    const own = { provider: model.provider, id: model.id };
    const messages = ['call_abcdef', 'Ab3dE6gH9'].flatMap((id) => [
      asked,
      answer(id, own, 'openai'),
      result(id, 'found'),
    ]);
    await converse(model, { context: () => messages }).result;
    const sent = provider.requests[0]?.body.messages;
    const called = sent.flatMap(({ tool_calls = [] }: { tool_calls?: { id: string }[] }) =>
      tool_calls.map(({ id }) => id),
    );
    expect(called).toEqual([expect.stringMatching(/^[A-Za-z0-9]{9}$/), 'Ab3dE6gH9']);
    expect(sent.flatMap(({ tool_call_id }: { tool_call_id?: string }) => tool_call_id ?? [])).toEqual(called);
  });
});

test('calls that a server gives the same id, or none, are told apart', async () => {
  const wire = { api: 'openai-completions', model: 'some/model' } as const;
  const toolCalls = ['a', 'b', 'c'].map((path, i) => ({
    id: i < 2 ? 'same' : '',
    name: 'echo',
    pieces: [JSON.stringify({ path })],
  }));
  const { provider, model } = await served(wire, [
    { events: chatEvents({ toolCalls }) },
    { events: chatEvents({ text: 'ok' }) },
  ]);
  await using _ = provider;
  await converse(model, { tools: [echo] }).result;
  const sent = provider.requests[1]?.body.messages;
  const called: { id: string; function: { arguments: string } }[] = sent[2].tool_calls;
  expect(new Set(called.map(({ id }) => id)).size).toBe(3);
  expect(called.map((call) => JSON.parse(call.function.arguments).path)).toEqual(['a', 'b', 'c']);
  expect(sent.slice(3)).toMatchObject(
    called.map(({ id, function: { arguments: text } }) => ({ role: 'tool', tool_call_id: id, content: `got ${text}` })),
  );
});

// contract: 4.3-overloaded, 4.3-other-4xx
test('an error that Anthropic reports in the middle of its stream counts by its type', async () => {
  const wire = { api: 'anthropic-messages', model: 'claude-opus-5' } as const;
  const failing = (type: string, events: number): Reply => ({
    events: [
      ...anthropicEvents({ text: 'half of the answer' }).slice(0, events),
      { type: 'error', error: { type, message: 'Hm.' } },
    ],
  });
  const ok: Reply = { events: anthropicEvents({ text: 'ok' }) };
  const passing = await served(wire, [failing('overloaded_error', 4), failing('overloaded_error', 0), ok]);
  await using _ = passing.provider;
  expect(await converse(passing.model).result).toMatchObject({ text: 'ok' });
  const lasting = await served(wire, [failing('invalid_request_error', 4), ok]);
  await using __ = lasting.provider;
  await expect(converse(lasting.model).result).rejects.toMatchObject({ meta: { status: 400, reason: 'Hm.' } });
});

// contract: 4.6-store-responses
test('the Responses API keeps nothing unless told to, and takes tools that are not strict', async () => {
  const wire = { api: 'openai-responses', model: 'gpt-5.2' } as const;
  const { provider, model } = await served(wire, [{ events: responsesEvents({ text: 'ok' }) }]);
  await using _ = provider;
  await converse(model, { tools: [echo] }).result;
  expect(provider.requests[0]?.body).toMatchObject({
    store: false,
    include: ['reasoning.encrypted_content'],
    tools: [{ name: 'echo', strict: false }],
  });
});

// contract: 4.6-headers, 4.6-register, 4.6-name, 4.6-key
test('headers and key of a registration are sent, the limit of its models too', async () => {
  await using provider = await startProvider([{ events: chatEvents({ text: 'ok' }) }]);
  registerProvider('headers-test', {
    api: 'openai-completions',
    baseUrl: provider.baseUrl,
    apiKey: ' key-1\n',
    headers: { 'x-team': 'blue' },
    maxTokens: 100,
    models: { 'org/small': { maxTokens: 50, contextWindow: 1000 } },
  });
  const model = new Models().resolve('headers-test/org/small');
  expect(model).toMatchObject({ provider: 'headers-test', id: 'org/small', contextWindow: 1000, maxOutputTokens: 50 });
  await converse(model).result;
  expect(provider.requests[0]).toMatchObject({
    path: '/v1/chat/completions',
    headers: { authorization: 'Bearer key-1', 'x-team': 'blue' },
    body: { model: 'org/small', max_tokens: 50 },
  });
});

describe('a model name', () => {
  const models = new Models({}, {});

  // contract: 4.6-name-form
  test.each(['gpt-5', '/gpt-5', 'openai/', '', '/'])('%j is refused', (name) => {
    expect(() => models.resolve(name)).toThrow(InvalidModelError);
  });

  // contract: 4.6-name-unknown
  test('of a provider that is not known is refused, and the known ones are in the hint', () => {
    for (const name of ['acme/model', 'constructor/x', '__proto__/x']) {
      expect(() => models.resolve(name)).toThrow(ModelNotFoundError);
    }
    try {
      models.resolve('acme/model');
    } catch (error) {
      expect(error).toMatchObject({
        code: 'model_not_found',
        meta: { model: 'acme/model' },
        hint: /anthropic, openai/,
      });
    }
  });

  // contract: 4.6-unknown-id
  test('finds window and prices of models that are known, also of dated ones', async () => {
    expect(models.resolve('anthropic/claude-opus-4-5-20251101')).toMatchObject({ contextWindow: 200_000 });
    expect(models.resolve('anthropic/claude-next')).not.toHaveProperty('contextWindow');
  });

  test.each([
    ['anthropic/claude-opus-5', 200_000, undefined, true],
    ['anthropic/claude-sonnet-4-20250514', 200_000, 3, true],
    ['anthropic/claude-3-5-haiku-latest', 200_000, undefined, undefined],
    ['openai/gpt-5.2-2025-12-11', 400_000, 1.75, true],
    ['openai/gpt-5.3-chat-latest', 128_000, undefined, true],
    ['openai/gpt-4o-2024-05-13', 128_000, 5, true],
    ['openai/gpt-4o-2024-11-20', 128_000, 2.5, true],
    ['openai/gpt-4o-audio-preview', undefined, undefined, undefined],
    ['openai/gpt-3.5-turbo-0125', 16_385, 0.5, false],
    ['openai/o3-mini-2025-01-31', 200_000, 1.1, false],
    ['openai/gpt-6-sol', undefined, undefined, undefined],
    ['google/gemini-2.5-flash-preview-09-2025', 1_048_576, 0.3, true],
    ['google/gemini-2.0-flash-001', 1_048_576, 0.1, true],
    ['google/gemini-3.1-pro-preview-customtools', 1_048_576, undefined, true],
    ['google/gemini-3-pro-image-preview', undefined, undefined, undefined],
    ['openrouter/anthropic/claude-opus-4.5', undefined, undefined, undefined],
    ['constructor/name', undefined, undefined, undefined],
  ])('%s has a window of %s, an input price of %s, and sees images: %s', (name, contextWindow, input, seesImages) => {
    const [provider = '', id = ''] = name.split(/\/(.*)/);
    const facts = knownModel(provider, id);
    expect([facts.contextWindow, facts.cost?.input, facts.seesImages]).toEqual([contextWindow, input, seesImages]);
  });

  test('is known not to see by its registration, or by what is known of it', () => {
    const own = new Models({
      here: { api: 'openai-completions', baseUrl: 'http://127.0.0.1/v1', models: { x: { seesImages: false } } },
    });
    expect(own.resolve('here/x')).toMatchObject({ seesImages: false });
    expect(own.resolve('openai/o3-mini')).toMatchObject({ seesImages: false });
    expect(own.resolve('here/y')).not.toHaveProperty('seesImages');
  });

  // contract: 4.6-credentials, 4.6-register-defaults
  test.each([
    ['anthropic/claude-opus-5', 'ANTHROPIC_API_KEY'],
    ['openai/gpt-5.2', 'OPENAI_API_KEY'],
    ['google/gemini-3.5-flash', 'GOOGLE_GENERATIVE_AI_API_KEY or GEMINI_API_KEY'],
    ['openrouter/org/model', 'OPENROUTER_API_KEY'],
  ])('%s without a key fails at the first request and names %s', async (name, variable) => {
    const failure = await converse(models.resolve(name)).result.catch((error) => error);
    expect(failure).toBeInstanceOf(ProviderCredentialsError);
    expect(failure.message).toContain(variable);
    expect(failure.meta).toEqual({ providerId: name.slice(0, name.indexOf('/')) });
  });

  // contract: 4.6-credentials-hidden
  test('with a key that can not be one fails without showing it', async () => {
    const failure = await converse(
      new Models({}, { OPENAI_API_KEY: 'sk-1\nsk-2' }).resolve('openai/gpt-5.2'),
    ).result.catch((error) => error);
    expect(failure).toBeInstanceOf(ProviderCredentialsError);
    expect(failure.message).not.toContain('sk-1');
  });

  // contract: 4.6-key, 4.6-register-defaults
  test('takes the key of the variable when it is asked for', async () => {
    await using provider = await startProvider([{ events: googleEvents({ text: 'ok' }) }]);
    const models = new Models({ google: { baseUrl: provider.baseUrl } }, { GEMINI_API_KEY: 'from-variable' });
    await converse(models.resolve('google/gemini-3.5-flash')).result;
    expect(provider.requests[0]?.headers).toMatchObject({ 'x-goog-api-key': 'from-variable' });
  });

  // contract: 4.6-register-kinds, 4.6-register-runtime
  test('of a provider that a Model stands for gives that model', () => {
    const model = scriptedModel([]);
    expect(new Models({ test: model }).resolve('test/anything')).toBe(model);
    expect(models.resolve(model)).toBe(model);
  });

  // contract: 4.6-register-kinds
  test('of a provider of the AI SDK speaks through it', async () => {
    await using provider = await startProvider([{ events: anthropicEvents({ text: 'ok' }) }]);
    const { createAnthropic } = await import('@ai-sdk/anthropic');
    const models = new Models({ mine: createAnthropic({ baseURL: provider.baseUrl, apiKey: 'k' }) });
    const model = models.resolve('mine/claude-opus-5');
    expect(model).toMatchObject({ provider: 'mine', id: 'claude-opus-5', api: 'anthropic-messages' });
    expect(await converse(model).result).toMatchObject({ text: 'ok' });
  });
});

// contract: 4.6-register-refused
test('a registration that can not work is refused', () => {
  const refused = (id: string, source: Parameters<typeof registerProvider>[1]) =>
    expect(() => registerProvider(id, source)).toThrow(ProviderRegistrationError);
  refused('unknown', { baseUrl: 'http://127.0.0.1/v1' });
  refused('unknown', { api: 'openai-completions' });
  refused('unknown', { api: 'openai-completions', baseUrl: 'not a url' });
  refused('unknown', { api: 'openai-completions', baseUrl: 'file:///etc/passwd' });
  refused('with/slash', { api: 'openai-completions', baseUrl: 'http://127.0.0.1/v1' });
  expect(() => new Models({ unknown: {} })).toThrow(ProviderRegistrationError);
});

// contract: 4.6-register-issues
test('a registration tells of everything that is wrong with it, and shows no secrets', () => {
  const wrong = {
    api: 'openai-chat',
    baseUrl: 'file:///etc/passwd',
    apiKey: 5,
    headers: { good: 'yes', number: 7, 'x-token': 'secret\nvalue', 'bad name': 'x' },
    contextWindow: '128k',
    maxTokens: 0,
    models: {
      'org/x': { contextwindow: 1, maxTokens: 1.5, cost: { input: -1, cached: 2 }, seesImages: 'no' },
      y: { cost: 5 },
      z: null,
    },
    storeResponses: 'never',
    modells: {},
  };
  let error: unknown;
  try {
    registerProvider('unknown', wrong as never);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ProviderRegistrationError);
  const { meta, message } = error as ProviderRegistrationError;
  expect(meta.providerId).toBe('unknown');
  expect(meta.issues.map(({ path }) => path)).toEqual([
    'modells',
    'api',
    'baseUrl',
    'apiKey',
    'headers.number',
    'headers["x-token"]',
    'headers["bad name"]',
    'contextWindow',
    'maxTokens',
    'models["org/x"].contextwindow',
    'models["org/x"].maxTokens',
    'models["org/x"].cost.cached',
    'models["org/x"].cost.input',
    'models["org/x"].cost.output',
    'models["org/x"].seesImages',
    'models.y.cost',
    'models.z',
    'storeResponses',
  ]);
  expect(message).not.toContain('secret');
  for (const source of [null, 5, 'openai', { stream: () => {} }]) {
    expect(() => registerProvider('unknown', source as never)).toThrow(ProviderRegistrationError);
  }
  expect(() => new Models({ unknown: {} })).toThrow(/api is needed.*; baseUrl is needed/);
});

test('messages that a provider would refuse are put right before they are sent', async () => {
  const wire = { api: 'anthropic-messages', model: 'claude-opus-5' } as const;
  const { provider, model } = await served(wire, [{ events: anthropicEvents({ text: 'ok' }) }]);
  await using _ = provider;
  const messages: Message[] = [
    { role: 'user', content: [{ type: 'text', text: 'one' }] },
    { role: 'assistant', content: [{ type: 'thinking', text: 'hm' }], finishReason: 'stop' },
    { role: 'user', content: [{ type: 'text', text: 'two' }] },
    { role: 'assistant', content: [{ type: 'tool-call', toolCallId: 'c', toolName: 'echo', input: '[1' }] },
    { role: 'tool', toolCallId: 'c', toolName: 'echo', ...textResult('not JSON'), isError: true },
  ];
  await converse(model, { context: () => messages }).result;
  expect(provider.requests[0]?.body.messages).toMatchObject([
    { role: 'user', content: [{ text: 'one' }, { text: 'two' }] },
    { role: 'assistant', content: [{ type: 'tool_use', input: { INVALID_JSON: '[1' } }] },
    { role: 'user', content: [{ type: 'tool_result', is_error: true, content: 'not JSON' }] },
  ]);
});

// contract: 4.6-register-replaces
test('a second registration of an id takes the place of the first, all of it', async () => {
  const common = { api: 'openai-completions', baseUrl: 'http://127.0.0.1:9/v1', apiKey: 'k' } as const;
  registerProvider('replaced-test', { ...common, contextWindow: 1_000 });
  registerProvider('replaced-test', common);
  expect(new Models().resolve('replaced-test/x')).not.toHaveProperty('contextWindow');
  const model = scriptedModel([]);
  registerProvider('replaced-test', model);
  expect(new Models().resolve('replaced-test/x')).toBe(model);
});
