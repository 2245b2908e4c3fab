import { expect, test } from 'vitest';
import { InvalidRequestError } from '../../src/runtime/errors.ts';
import { ModelRequestError } from '../../src/runtime/model/errors.ts';
import type { ModelEvent, ModelRequest } from '../../src/runtime/model/model.ts';
import { type ScriptedModel, scriptedModel } from '../../src/testing/index.ts';

const request: ModelRequest = { system: 's', messages: [], tools: [], thinkingLevel: 'off' };

async function ask(model: ScriptedModel, signal = new AbortController().signal, asked = request) {
  const events: ModelEvent[] = [];
  for await (const event of model.stream(asked, signal)) events.push(event);
  return events;
}

// contract: 4.6-scripted
test('streams a text in a few pieces that make the whole', async () => {
  const events = await ask(scriptedModel(['Hello, 🌍 world!']));
  const deltas = events.filter((event) => event.type === 'text-delta');
  expect(deltas).toHaveLength(4);
  expect(deltas.map(({ text }) => text).join('')).toBe('Hello, 🌍 world!');
  expect(deltas.every(({ text }) => Buffer.from(text).toString() === text)).toBe(true); // no half of a pair
  expect(events.at(-1)).toMatchObject({ type: 'finish', finishReason: 'stop', usage: { totalTokens: 0 } });
});

test('gives thinking, text and tool calls in this order, with ids of their own', async () => {
  const model = scriptedModel([
    {
      thinking: 'hm',
      text: 'ok',
      toolCalls: [{ name: 'a', input: { b: [1] } }, { name: 'a', input: '{no' }, { name: 'c' }],
    },
  ]);
  const events = await ask(model);
  expect(events.filter((event) => event.type === 'tool-call')).toEqual([
    { type: 'tool-call', index: 2, toolCallId: 'call_1_1', toolName: 'a', input: '{"b":[1]}' },
    { type: 'tool-call', index: 3, toolCallId: 'call_1_2', toolName: 'a', input: '{no' },
    { type: 'tool-call', index: 4, toolCallId: 'call_1_3', toolName: 'c', input: '{}' },
  ]);
  expect(events[0]).toEqual({ type: 'thinking-start', index: 0 });
  expect(events.at(-1)).toMatchObject({ finishReason: 'tool-calls' });
});

// contract: 4.6-scripted
test('a turn may be made from the request', async () => {
  const model = scriptedModel([
    ({ system }) => system.toUpperCase(),
    async () => ({ text: 'later', finishReason: 'length' }),
  ]);
  expect(await ask(model)).toContainEqual({ type: 'text-delta', index: 0, text: 'S' });
  expect((await ask(model)).at(-1)).toMatchObject({ finishReason: 'length' });
});

test('keeps what it was asked, as it was then', async () => {
  const model = scriptedModel(['one', 'two']);
  const asked = structuredClone(request);
  await ask(model, undefined, asked);
  asked.messages.push({ role: 'user', content: [{ type: 'text', text: 'more' }] });
  await ask(model, undefined, asked);
  expect(model.requests.map(({ messages }) => messages.length)).toEqual([0, 1]);
});

// contract: 4.6-scripted-error
test('fails with an error of its turn, after what was said before it', async () => {
  const model = scriptedModel([
    { text: 'half', error: { status: 529, message: 'busy', retryAfterMs: 5 } },
    { error: { status: 400, message: 'bad' } },
  ]);
  await expect(ask(model)).rejects.toMatchObject({ transient: true, status: 529, retryAfterMs: 5, message: 'busy' });
  await expect(ask(model)).rejects.toMatchObject({ transient: false, status: 400 });
});

// contract: 4.6-scripted-end
test('fails for good when it is asked for more turns than it has', async () => {
  const model = scriptedModel(['only'], { id: 'short' });
  await ask(model);
  const error = await ask(model).catch((error) => error);
  expect(error).toBeInstanceOf(ModelRequestError);
  expect(error).toMatchObject({
    transient: false,
    message: 'scripted model short was asked for turn 2, but has only 1',
  });
});

// contract: 4.4-cost, 4.4-cost-unknown, 4.4-total
test('counts tokens and money as told', async () => {
  const cost = { input: 3, output: 15 };
  const model = scriptedModel([{ usage: { input: 1_000_000, output: 100_000 } }, { usage: { cacheRead: 1 } }], {
    cost,
  });
  expect((await ask(model)).at(-1)).toMatchObject({
    usage: { totalTokens: 1_100_000, cost: { input: 3, output: 1.5, total: 4.5 } },
  });
  // The price of reading the cache is not known.
  expect((await ask(model)).at(-1)).toMatchObject({ usage: { totalTokens: 1, cost: null } });
});

test('a delay ends when it is aborted', async () => {
  const stop = new AbortController();
  const answer = ask(scriptedModel([{ text: 'never', delayMs: 100_000 }]), stop.signal);
  stop.abort();
  await expect(answer).rejects.toMatchObject({ name: 'AbortError' });
});

test.each([[null], ['Done.'], [[5]], [[null]], [[{ texts: 'Done.' }]]])('refuses %j as turns', (turns) => {
  expect(() => scriptedModel(turns as never)).toThrow(InvalidRequestError);
});
