import { pino } from 'pino';
import { expect } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import {
  AgentNotFoundError,
  InvalidRequestError,
  SubmissionAbortedError,
  SubmissionConflictError,
} from '../../../src/runtime/errors.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { ofType, test } from '../../support/runtime.ts';

// contract: 7.2-in-order, 7.2-own-conversation, 7.2-by-name, 8-submission, 8-owner
test('works on the messages of an instance one at a time, in order, in one conversation', async ({ runtime }) => {
  const model = scriptedModel([{ delayMs: 20, text: 'one' }, 'two']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const seen: RuntimeEvent[] = [];
  runtime.observe((event) => seen.push(event));
  const first = await runtime.dispatch(agent, { instance: 'a', message: 'First.' });
  const second = await runtime.dispatch('helper', { instance: 'a', message: 'Second.' });
  expect((await second.result()).text).toBe('two');
  expect((await first.result()).text).toBe('one');
  expect(model.requests[1]?.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user']);
  const kept = seen.filter(({ type }) => type !== 'turn_request');
  expect(kept.map(({ eventIndex }) => eventIndex)).toEqual(kept.map((_, i) => i));
  expect(ofType(seen, 'submission_start').map(({ submissionId }) => submissionId)).toEqual([
    first.submissionId,
    second.submissionId,
  ]);
  const settled = ofType(seen, 'submission_settled');
  expect(settled).toMatchObject([{ outcome: 'completed' }, { outcome: 'completed' }]);
  expect(settled[0]).toMatchObject({ instanceId: 'a', agentName: 'helper', dispatchId: first.dispatchId });
});

test('what happens outside of a submission does not have its id', async ({ directory }) => {
  const failing: SandboxFactory = {
    async createSandbox(request) {
      const env = await local({ cwd: directory }).createSandbox(request);
      return Object.assign(env, { close: () => Promise.reject(new Error('it stays')) });
    },
  };
  const agent = defineAgent(() => ({ model: scriptedModel(['x']), sandbox: failing }), { name: 'helper' });
  const seen: RuntimeEvent[] = [];
  await using runtime = await createRuntime({ store: ':memory:', logger: pino({ level: 'silent' }) });
  runtime.observe((event) => seen.push(event));
  await (await runtime.dispatch(agent, { instance: 'a', message: 'Hello.' })).result();
  const settledAt = seen.findIndex(({ type }) => type === 'submission_settled');
  await runtime.close();
  const after = seen.slice(settledAt + 1);
  expect(after).toMatchObject([{ type: 'log', level: 'warn' }]);
  for (const event of after) expect(event).not.toHaveProperty('submissionId');
  for (const event of seen.slice(0, settledAt)) expect(event).toHaveProperty('submissionId');
});

// contract: 7.2-apart
test('instances have conversations of their own', async ({ runtime }) => {
  const model = scriptedModel(['x', 'y']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  for (const instance of ['a', 'b']) {
    await (await runtime.dispatch(agent, { instance, message: 'Hello.' })).result();
  }
  expect(model.requests.map(({ messages }) => messages.length)).toEqual([1, 1]);
});

// contract: 7.2-failed
test('a submission that fails is settled as failed, and the next one runs', async ({ runtime }) => {
  const model = scriptedModel([{ error: { message: 'refused', status: 400 } }, 'fine']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const first = await runtime.dispatch(agent, { instance: 'a', message: 'First.' });
  const second = await runtime.dispatch(agent, { instance: 'a', message: 'Second.' });
  await expect(first.result()).rejects.toMatchObject({ code: 'operation_failed' });
  expect((await second.result()).text).toBe('fine');
});

// contract: 7.2-key, 7.2-key-conflict
test('a key makes dispatch idempotent: the first receipt for the same message, a conflict for another', async ({
  runtime,
}) => {
  const model = scriptedModel(['one']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const first = await runtime.dispatch(agent, { instance: 'a', message: 'Hello.', key: 'k' });
  const again = await runtime.dispatch(agent, { instance: 'a', message: 'Hello.', key: 'k' });
  expect(again.submissionId).toBe(first.submissionId);
  await expect(runtime.dispatch(agent, { instance: 'a', message: 'Other.', key: 'k' })).rejects.toThrow(
    SubmissionConflictError,
  );
  await first.result();
  expect(model.requests).toHaveLength(1);
});

// contract: 7.2-input, 1.5-dispatch-input-detached, 4.1-signal
test('input reaches the model as data: a signal with its JSON, keys sorted, all of it escaped', async ({ runtime }) => {
  const model = scriptedModel(['ok']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const given = { z: '</dispatch> & "so"', a: [1] };
  const receipt = await runtime.dispatch(agent, { instance: 'a"b', input: given });
  given.a.push(2); // what was accepted is detached
  await receipt.result();
  expect(model.requests[0]?.messages).toEqual([
    {
      role: 'user',
      content: [
        {
          type: 'text',
          text: [
            `<dispatch type="dispatch_input" agent="helper" id="a&quot;b" session="default" dispatchId="${receipt.dispatchId}" acceptedAt="${receipt.acceptedAt}">`,
            '{',
            '  &quot;a&quot;: [',
            '    1',
            '  ],',
            '  &quot;z&quot;: &quot;&lt;/dispatch&gt; &amp; \\&quot;so\\&quot;&quot;',
            '}',
            '</dispatch>',
          ].join('\n'),
        },
      ],
    },
  ]);
});

// contract: 7.2-message, 7.2-key-conflict
test('images come with the message; a key stands for all of the payload', async ({ runtime }) => {
  const model = scriptedModel(['ok']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const image = { type: 'image', data: 'AAAA', mimeType: 'image/png' } as const;
  const send = (images: (typeof image)[]) =>
    runtime.dispatch(agent, { instance: 'a', message: 'What is this?', images, key: 'k' });
  const receipt = await send([image]);
  await receipt.result();
  expect(model.requests[0]?.messages[0]?.content).toMatchObject([{ text: 'What is this?' }, { type: 'text' }, image]);
  expect((await send([image])).submissionId).toBe(receipt.submissionId);
  await expect(send([{ ...image, data: 'BBBB' as 'AAAA' }])).rejects.toThrow(SubmissionConflictError);
  await expect(send([])).rejects.toThrow(SubmissionConflictError);
});

// contract: 7.2-forms, 1.4-types
test('takes id for instance, and one object for both arguments', async ({ runtime }) => {
  const agent = defineAgent(() => ({ model: scriptedModel(['ok', 'ok']) }), { name: 'helper' });
  const seen: RuntimeEvent[] = [];
  runtime.observe((event) => seen.push(event));
  await (await runtime.dispatch({ agent, id: 'a', message: 'x' })).result();
  await (await runtime.dispatch({ agent: 'helper', instance: 'a', input: null })).result();
  expect(new Set(seen.map(({ instanceId }) => instanceId))).toEqual(new Set(['a']));
  expect(ofType(seen, 'submission_settled')).toHaveLength(2);
  const check = async () => {
    // @ts-expect-error: one of message and input
    await runtime.dispatch(agent, { instance: 'a' });
    // @ts-expect-error: not both
    await runtime.dispatch(agent, { instance: 'a', message: 'x', input: 1 });
    // @ts-expect-error: an instance
    await runtime.dispatch({ agent, message: 'x' });
  };
  expect(check).toBeTypeOf('function');
});

// contract: 7.2-one-of, 1.5-dispatch-input
test.each<[string, object]>([
  ['neither message nor input', {}],
  ['both', { message: 'x', input: 1 }],
  ['a message that is no text', { message: 5 }],
  ['a message that is blank', { message: ' ' }],
  ['input that is no JSON, with its path', { input: { when: new Date(0) } }],
  ['instance and id', { message: 'x', id: 'b' }],
  ['images that are none', { message: 'x', images: [{ type: 'image', data: 5, mimeType: 'image/png' }] }],
  ['images that are no array', { message: 'x', images: 'AAAA' }],
  [
    'an image that is too large',
    { message: 'x', images: [{ type: 'image', data: 'A'.repeat(20_000_000), mimeType: 'x' }] },
  ],
  ['a key that is no text', { message: 'x', key: 5 }],
])('refuses %s, before anything is taken', async (_what, options) => {
  await using runtime = await createRuntime({ store: ':memory:' });
  const agent = defineAgent(() => ({}), { name: 'helper' });
  const seen: RuntimeEvent[] = [];
  runtime.observe((event) => seen.push(event));
  await expect(runtime.dispatch(agent, { instance: 'a', ...options } as never)).rejects.toThrow(InvalidRequestError);
  if ('input' in options && options.input !== 1) {
    await expect(runtime.dispatch(agent, { instance: 'a', ...options } as never)).rejects.toThrow(
      'input.when is an instance of Date',
    );
  }
  expect(seen).toEqual([]);
});

// contract: 1.1-names-instances, 7.2-by-name
test('refuses an unknown agent, and ids of instances that are blank, too long, or hold control characters', async ({
  runtime,
}) => {
  const agent = defineAgent(() => ({}), { name: 'helper' });
  await expect(runtime.dispatch('nobody', { instance: 'a', message: 'x' })).rejects.toThrow(AgentNotFoundError);
  for (const instance of ['', ' ', 'x'.repeat(257), 'a\tb']) {
    await expect(runtime.dispatch(agent, { instance, message: 'x' })).rejects.toThrow(InvalidRequestError);
  }
});

// contract: 1.8-close-ends, 7.2-settled-once
test('closing the runtime aborts what an instance works on and settles what waits, each once', async ({ runtime }) => {
  const model = scriptedModel([{ delayMs: 100_000, text: 'never' }]);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const seen: RuntimeEvent[] = [];
  const asked = new Promise<void>((resolve) => {
    runtime.observe((event) => {
      seen.push(event);
      if (event.type === 'turn_start') resolve();
    });
  });
  const first = await runtime.dispatch(agent, { instance: 'a', message: 'First.' });
  const second = await runtime.dispatch(agent, { instance: 'a', message: 'Second.' });
  await asked;
  await runtime.close();
  await expect(first.result()).rejects.toThrow(SubmissionAbortedError);
  await expect(second.result()).rejects.toThrow(SubmissionAbortedError);
  expect(ofType(seen, 'submission_settled').map(({ outcome }) => outcome)).toEqual(['aborted', 'aborted']);
  expect(model.requests).toHaveLength(1);
});
