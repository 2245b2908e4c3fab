import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, type AgentDefinition, defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import type { Model } from '../../../src/runtime/model/model.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { endLeases, interruptedAt, interruptedCopy } from '../../support/interrupted.ts';
import { ofType, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const silent = pino({ level: 'silent' });

/** A runtime with one agent, and what it tells. */
async function open(
  directory: string,
  store: string,
  agent: AgentDefinition,
): Promise<{ runtime: Runtime; events: RuntimeEvent[] }> {
  const events: RuntimeEvent[] = [];
  const runtime = await createRuntime({
    store: join(directory, store),
    logger: silent,
    sandbox: local({ cwd: directory }),
    agents: { helper: agent },
  });
  runtime.observe((event) => events.push(event));
  return { runtime, events };
}

function helper(model: Model, config: AgentConfig = {}): AgentDefinition {
  return defineAgent(() => ({ model, workspaceContext: false, ...config }));
}

/** A model that is asked, and says nothing. */
function silentModel(): Model {
  return {
    provider: 'scripted',
    id: 'silent',
    // biome-ignore lint/correctness/useYield: it says nothing
    async *stream(_request, signal) {
      await once(signal, 'abort');
    },
  };
}

/** Gives messages to an instance, and the store that its process would have left if it had died right after an event. */
async function instanceInterruptedAt(
  directory: string,
  agent: AgentDefinition,
  messages: string[],
  when: (event: RuntimeEvent) => boolean,
  { before }: { before?: string } = {},
): Promise<string> {
  const from = before ?? 'first.db';
  const left = `left-by-${from}`;
  const { runtime } = await open(directory, from, agent);
  await interruptedAt(runtime, {
    store: join(directory, from),
    left: join(directory, left),
    when,
    begin: async () => {
      for (const [index, message] of messages.entries()) {
        await runtime.dispatch('helper', { instance: 'i', message, key: `${message} ${index}` });
      }
    },
  });
  return left;
}

const settled = (events: RuntimeEvent[]) => ofType(events, 'submission_settled');

test('goes on with all messages in order, the one that was worked on first; each is settled once', async ({
  directory,
}) => {
  const store = await instanceInterruptedAt(
    directory,
    helper(silentModel()),
    ['One', 'Two', 'Three'],
    ({ type }) => type === 'turn_start',
  );
  const model = scriptedModel(['1.', '2.', '3.', '4.']);
  const { runtime, events } = await open(directory, store, helper(model));
  await using _ = runtime;
  // A message of now comes after those of before, and the key of one of these gives its receipt.
  const four = await runtime.dispatch('helper', { instance: 'i', message: 'Four' });
  const one = await runtime.dispatch('helper', { instance: 'i', message: 'One', key: 'One 0' });
  expect((await four.result()).text).toBe('4.');
  expect((await one.result()).text).toBe('1.');
  expect(settled(events).map(({ outcome }) => outcome)).toEqual(Array(4).fill('completed'));
  expect(new Set(settled(events).map(({ submissionId }) => submissionId)).size).toBe(4);
  const told = model.requests.at(-1)?.messages.map(({ content }) => JSON.stringify(content));
  expect(told?.map((text) => text.replace(/.*"text":"([^"]*)".*/, '$1'))).toEqual([
    'One',
    '1.',
    'Two',
    '2.',
    'Three',
    '3.',
    'Four',
  ]);
});

test('takes an answer that is complete; a spent budget fails the rest, and tells the model of it', async ({
  directory,
}) => {
  const once = { durability: { maxAttempts: 1 } };
  const isAnswer = (event: RuntimeEvent) => event.type === 'message_end' && event.message.role === 'assistant';
  const first = await instanceInterruptedAt(directory, helper(scriptedModel(['Complete.']), once), ['One'], isAnswer);
  const later = await open(directory, first, helper(scriptedModel([]), once));
  await expect
    .poll(() => settled(later.events))
    .toMatchObject([{ outcome: 'completed', result: { text: 'Complete.' } }]);
  await later.runtime.close();

  const isTurn = ({ type }: RuntimeEvent) => type === 'turn_start';
  const second = await instanceInterruptedAt(directory, helper(silentModel(), once), ['Two'], isTurn, {
    before: first,
  });
  const model = scriptedModel(['Three.']);
  const last = await open(directory, second, helper(model, once));
  await using _ = last.runtime;
  await expect
    .poll(() => settled(last.events))
    .toMatchObject([
      { outcome: 'failed', error: { name: 'SubmissionRetryExhaustedError', meta: { attemptCount: 1 } } },
    ]);
  const three = await last.runtime.dispatch('helper', { instance: 'i', message: 'Three' });
  expect((await three.result()).text).toBe('Three.');
  expect(JSON.stringify(model.requests[0]?.messages)).toContain('<submission_interrupted');
});

test('fails when its time, which began with its first attempt, is over', async ({ directory }) => {
  const short = { durability: { timeoutMs: 1_500 } };
  const isTurn = ({ type }: RuntimeEvent) => type === 'turn_start';
  const store = await instanceInterruptedAt(directory, helper(silentModel(), short), ['One'], isTurn);
  await sleep(1_600);
  const { runtime, events } = await open(directory, store, helper(scriptedModel(['Late.']), short));
  await using _ = runtime;
  await expect
    .poll(() => settled(events))
    .toMatchObject([{ outcome: 'failed', error: { name: 'SubmissionTimeoutError' } }]);
});

test('stays aborted when that was asked for before its process died', async ({ directory }) => {
  const path = join(directory, 'runtime.db');
  const lingers = defineTool({
    name: 'lingers',
    description: 'Takes its time to end.',
    run: async ({ signal }) => {
      await once(signal, 'abort');
      await sleep(1_000);
      return '';
    },
  });
  const model = scriptedModel([{ toolCalls: [{ name: 'lingers' }] }]);
  const first = await open(directory, 'runtime.db', helper(model, { tools: [lingers] }));
  await first.runtime.dispatch('helper', { instance: 'i', message: 'One' });
  await expect.poll(() => first.events.some(({ type }) => type === 'tool_start')).toBe(true);
  const aborted = first.runtime.abort('helper', { instance: 'i', reason: 'enough' });
  await sleep(300); // it is written at once
  interruptedCopy(path, join(directory, 'asked.db'));
  expect(settled(first.events)).toEqual([]);
  await aborted;
  await first.runtime.close();
  const later = await open(directory, 'asked.db', helper(scriptedModel(['Never.'])));
  await using _ = later.runtime;
  await expect
    .poll(() => settled(later.events))
    .toMatchObject([{ outcome: 'aborted', error: { meta: { reason: 'enough' } } }]);
});

// contract: 7.2-abort-left
test('aborts what an earlier process has left, also when it is not taken up yet', async ({ directory }) => {
  const never = () => new Promise<string>(() => {});
  const isAsked = ({ type }: RuntimeEvent) => type === 'turn_start';
  const left = await instanceInterruptedAt(directory, helper(scriptedModel([never])), ['One', 'Two'], isAsked);
  const model = scriptedModel([]);
  await using runtime = await createRuntime({ store: join(directory, left), logger: silent, recover: false });
  const agent = defineAgent(() => ({ model, sandbox: local({ cwd: directory }) }), { name: 'helper' });
  const events: RuntimeEvent[] = [];
  runtime.observe((event) => events.push(event));
  expect(await runtime.abort(agent, { instance: 'i' })).toBe(true);
  expect(settled(events).map(({ outcome }) => outcome)).toEqual(['aborted', 'aborted']);
  expect(model.requests).toEqual([]);
  expect(await runtime.abort(agent, { instance: 'i' })).toBe(false);
});

// contract: 7.2-abort-elsewhere
test('refuses to abort what another process works on, and leaves it alone', async ({ directory }) => {
  const answer = gate<string>();
  const first = await open(directory, 'runtime.db', helper(scriptedModel([() => answer.promise])));
  await using _ = first.runtime;
  const receipt = await first.runtime.dispatch('helper', { instance: 'i', message: 'One' });
  await expect.poll(() => first.events.some(({ type }) => type === 'turn_start')).toBe(true);
  const second = await open(directory, 'runtime.db', helper(scriptedModel([])));
  await using __ = second.runtime;
  await expect(second.runtime.abort('helper', { instance: 'i' })).rejects.toMatchObject({
    name: 'InvalidRequestError',
    message: expect.stringContaining('another process'),
  });
  answer.open('All the same.');
  expect((await receipt.result()).text).toBe('All the same.');
});

test('goes on with an action and a task of an interrupted batch', async ({ directory }) => {
  let runs = 0;
  let steps = 0;
  const works = (hangs: boolean) =>
    defineAction({
      name: 'works',
      description: 'Works.',
      run: async ({ harness, signal }) => {
        runs++;
        await harness.step('first', () => void steps++);
        if (hangs) await once(signal, 'abort');
        return 'worked';
      },
    });
  const calls = { toolCalls: [{ name: 'works' }, { name: 'task', input: { prompt: 'Think.' } }] };
  const isStep = (event: RuntimeEvent) => event.type === 'operation' && event.operationKind === 'step';
  const asksBoth = helper(scriptedModel([calls, { text: 'Thought.' }, 'x']), { actions: [works(true)] });
  const store = await instanceInterruptedAt(directory, asksBoth, ['Go.'], isStep);
  const model = scriptedModel(['a', 'b', 'c']);
  const { runtime, events } = await open(directory, store, helper(model, { actions: [works(false)] }));
  await using _ = runtime;
  await expect.poll(() => settled(events)).toMatchObject([{ outcome: 'completed' }]);
  expect([runs, steps]).toEqual([2, 1]);
  const results = model.requests.at(-1)?.messages.filter(({ role }) => role === 'tool');
  expect(results).toMatchObject([
    { toolName: 'works', isError: false, content: [{ text: '"worked"' }] },
    { toolName: 'task', isError: false },
  ]);
});

test('close() lets a turn end; what is left goes on in a later runtime', async ({ directory }) => {
  const bash = { toolCalls: [{ name: 'bash', input: { command: 'sleep 0.3; echo done' } }] };
  const first = await open(directory, 'runtime.db', helper(scriptedModel([bash])));
  const one = await first.runtime.dispatch('helper', { instance: 'i', message: 'One' });
  const two = await first.runtime.dispatch('helper', { instance: 'i', message: 'Two' });
  await expect.poll(() => first.events.some(({ type }) => type === 'tool_start')).toBe(true);
  await first.runtime.close();
  await expect(one.result()).rejects.toMatchObject({ name: 'RuntimeUnavailableError' });
  await expect(two.result()).rejects.toMatchObject({ name: 'RuntimeUnavailableError' });
  expect(settled(first.events)).toEqual([]);

  const model = scriptedModel(['One is done.', 'Two is done.']);
  const later = await open(directory, 'runtime.db', helper(model));
  await using _ = later.runtime;
  await expect
    .poll(() => settled(later.events).map(({ result }) => (result as { text: string }).text))
    .toEqual(['One is done.', 'Two is done.']);
  const [tool] = model.requests[0]?.messages.filter(({ role }) => role === 'tool') ?? [];
  expect(JSON.stringify(tool)).toContain('done');
});

test('another process goes on with what one that hangs holds, and its receipt gives the answer', async ({
  directory,
}) => {
  const first = await open(directory, 'runtime.db', helper(silentModel()));
  const receipt = await first.runtime.dispatch('helper', { instance: 'i', message: 'One' });
  await expect.poll(() => first.events.some(({ type }) => type === 'turn_start')).toBe(true);
  endLeases(join(directory, 'runtime.db'));
  const second = await open(directory, 'runtime.db', helper(scriptedModel(['By the second.'])));
  await using _ = second.runtime;
  await expect.poll(() => settled(second.events)).toHaveLength(1);
  // The first is told with its next renewal, or write.
  expect((await receipt.result()).text).toBe('By the second.');
  await first.runtime.close();
  expect(settled(first.events)).toEqual([]);
});
