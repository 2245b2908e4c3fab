import { pino } from 'pino';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { ofType, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const logger = pino({ level: 'silent' });

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
  expect(events.map(({ eventIndex }) => eventIndex)).toEqual(events.map((_, i) => i));
  for (const { submissionId, dispatchId } of receipts) {
    const own = events.filter((event) => event.submissionId === submissionId);
    expect(own.every((event) => event.dispatchId === dispatchId)).toBe(true);
    expect([own[0]?.type, own.at(-1)?.type]).toEqual(['submission_start', 'submission_settled']);
  }
  expect(events.every((event) => event.submissionId !== undefined)).toBe(true);
  expect(events.every((event) => event.instanceId === 'a' && event.agentName === 'helper')).toBe(true);
});

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

test('submissions count for the concurrency of the runtime', async ({ directory }) => {
  await using runtime = await createRuntime({ sandbox: local({ cwd: directory }), concurrency: 1, logger });
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

test('an instance whose sandbox could not be made tries again with the next submission', async ({ directory }) => {
  let attempts = 0;
  const inner = local({ cwd: directory });
  await using runtime = await createRuntime({
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

test('keeps the newest 1,000 keys of an instance', async ({ directory }) => {
  await using runtime = await createRuntime({ sandbox: local({ cwd: directory }), logger });
  const agent = defineAgent(() => ({}), { name: 'helper' }); // without a model each one fails at once
  const send = (key: string) => runtime.dispatch(agent, { instance: 'a', message: 'x', key });
  const first = await send('k0');
  for (let i = 1; i < 1_000; i++) await send(`k${i}`);
  expect((await send('k0')).submissionId).toBe(first.submissionId);
  await send('k1000');
  expect((await send('k0')).submissionId).not.toBe(first.submissionId);
});
