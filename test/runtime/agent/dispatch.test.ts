import { expect } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import {
  AgentNotFoundError,
  InvalidRequestError,
  SubmissionAbortedError,
  SubmissionConflictError,
} from '../../../src/runtime/errors.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { ofType, test } from '../../support/runtime.ts';

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
  expect(seen.map(({ eventIndex }) => eventIndex)).toEqual(seen.map((_, i) => i));
  expect(ofType(seen, 'submission_start').map(({ submissionId }) => submissionId)).toEqual([
    first.submissionId,
    second.submissionId,
  ]);
  const settled = ofType(seen, 'submission_settled');
  expect(settled).toMatchObject([{ outcome: 'completed' }, { outcome: 'completed' }]);
  expect(settled[0]).toMatchObject({ instanceId: 'a', agentName: 'helper', dispatchId: first.dispatchId });
});

test('instances have conversations of their own', async ({ runtime }) => {
  const model = scriptedModel(['x', 'y']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  for (const instance of ['a', 'b']) {
    await (await runtime.dispatch(agent, { instance, message: 'Hello.' })).result();
  }
  expect(model.requests.map(({ messages }) => messages.length)).toEqual([1, 1]);
});

test('a submission that fails is settled as failed, and the next one runs', async ({ runtime }) => {
  const model = scriptedModel([{ error: { message: 'refused', status: 400 } }, 'fine']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const first = await runtime.dispatch(agent, { instance: 'a', message: 'First.' });
  const second = await runtime.dispatch(agent, { instance: 'a', message: 'Second.' });
  await expect(first.result()).rejects.toMatchObject({ code: 'operation_failed' });
  expect((await second.result()).text).toBe('fine');
});

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

test('refuses an unknown agent, and ids of instances that are blank, too long, or hold control characters', async ({
  runtime,
}) => {
  const agent = defineAgent(() => ({}), { name: 'helper' });
  await expect(runtime.dispatch('nobody', { instance: 'a', message: 'x' })).rejects.toThrow(AgentNotFoundError);
  for (const instance of ['', ' ', 'x'.repeat(257), 'a\tb']) {
    await expect(runtime.dispatch(agent, { instance, message: 'x' })).rejects.toThrow(InvalidRequestError);
  }
});

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
