import { join } from 'node:path';
import { pino } from 'pino';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { ofType, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const logger = pino({ level: 'silent' });

// contract: 8-scope, 8-numbers, 8-submission
test('every event of a submission carries its ids, also in child harnesses; numbers go on over submissions', async ({
  runtime,
}) => {
  const model = scriptedModel([{ toolCalls: [{ name: 'works' }] }, 'One.', 'Two.']);
  const works = defineAction({
    name: 'works',
    description: 'Works.',
    run: async ({ harness, log }) => {
      log.info('in the child');
      await harness.shell('true');
    },
  });
  const agent = defineAgent(() => ({ model, actions: [works] }), { name: 'helper' });
  const events: RuntimeEvent[] = [];
  runtime.observe((event) => events.push(event));
  const receipts = [
    await runtime.dispatch(agent, { instance: 'a', message: '1' }),
    await runtime.dispatch(agent, { instance: 'a', message: '2' }),
  ];
  for (const receipt of receipts) await receipt.result();
  const kept = events.filter(({ type }) => type !== 'turn_request');
  expect(kept.map(({ eventIndex }) => eventIndex)).toEqual(kept.map((_, i) => i));
  for (const { submissionId, dispatchId } of receipts) {
    const own = events.filter((event) => event.submissionId === submissionId);
    expect(own.every((event) => event.dispatchId === dispatchId)).toBe(true);
    expect([own[0]?.type, own.at(-1)?.type]).toEqual(['submission_start', 'submission_settled']);
  }
  expect(events.every((event) => event.submissionId !== undefined)).toBe(true);
  expect(events.every((event) => event.instanceId === 'a' && event.agentName === 'helper')).toBe(true);
});

// contract: 4.4-failed, 8-ends
test('a submission has the usage of its own turns, failed ones included', async ({ runtime }) => {
  const usage = { input: 3, output: 1 };
  const model = scriptedModel([
    { text: 'One.', usage },
    { toolCalls: [{ name: 'bash', input: { command: 'true' } }], usage },
    { error: { message: 'refused', status: 400 } },
  ]);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const events: RuntimeEvent[] = [];
  runtime.observe((event) => events.push(event));
  const first = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  const second = await runtime.dispatch(agent, { instance: 'a', message: '2' });
  await first.result();
  await expect(second.result()).rejects.toMatchObject({ name: 'OperationFailedError' });
  const settled = ofType(events, 'submission_settled').map((event) => [event.outcome, event.usage?.totalTokens]);
  expect(settled).toEqual([
    ['completed', 4],
    ['failed', 4],
  ]);
});

// contract: 1.8-concurrency
test('submissions count for the concurrency of the runtime', async ({ directory }) => {
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: local({ cwd: directory }),
    concurrency: 1,
    logger,
  });
  const answer = gate<string>();
  const asked = gate();
  const first = scriptedModel([
    () => {
      asked.open();
      return answer.promise;
    },
  ]);
  const second = scriptedModel(['Second.']);
  const slow = await runtime.dispatch(
    defineAgent(() => ({ model: first }), { name: 'slow' }),
    { instance: 'a', message: '1' },
  );
  const waits = await runtime.dispatch(
    defineAgent(() => ({ model: second }), { name: 'waits' }),
    { instance: 'b', message: '2' },
  );
  await asked.promise;
  expect(second.requests).toHaveLength(0);
  answer.open('First.');
  expect((await slow.result()).text).toBe('First.');
  expect((await waits.result()).text).toBe('Second.');
});

test('submissions that wait for an instance which another process has leave their places to others', async ({
  directory,
}) => {
  const open = gate();
  const agent = defineAgent(() => ({ model: scriptedModel([() => open.promise.then(() => 'x'), 'x', 'x']) }), {
    name: 'helper',
  });
  const options = { store: join(directory, 'runtime.db'), sandbox: local({ cwd: directory }), concurrency: 1, logger };
  await using one = await createRuntime(options);
  await using two = await createRuntime(options);
  const say = (runtime: typeof one, instance: string) => runtime.dispatch(agent, { instance, message: 'Hello.' });
  const first = [await say(one, 'a'), await say(two, 'b')];
  // Each has the one place for work, or is the next for it, and each process has what the other one waits for.
  const crossed = [await say(one, 'b'), await say(two, 'a'), await say(one, 'a'), await say(two, 'b')];
  open.open();
  for (const receipt of [...first, ...crossed]) expect((await receipt.result()).text).toBe('x');
});

// contract: 1.8-concurrency-within
test('a submission that a run waits for needs no room of its own, nor do those before it', async ({ directory }) => {
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: local({ cwd: directory }),
    concurrency: 1,
    logger,
  });
  const agent = defineAgent(() => ({ model: scriptedModel(['First.', 'Second.']) }), { name: 'helper' });
  const started = gate();
  const goOn = gate();
  const asks = defineWorkflow({
    name: 'asks',
    agent,
    run: async () => {
      started.open();
      await goOn.promise;
      const receipt = await runtime.dispatch(agent, { instance: 'a', message: '2' });
      return (await receipt.result()).text;
    },
  });
  const run = await runtime.invoke(asks);
  await started.promise;
  const first = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  goOn.open();
  expect(await run.result()).toBe('Second.');
  expect((await first.result()).text).toBe('First.');
});

test('an instance whose sandbox could not be made tries again with the next submission', async ({ directory }) => {
  let attempts = 0;
  const inner = local({ cwd: directory });
  await using runtime = await createRuntime({
    store: ':memory:',
    logger,
    sandbox: {
      createSandbox: async (request) => {
        attempts++;
        if (attempts === 1) throw new Error('no engine');
        return inner.createSandbox(request);
      },
    },
  });
  const agent = defineAgent(() => ({ model: scriptedModel(['Hello.']) }), { name: 'helper' });
  const first = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  await expect(first.result()).rejects.toThrow('no engine');
  const second = await runtime.dispatch(agent, { instance: 'a', message: '2' });
  expect((await second.result()).text).toBe('Hello.');
});

// contract: 7.2-abort, 7.2-settled-once, 4.1-failed-left-out
test('aborting an instance stops what it works on and settles what waits, without a model being asked', async ({
  runtime,
}) => {
  const model = scriptedModel([{ delayMs: 100_000, text: 'never' }, 'Hello again.']);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const events: RuntimeEvent[] = [];
  const asked = new Promise<void>((resolve) => {
    runtime.observe((event) => {
      events.push(event);
      if (event.type === 'turn_start') resolve();
    });
  });
  const first = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  const second = await runtime.dispatch(agent, { instance: 'a', message: '2' });
  await asked;
  expect(await runtime.abort('helper', { instance: 'a', reason: 'Enough.' })).toBe(true);
  for (const receipt of [first, second]) {
    await expect(receipt.result()).rejects.toMatchObject({
      name: 'SubmissionAbortedError',
      meta: { submissionId: receipt.submissionId, reason: 'Enough.' },
    });
  }
  const settled = ofType(events, 'submission_settled');
  expect(settled.map(({ submissionId, outcome }) => [submissionId, outcome])).toEqual([
    [first.submissionId, 'aborted'],
    [second.submissionId, 'aborted'],
  ]);
  expect(model.requests).toHaveLength(1);

  // It can be used on, in the same conversation; what was aborted is not sent again.
  const third = await runtime.dispatch(agent, { instance: 'a', message: '3' });
  expect((await third.result()).text).toBe('Hello again.');
  expect(model.requests[1]?.messages.map(({ role }) => role)).toEqual(['user', 'user']);
});

// contract: 7.4-deadline
test('a submission that takes longer than its agent allows fails, within a turn too; the next one has its own time', async ({
  runtime,
}) => {
  const model = scriptedModel([
    { toolCalls: [{ name: 'bash', input: { command: 'echo $$ > pid; exec sleep 1000' } }] },
    { delayMs: 100_000, text: 'never' },
    'In time.',
  ]);
  const agent = defineAgent(() => ({ model, durability: { timeoutMs: 1_000 } }), { name: 'helper' });
  const settled: unknown[] = [];
  runtime.observe((event) => {
    if (event.type === 'submission_settled') settled.push([event.outcome, event.error?.code]);
  });
  for (const message of ['In a tool', 'In a model']) {
    const { submissionId, result } = await runtime.dispatch(agent, { instance: 'a', message });
    await expect(result()).rejects.toMatchObject({
      name: 'SubmissionTimeoutError',
      meta: { submissionId, timeoutMs: 1_000 },
    });
  }
  const third = await runtime.dispatch(agent, { instance: 'a', message: 'Quick' });
  expect((await third.result()).text).toBe('In time.');
  expect(settled).toEqual([
    ['failed', 'submission_timeout'],
    ['failed', 'submission_timeout'],
    ['completed', undefined],
  ]);
});

// contract: 7.2-abort-any, 7.2-abort
test('aborting an instance also settles what waits for a place, and says when there is nothing to abort', async ({
  directory,
}) => {
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: local({ cwd: directory }),
    concurrency: 1,
    logger,
  });
  const answer = gate<string>();
  const asked = gate();
  const model = scriptedModel([
    () => {
      asked.open();
      return answer.promise;
    },
  ]);
  const agent = defineAgent(() => ({ model }), { name: 'helper' });
  const works = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  await asked.promise;
  const waits = await runtime.dispatch(agent, { instance: 'b', message: '2' });
  expect(await runtime.abort(agent, { instance: 'b' })).toBe(true);
  await expect(waits.result()).rejects.toMatchObject({ name: 'SubmissionAbortedError' });
  answer.open('Done.');
  expect((await works.result()).text).toBe('Done.');
  expect(await runtime.abort(agent, { instance: 'a' })).toBe(false);
  expect(await runtime.abort(agent, { instance: 'unknown' })).toBe(false);
  await expect(runtime.abort('nobody', { instance: 'a' })).rejects.toMatchObject({ name: 'AgentNotFoundError' });
});

// contract: 7.2-abort-complete
test('an answer that is complete when its instance is aborted stays completed', async ({ runtime }) => {
  const agent = defineAgent(() => ({ model: scriptedModel(['Done.']) }), { name: 'helper' });
  const aborted: Promise<boolean>[] = [];
  runtime.observe(({ type }) => {
    if (type === 'agent_end') aborted.push(runtime.abort(agent, { instance: 'a' }));
  });
  const receipt = await runtime.dispatch(agent, { instance: 'a', message: '1' });
  expect((await receipt.result()).text).toBe('Done.');
  expect(await Promise.all(aborted)).toEqual([true]);
});

// contract: 7.2-side-by-side
test('instances of one agent work side by side', async ({ runtime }) => {
  const both = gate();
  let waiting = 0;
  const meet = async () => {
    waiting++;
    if (waiting === 2) both.open();
    await both.promise;
    return 'Met.';
  };
  const agent = defineAgent(() => ({ model: scriptedModel([meet]) }), { name: 'helper' });
  const receipts = await Promise.all(
    ['a', 'b'].map((instance) => runtime.dispatch(agent, { instance, message: 'Hello.' })),
  );
  expect((await Promise.all(receipts.map((receipt) => receipt.result()))).map(({ text }) => text)).toEqual([
    'Met.',
    'Met.',
  ]);
});

// contract: 7.2-receipt
test('a message is accepted before it is worked on, with ids and the time', async ({ runtime }) => {
  const answer = gate<string>();
  const agent = defineAgent(() => ({ model: scriptedModel([() => answer.promise]) }), { name: 'helper' });
  const receipt = await runtime.dispatch(agent, { instance: 'a', message: 'Hello.' });
  expect(receipt.dispatchId).not.toBe(receipt.submissionId);
  expect(new Date(receipt.acceptedAt).toISOString()).toBe(receipt.acceptedAt);
  answer.open('Done.');
  expect(await receipt.result()).toMatchObject({ text: 'Done.', finishReason: 'stop' });
});
