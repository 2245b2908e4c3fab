import { describe, expect, test } from 'vitest';
import { requestError } from '../../../src/runtime/model/ai-sdk-error.ts';
import { ModelRequestError, providerError } from '../../../src/runtime/model/errors.ts';
import type { ModelRequest } from '../../../src/runtime/model/model.ts';
import type { ProviderApi } from '../../../src/runtime/model/providers.ts';
import type { Reply } from '../../support/provider-server.ts';
import { served, wires } from './served.ts';

const request: ModelRequest = {
  system: 'You are a test.',
  messages: [{ role: 'user', content: [{ type: 'text', text: 'Do it.' }] }],
  tools: [],
  thinkingLevel: 'off',
};

/** What one request to a provider fails with. */
async function failure(api: ProviderApi, reply: Reply): Promise<unknown> {
  const wire = wires.find((candidate) => candidate.api === api);
  if (!wire) throw new Error(`no wire ${api}`);
  const { provider, model } = await served(wire, [reply]);
  await using _ = provider;
  try {
    for await (const _ of model.stream(request, new AbortController().signal));
  } catch (error) {
    return error;
  }
  return undefined;
}

/** An error in the middle of a stream, after the answer began. */
function inStream(api: ProviderApi, error: unknown): Reply {
  const wire = wires.find((candidate) => candidate.api === api);
  return { events: [...(wire?.events({ text: 'half of the answer' }).slice(0, 4) ?? []), error] };
}

const anthropic = (type: string, message: string) => ({ type: 'error', error: { type, message } });
const openai = (code: string | null, message: string, type = 'invalid_request_error') => ({
  error: { message, type, param: null, code },
});
const google = (code: number, status: string, message: string, details: unknown[] = []) => ({
  error: { code, status, message, details },
});

describe('a request that is too long is known as that and not made again', () => {
  // contract: 4.3-too-long
  test.each<[ProviderApi, number, unknown]>([
    [
      'anthropic-messages',
      400,
      anthropic('invalid_request_error', 'prompt is too long: 213462 tokens > 200000 maximum'),
    ],
    [
      'anthropic-messages',
      400,
      anthropic(
        'invalid_request_error',
        'input length and `max_tokens` exceed context limit: 199211 + 20000 > 200000, decrease input length or `max_tokens` and try again',
      ),
    ],
    ['anthropic-messages', 413, anthropic('request_too_large', 'Request exceeds the maximum size')],
    [
      'openai-responses',
      400,
      openai(
        'context_length_exceeded',
        'Your input exceeds the context window of this model. Please adjust your input and try again.',
      ),
    ],
    [
      'openai-completions',
      400,
      openai(
        'context_length_exceeded',
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
      ),
    ],
    [
      'google-generative-ai',
      400,
      google(
        400,
        'INVALID_ARGUMENT',
        'The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).',
      ),
    ],
    [
      'google-generative-ai',
      400,
      [google(400, 'INVALID_ARGUMENT', 'The input token count exceeds the maximum number of tokens allowed 1048576.')],
    ],
    // Gateways that speak Chat Completions, each in words and form of its own.
    [
      'openai-completions',
      429,
      openai(
        'rate_limit_exceeded',
        'Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 50000.',
        'tokens',
      ),
    ],
    [
      'openai-completions',
      400,
      {
        object: 'error',
        message: "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        type: 'BadRequestError',
        code: 400,
      },
    ],
    [
      'openai-completions',
      400,
      {
        error: {
          message: 'The decoder prompt (length 6000) is longer than the maximum model length of 4096.',
          type: 'BadRequestError',
          code: 400,
        },
      },
    ],
    ['openai-completions', 400, { error: 'prompt too long; exceeded max context length by 1203 tokens' }],
    [
      'openai-completions',
      400,
      {
        error: {
          code: 400,
          message: 'request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it',
          type: 'exceed_context_size_error',
        },
      },
    ],
    [
      'openai-completions',
      400,
      {
        error: {
          message: 'Provider returned error',
          code: 400,
          metadata: { raw: '{"message":"prompt is too long: 250000 tokens > 200000 maximum"}' },
        },
      },
    ],
    [
      'openai-completions',
      400,
      {
        error: {
          message:
            "This endpoint's maximum context length is 163840 tokens. However, you requested about 200000 tokens.",
          code: 400,
        },
      },
    ],
    [
      'openai-completions',
      422,
      { detail: 'Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193' },
    ],
    ['openai-completions', 413, {}],
  ])('%s %i %j', async (api, status, body) => {
    const error = await failure(api, { status, body });
    expect(error).toBeInstanceOf(ModelRequestError);
    expect(error).toMatchObject({ overflow: true, transient: false, status });
  });

  test.each<[ProviderApi, unknown]>([
    ['anthropic-messages', anthropic('invalid_request_error', 'prompt is too long: 213462 tokens > 200000 maximum')],
    [
      'openai-responses',
      {
        type: 'response.failed',
        sequence_number: 3,
        response: { error: { code: 'context_length_exceeded', message: 'Your input exceeds the context window' } },
      },
    ],
    ['openai-responses', { type: 'error', sequence_number: 3, ...openai('context_length_exceeded', 'Too much.') }],
    ['openai-completions', openai('context_length_exceeded', 'Too much.')],
    ['openai-completions', { error: 'prompt too long; exceeded max context length by 1203 tokens' }],
    [
      'google-generative-ai',
      google(400, 'INVALID_ARGUMENT', 'The input token count (9) exceeds the maximum number of tokens allowed (8).'),
    ],
  ])('also when %s says so within its stream: %j', async (api, event) => {
    const later = await failure(api, inStream(api, event));
    const atOnce = await failure(api, { events: [event] });
    for (const error of [later, atOnce]) {
      expect(error).toBeInstanceOf(ModelRequestError);
      expect(error).toMatchObject({ overflow: true, transient: false });
    }
  });

  test.each([
    {
      status: 429,
      message: 'This request would exceed your organization\u2019s rate limit of 30,000 input tokens per minute.',
    },
    { status: 429, message: 'Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000.' },
    { status: 503, message: 'The model is overloaded. Please try again later.' },
  ])('unlike a limit of the rate: $message', (answer) => {
    expect(providerError(answer)).toMatchObject({ overflow: false, transient: true });
  });

  test('unlike a wrong parameter', () => {
    const message = 'max_tokens is too large: 200000. This model supports at most 128000 completion tokens.';
    expect(providerError({ status: 400, message })).toMatchObject({ overflow: false, transient: false });
  });
});

describe('an error within a stream counts by the name that the provider gives it', () => {
  // contract: 4.3-in-stream
  test.each<[ProviderApi, unknown, { status?: number; transient: boolean }]>([
    ['anthropic-messages', anthropic('overloaded_error', 'Overloaded'), { status: 529, transient: true }],
    ['anthropic-messages', anthropic('api_error', 'Internal server error'), { status: 500, transient: true }],
    ['anthropic-messages', anthropic('rate_limit_error', 'Slow down'), { status: 429, transient: true }],
    ['anthropic-messages', anthropic('invalid_request_error', 'No such tool'), { status: 400, transient: false }],
    [
      'openai-responses',
      { type: 'error', sequence_number: 3, code: 'server_error', message: 'Oops', param: null },
      { status: 500, transient: true },
    ],
    [
      'openai-responses',
      { type: 'error', sequence_number: 3, code: 'rate_limit_exceeded', message: 'Slow down', param: null },
      { status: 429, transient: true },
    ],
    [
      'openai-responses',
      { type: 'error', sequence_number: 3, code: 'insufficient_quota', message: 'Pay first', param: null },
      { status: 429, transient: false },
    ],
    ...['invalid_prompt', 'image_content_policy_violation', 'string_above_max_length', 'empty_image_file'].map(
      (code): [ProviderApi, unknown, { status: number; transient: boolean }] => [
        'openai-responses',
        { type: 'response.failed', sequence_number: 3, response: { error: { code, message: 'No.' } } },
        { status: 400, transient: false },
      ],
    ),
    ['openai-completions', openai(null, 'Bad', 'BadRequestError'), { status: 400, transient: false }],
    ['openai-completions', openai(null, 'Oops', 'InternalServerError'), { status: 500, transient: true }],
    ['openai-completions', openai(null, 'Oops', 'server_error'), { status: 500, transient: true }],
    ['openai-completions', { error: { message: 'Bad gateway', code: 502 } }, { status: 502, transient: true }],
    ['openai-completions', { error: { message: 'No credit', code: 402 } }, { status: 402, transient: false }],
    ['openai-completions', { error: 'runner process has terminated' }, { transient: true }],
    ['google-generative-ai', google(503, 'UNAVAILABLE', 'Try later'), { status: 503, transient: true }],
    [
      'google-generative-ai',
      { error: { code: null, status: 'INTERNAL', message: 'Oops' } },
      { status: 500, transient: true },
    ],
    ['google-generative-ai', google(400, 'INVALID_ARGUMENT', 'No such field'), { status: 400, transient: false }],
  ])('%s %j', async (api, event, { status, transient }) => {
    const later = await failure(api, inStream(api, event));
    const atOnce = await failure(api, { events: [event] });
    for (const error of [later, atOnce]) {
      expect(error).toBeInstanceOf(ModelRequestError);
      expect(error).toMatchObject({ transient, overflow: false });
    }
    expect((later as ModelRequestError).status).toBe(status);
  });
});

describe('a limit of Google', () => {
  const words =
    'You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: requests, limit: 10';
  const perMinute = { '@type': 'type.googleapis.com/google.rpc.QuotaFailure', violations: [{ quotaId: 'PerMinute' }] };
  const perDay = { ...perMinute, violations: [{ quotaId: 'GenerateRequestsPerDayPerProjectPerModel-FreeTier' }] };
  const retryInfo = { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '38.5s' };
  const asked = (message: string, details: unknown[]) =>
    failure('google-generative-ai', { status: 429, body: google(429, 'RESOURCE_EXHAUSTED', message, details) });

  // contract: 4.3-statuses, 4.3-retry-after, 4.3-quota-per-minute
  test('per minute passes after the delay that it gives', async () => {
    expect(await asked(words, [perMinute, retryInfo])).toMatchObject({ transient: true, retryAfterMs: 38_500 });
  });

  // contract: 4.3-quota
  test('without a delay is a spent quota', async () => {
    expect(await asked(words, [])).toMatchObject({ transient: false, status: 429 });
  });

  // contract: 4.3-quota
  test('per day, or of nothing at all, stays whatever the delay', async () => {
    expect(await asked(words, [perDay, retryInfo])).toMatchObject({ transient: false });
    expect(await asked(words.replace('limit: 10', 'limit: 0, model: x'), [retryInfo])).toMatchObject({
      transient: false,
    });
  });

  test('passes through a gateway that keeps only its words', async () => {
    const body = openai('429', `${words}\nPlease retry in 12.5s.`);
    expect(await failure('openai-completions', { status: 429, body })).toMatchObject({
      transient: true,
      retryAfterMs: 12_500,
    });
  });
});

// contract: 4.3-retry-after
test.each([
  [{ 'retry-after': '7' }, 7_000],
  [{ 'retry-after': '0' }, 0],
  [{ 'retry-after': '7', 'retry-after-ms': '250' }, 250],
  [{ 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, undefined],
  [{ 'retry-after': 'soon' }, undefined],
  [{}, undefined],
])('the headers %j ask to wait %s ms', async (headers, retryAfterMs) => {
  const body = openai('rate_limit_exceeded', 'Slow down.');
  const error = await failure('openai-completions', { status: 429, headers: { ...headers }, body });
  expect(error).toMatchObject({ transient: true });
  expect((error as ModelRequestError).retryAfterMs).toBe(retryAfterMs);
});

test('a date in retry-after is a wait until then', async () => {
  const headers = { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() };
  const error = await failure('openai-completions', { status: 429, headers, body: openai(null, 'Slow down.') });
  expect((error as ModelRequestError).retryAfterMs).toBeGreaterThan(3_000_000);
});

describe('a broken connection passes, whoever made it', () => {
  const coded = (code: string, message = 'broken') => Object.assign(new Error(message), { code });

  test.each([
    coded('ECONNRESET'),
    coded('EPIPE'),
    coded('UND_ERR_SOCKET', 'other side closed'),
    coded('UND_ERR_BODY_TIMEOUT'),
    coded('ERR_STREAM_PREMATURE_CLOSE'),
    new TypeError('terminated'),
    new TypeError('fetch failed', { cause: coded('ENOTFOUND') }),
    new Error('request to http://127.0.0.1 failed', { cause: coded('ETIMEDOUT') }),
    new Error('socket hang up'),
    new DOMException('The operation timed out.', 'TimeoutError'),
  ])('%s', (error) => {
    const result = requestError(error);
    expect(result).toBeInstanceOf(ModelRequestError);
    expect(result).toMatchObject({ transient: true, overflow: false });
  });

  test('names the cause that lies deepest', () => {
    const error = new TypeError('fetch failed', { cause: coded('ECONNREFUSED', '') });
    expect(requestError(error)).toMatchObject({ message: 'the connection to the provider failed: ECONNREFUSED' });
  });

  test('unlike a fault in the program', () => {
    const error = new TypeError('x is not a function');
    expect(requestError(error)).toBe(error);
  });
});
