import * as v from 'valibot';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import {
  ActionInputValidationError,
  ActionOutputSerializationError,
  ActionOutputValidationError,
  ActionTimeoutError,
  InvalidRequestError,
  RunCancelledError,
  RunConflictError,
  RunNotFoundError,
  RuntimeUnavailableError,
  WorkflowInputSerializationError,
  WorkflowInputUnexpectedError,
  WorkflowNotFoundError,
} from '../../../src/runtime/errors.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { ModelNotFoundError } from '../../../src/runtime/model/errors.ts';
import { invoke } from '../../../src/runtime/run/default-runtime.ts';
import type { RunHandle } from '../../../src/runtime/run/run.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, ofType, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const agent = defineAgent(() => ({}));
const untyped = (options: object) => options as never;

const double = defineWorkflow({
  name: 'double',
  agent,
  input: v.object({ n: v.number() }),
  output: v.object({ n: v.number() }),
  run: ({ input }) => ({ n: input.n * 2 }),
});

/** Waits until it is cancelled. `started` resolves when it runs. */
function waiting(name: string) {
  let begin = () => {};
  const started = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const workflow = defineWorkflow({
    name,
    agent,
    run: ({ signal }) =>
      new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        begin();
      }),
  });
  return { workflow, started };
}

// contract: 7.1-refused, 1.5-workflow-input, 1.4-omitted-input
test('refuses before anything is recorded: unknown, unexpected input, what is no JSON, what does not fit', async ({
  runtime,
}) => {
  const noInput = defineWorkflow({ name: 'no-input', agent, run: () => 1 });
  await expect(runtime.invoke('nowhere')).rejects.toThrow(WorkflowNotFoundError);
  await expect(runtime.invoke(noInput, untyped({ input: new Date() }))).rejects.toThrow(WorkflowInputUnexpectedError);
  await expect(runtime.invoke(double, untyped({ input: { n: 1n } }))).rejects.toMatchObject({
    constructor: WorkflowInputSerializationError,
    meta: { path: 'input.n', kind: 'a bigint' },
  });
  await expect(runtime.invoke(double, untyped({ input: { n: 'x' } }))).rejects.toMatchObject({
    constructor: ActionInputValidationError,
    status: 400,
    meta: { issues: [{ path: ['n'] }] },
  });
  // @ts-expect-error: the schema has a required field, and omitted input is {}
  await expect(runtime.invoke(double)).rejects.toThrow(ActionInputValidationError);
  expect(await runtime.runs()).toEqual([]);
});

// contract: 7.1-id-default, 7.1-does-not-wait, 7.1-record
test('resolves when the run is accepted, and keeps its record', async ({ runtime }) => {
  const run = await runtime.invoke(double, { input: { n: 2 } });
  expect(run.id).toMatch(/^run_[0-9A-HJKMNP-TV-Z]{26}$/);
  expect(['queued', 'running']).toContain((await run.record()).state);
  expect(await run.result()).toEqual({ n: 4 });
  const record = await run.record();
  expect(record).toMatchObject({ runId: run.id, workflowName: 'double', state: 'completed', result: { n: 4 } });
  for (const time of [record.createdAt, record.startedAt, record.endedAt]) {
    expect(new Date(time ?? '').toISOString()).toBe(time);
  }
  expect(record.input).toEqual({ n: 2 });
});

// contract: 7.1-input-as-given, 1.4-parsed
test('keeps the input as it was given, and makes the schema’s output at the start', async ({ runtime }) => {
  const workflow = defineWorkflow({
    name: 'dates',
    agent,
    input: v.object({
      when: v.pipe(
        v.string(),
        v.transform((text) => new Date(text)),
      ),
    }),
    run: ({ input }) => input.when.getTime(),
  });
  const run = await runtime.invoke(workflow, { input: { when: '2020-01-01T00:00:00.000Z' } });
  expect(await run.result()).toBe(1_577_836_800_000);
  expect((await run.record()).input).toEqual({ when: '2020-01-01T00:00:00.000Z' });
});

// contract: 7.1-id-idempotent, 7.1-id-conflict, 7.1-run
test('an id makes invoke idempotent: the run that exists for the same input, a conflict for another', async ({
  runtime,
}) => {
  const first = await runtime.invoke(double, { input: { n: 1 }, id: 'once' });
  const again = await runtime.invoke(double, { input: { n: 1 }, id: 'once' });
  expect(again.id).toBe(first.id);
  expect(await runtime.runs()).toHaveLength(1);
  await expect(runtime.invoke(double, { input: { n: 2 }, id: 'once' })).rejects.toThrow(RunConflictError);
  for (const id of ['', 'a b', 'x'.repeat(129)]) {
    await expect(runtime.invoke(double, { input: { n: 1 }, id })).rejects.toThrow(InvalidRequestError);
  }
  expect(await (await runtime.run('once')).result()).toEqual({ n: 2 });
  await expect(runtime.run('other')).rejects.toThrow(RunNotFoundError);
});

// contract: 7.1-record, 1.5-action-output, 1.5-undefined-without-schema, 1.7-inline
test('delivers nothing as null, and tells apart an output that does not fit from one that is no JSON', async ({
  runtime,
}) => {
  const ended = async (options: object) => {
    const run = await runtime.invoke(defineWorkflow(untyped({ agent, ...options })));
    return run.result();
  };
  expect(await ended({ name: 'nothing', run: () => {} })).toBeNull();
  const output = v.object({ n: v.number() });
  await expect(ended({ name: 'unfit', output, run: () => ({ n: 'x' }) })).rejects.toThrow(ActionOutputValidationError);
  await expect(ended({ name: 'undefined', output: v.undefined(), run: () => {} })).rejects.toThrow(
    ActionOutputSerializationError,
  );
  await expect(ended({ name: 'date', run: () => ({ at: [new Date()] }) })).rejects.toMatchObject({
    constructor: ActionOutputSerializationError,
    meta: { path: 'output.at[0]', kind: 'an instance of Date' },
  });
});

// contract: 7.1-result-error, 7.1-record-error, 8-no-cause
test('a run that throws is failed with that error, its record and last event without a stack', async ({ runtime }) => {
  const workflow = defineWorkflow({
    name: 'broken',
    agent,
    run: () => {
      throw new TypeError('no such luck', { cause: new Error('the cause') });
    },
  });
  const run = await runtime.invoke(workflow);
  await expect(run.result()).rejects.toThrow('no such luck');
  expect(await run.record()).toMatchObject({ state: 'failed', error: { name: 'TypeError', message: 'no such luck' } });
  const last = (await eventsOf(run)).at(-1);
  expect(last).toMatchObject({ type: 'run_end', state: 'failed', isError: true });
  expect(JSON.stringify(last)).not.toMatch(/the cause|\.ts:/);
});

// contract: 7.1-result-any
test('a run is failed whatever it throws, also what no text can be made of', async ({ runtime }) => {
  const unreadable = Object.defineProperty(new Error(), 'message', {
    get() {
      throw new Error('not even that');
    },
  });
  let thrown: unknown;
  const workflow = defineWorkflow({
    name: 'strange',
    agent,
    run: () => {
      throw thrown;
    },
  });
  for (thrown of [Object.create(null), unreadable]) {
    const run = await runtime.invoke(workflow);
    expect(await run.result().catch((error: unknown) => error === thrown)).toBe(true);
    expect(await run.record()).toMatchObject({ state: 'failed', error: { name: 'Error', message: '<not readable>' } });
  }
});

// contract: 7.1-result-cancelled, 2-signal-cancel, 7.1-final-once
test('cancel stops a run, which rejects with RunCancelledError; after that it does nothing', async ({ runtime }) => {
  const { workflow, started } = waiting('cancelled');
  const run = await runtime.invoke(workflow);
  await started;
  await run.cancel('not needed');
  await expect(run.result()).rejects.toMatchObject({
    constructor: RunCancelledError,
    meta: { runId: run.id, reason: 'not needed' },
  });
  expect((await run.record()).state).toBe('cancelled');
  await run.cancel();
  expect(ofType(await eventsOf(run), 'run_end')).toHaveLength(1);
});

// contract: 7.1-signal
test('the signal of invoke cancels the run', async ({ runtime }) => {
  const { workflow, started } = waiting('by-signal');
  const controller = new AbortController();
  const run = await runtime.invoke(workflow, { signal: controller.signal });
  await started;
  controller.abort();
  await expect(run.result()).rejects.toThrow(RunCancelledError);
});

// contract: 1.7-inline, 2-signal-timeout
test('timeoutMs aborts the signal of the run and fails it with ActionTimeoutError', async ({ runtime }) => {
  let aborted = false;
  const workflow = defineWorkflow({
    name: 'slow',
    agent,
    timeoutMs: 20,
    run: ({ signal }) =>
      new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => {
          aborted = true;
          resolve();
        });
      }),
  });
  const run = await runtime.invoke(workflow);
  await expect(run.result()).rejects.toMatchObject({
    constructor: ActionTimeoutError,
    status: 504,
    meta: { timeoutMs: 20 },
  });
  expect(aborted).toBe(true);
  expect((await run.record()).state).toBe('failed');
});

// contract: 8-numbers, 7.1-order, 7.1-events-after, 8-order
test('events are numbered from 0 without a gap, and may be followed from any number on', async ({ runtime }) => {
  const workflow = defineWorkflow({
    name: 'tells',
    agent,
    run: async ({ harness, log }) => {
      for (let i = 0; i < 5; i++) harness.emit('progress', { i });
      log.warn('close to the end');
      await harness.shell('echo out; echo err >&2');
    },
  });
  const run = await runtime.invoke(workflow);
  const live = await eventsOf(run); // followed while it runs
  expect(live.map(({ eventIndex }) => eventIndex)).toEqual(live.map((_, i) => i));
  expect(live[0]?.type).toBe('run_start');
  expect(live.at(-1)?.type).toBe('run_end');
  const later: RuntimeEvent[] = [];
  for await (const event of run.events({ after: 3 })) later.push(event);
  expect(later).toEqual(live.slice(4));
  const types = live.map(({ type }) => type);
  expect(types.indexOf('operation_start')).toBeLessThan(types.indexOf('tool_start'));
  expect(types.indexOf('tool')).toBeLessThan(types.indexOf('operation'));
});

// contract: 8-observe, 8-observe-copy, 8-observe-throws, 8-observe-context
test('an observer gets detached, frozen events; one that throws or rejects is logged and harms nobody', async ({
  runtime,
  logged,
}) => {
  const seen: RuntimeEvent[] = [];
  runtime.observe(() => {
    throw new Error('observer threw');
  });
  runtime.observe(async () => {
    throw new Error('observer rejected');
  });
  const end = runtime.observe((event, context) => {
    expect(context).toMatchObject({ runId: event.runId });
    seen.push(event);
  });
  const run = await runtime.invoke(double, { input: { n: 1 } });
  await run.result();
  expect(seen).toEqual(await eventsOf(run));
  const [first] = ofType(seen, 'run_start');
  expect(Object.isFrozen(first)).toBe(true);
  expect(Object.isFrozen(first?.input)).toBe(true);
  expect(logged.filter(({ msg }) => msg.includes('observer'))).not.toEqual([]);
  const count = seen.length;
  end();
  await (await runtime.invoke(double, { input: { n: 1 } })).result();
  expect(seen).toHaveLength(count);
});

// contract: 1.8-module-level
test('work of a run that was asked for at module level goes to the runtime of the run', async ({ runtime }) => {
  const outer = defineWorkflow({
    name: 'outer',
    agent,
    run: async () => {
      const inner = await invoke(double, { input: { n: 3 } });
      return { id: inner.id, result: await inner.result() };
    },
  });
  const { id, result } = await (await runtime.invoke(outer)).result();
  expect(result).toEqual({ n: 6 });
  expect((await (await runtime.run(id)).record()).state).toBe('completed');
});

// contract: 1.8-without-name, 1.8-second-of-name, 1.8-known-by-name
test('a definition without a name, and a second one of a name, are refused when invoked', async ({ runtime }) => {
  await expect(runtime.invoke(defineWorkflow({ agent, run: () => 1 }))).rejects.toThrow(InvalidRequestError);
  await (await runtime.invoke(double, { input: { n: 1 } })).result();
  const other = defineWorkflow({ name: 'double', agent, run: () => 1 });
  await expect(runtime.invoke(other)).rejects.toThrow(InvalidRequestError);
});

// contract: 7.1-runs
test('lists runs, newest first, by state, workflow and page', async ({ runtime }) => {
  const ids: string[] = [];
  for (let n = 0; n < 3; n++) {
    const run = await runtime.invoke(double, { input: { n } });
    await run.result();
    ids.unshift(run.id);
  }
  expect((await runtime.runs()).map(({ runId }) => runId)).toEqual(ids);
  expect((await runtime.runs({ limit: 1, after: ids[0] ?? '' })).map(({ runId }) => runId)).toEqual([ids[1]]);
  expect(await runtime.runs({ state: 'failed' })).toEqual([]);
  expect(await runtime.runs({ workflow: 'double' })).toHaveLength(3);
});

// contract: 1.8-concurrency, 7.1-queued
test('concurrency bounds what runs at once; a run that waits can be cancelled', async ({ directory }) => {
  const { local } = await import('../../../src/runtime/sandbox/local.ts');
  await using runtime = await createRuntime({ store: ':memory:', concurrency: 1, sandbox: local({ cwd: directory }) });
  const { workflow, started } = waiting('first');
  const first = await runtime.invoke(workflow);
  await started;
  const second = await runtime.invoke(double, { input: { n: 1 } });
  const third = await runtime.invoke(double, { input: { n: 2 } });
  expect((await second.record()).state).toBe('queued');
  await second.cancel();
  expect((await second.record()).state).toBe('cancelled');
  await first.cancel();
  expect(await third.result()).toEqual({ n: 4 });
});

// contract: 1.8-concurrency-within
test('a run started within a run needs no room of its own, and its record says by which', async ({ directory }) => {
  const { local } = await import('../../../src/runtime/sandbox/local.ts');
  await using runtime = await createRuntime({ store: ':memory:', concurrency: 1, sandbox: local({ cwd: directory }) });
  const started: RunHandle[] = [];
  const startDouble = async () => {
    const run = await invoke(double, { input: { n: 2 } });
    started.push(run);
    return run;
  };
  const middle = defineWorkflow({ agent, name: 'middle', run: async () => (await startDouble()).result() });
  const late = gate();
  let leftBehind: Promise<RunHandle> | undefined;
  const outer = defineWorkflow({
    agent,
    name: 'outer',
    run: async () => {
      leftBehind = late.promise.then(startDouble);
      const run = await invoke(middle);
      started.push(run);
      return run.result();
    },
  });
  const first = await runtime.invoke(outer);
  expect(await first.result()).toEqual({ n: 4 });
  const { workflow, started: atWork } = waiting('in-the-way');
  await runtime.invoke(workflow);
  await atWork;
  late.open();
  await leftBehind;
  const records = await Promise.all(started.map((run) => run.record()));
  const [ofOuter, ofMiddle, ofNobody] = records;
  expect(ofOuter).toMatchObject({ workflowName: 'middle', parent: first.id });
  expect(ofMiddle).toMatchObject({ workflowName: 'double', parent: ofOuter?.runId });
  expect(ofNobody?.state).toBe('queued');
  expect(ofNobody).not.toHaveProperty('parent');
  expect(await first.record()).not.toHaveProperty('parent');
});

// contract: 1.8-close-admits-nothing, 1.8-close-ends
test('close takes nothing more and ends what runs', async ({ runtime }) => {
  const { workflow, started } = waiting('open');
  const run = await runtime.invoke(workflow);
  await started;
  await runtime.close();
  expect((await run.record()).state).toBe('cancelled');
  await expect(runtime.invoke(double, { input: { n: 1 } })).rejects.toThrow(RuntimeUnavailableError);
});

// contract: 1.8-options
test('options that are not known, or not of their kind, are refused', async () => {
  const refused = createRuntime(
    untyped({ store: 'postgres://localhost', discover: 1, colour: 1, concurrency: 0, env: null, logger: {}, host: 1 }),
  );
  await expect(refused).rejects.toThrow(DefinitionError);
  const error: unknown = await refused.catch((thrown: unknown) => thrown);
  expect(error instanceof DefinitionError && error.issues.map(({ path }) => path).sort()).toEqual([
    'colour',
    'concurrency',
    'discover',
    'env',
    'host',
    'logger',
    'store',
  ]);
});

// contract: 10.2-local-warning
test('says once through the log that local() is no boundary', async ({ runtime, logged }) => {
  await (await runtime.invoke(double, { input: { n: 1 } })).result();
  await (await runtime.invoke(double, { input: { n: 2 } })).result();
  expect(logged.filter(({ msg }) => msg.includes('local() is no sandbox'))).toHaveLength(1);
});

// contract: 2-depth
test('an action run by code has its own harness, and a fifth level is refused', async ({ runtime }) => {
  const names: string[] = [];
  const deeper: ReturnType<typeof defineAction<undefined, undefined, number>> = defineAction({
    name: 'deeper',
    description: 'Calls itself.',
    run: async ({ harness }): Promise<number> => {
      names.push(harness.name);
      return 1 + (await harness.run(deeper));
    },
  });
  const workflow = defineWorkflow({ name: 'deep', agent, run: ({ harness }) => harness.run(deeper) });
  const run = await runtime.invoke(workflow);
  await expect(run.result()).rejects.toMatchObject({ code: 'delegation_depth_exceeded', meta: { maxDepth: 4 } });
  expect(names).toHaveLength(4);
  expect(new Set(names).size).toBe(4);
});

test('asks the model of the call in place of the agent’s, also in actions, unless a prompt names its own', async ({
  runtime,
}) => {
  const ask = defineAction({
    name: 'ask',
    description: 'Asks.',
    run: async ({ harness }) => (await (await harness.session()).prompt('From the action.')).text,
  });
  const own = scriptedModel(['own']);
  const workflow = defineWorkflow({
    name: 'asks',
    agent: defineAgent(() => ({ model: 'openai/not-asked' })),
    run: async ({ harness }) => {
      const session = await harness.session();
      const { text } = await session.prompt('From the workflow.');
      return [text, await harness.run(ask), (await session.prompt('To another.', { model: own })).text];
    },
  });
  const run = await runtime.invoke(workflow, { model: scriptedModel(['one', 'two']) });
  expect(await run.result()).toEqual(['one', 'two', 'own']);
  await expect(runtime.invoke(workflow, { model: 'nobody/model' })).rejects.toThrow(ModelNotFoundError);
  await expect(runtime.invoke(workflow, untyped({ model: {} }))).rejects.toThrow(DefinitionError);
});

// contract: 7.1-by-name, 1.8-registered
test('finds what is registered by its name there, also in place of the name of its own', async ({ directory }) => {
  const { local } = await import('../../../src/runtime/sandbox/local.ts');
  const model = scriptedModel(['Hello.']);
  const helper = defineAgent(() => ({ model }), { name: 'own' });
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: local({ cwd: directory }),
    workflows: { twice: double },
    agents: { helper },
  });
  expect(await (await runtime.invoke('twice', { input: { n: 4 } })).result()).toEqual({ n: 8 });
  const run = await runtime.invoke(double, { input: { n: 4 } });
  expect((await run.record()).workflowName).toBe('twice');
  await expect(runtime.invoke('double', { input: { n: 4 } })).rejects.toThrow(WorkflowNotFoundError);
  const receipt = await runtime.dispatch('helper', { instance: 'a', message: 'Hi.' });
  expect((await receipt.result()).text).toBe('Hello.');
});

// contract: 7.1-id-conflict-workflow
test('an id that another workflow has is a conflict, also for equal input', async ({ runtime }) => {
  const other = defineWorkflow({ name: 'other', agent, input: v.object({ n: v.number() }), run: () => 1 });
  await runtime.invoke(double, { input: { n: 1 }, id: 'one' });
  await expect(runtime.invoke(other, { input: { n: 1 }, id: 'one' })).rejects.toMatchObject({
    constructor: RunConflictError,
    meta: { runId: 'one' },
  });
});

// contract: 8-run, 8-ends, 1.5-undefined-without-schema, 7.1-record
test('its first event has name, time and input, its last state, result and duration; nothing is null', async ({
  runtime,
}) => {
  const run = await runtime.invoke(double, { input: { n: 2 } });
  await run.result();
  const record = await run.record();
  const events = await eventsOf(run);
  expect(events[0]).toMatchObject({ workflowName: 'double', startedAt: record.startedAt, input: { n: 2 } });
  expect(events.at(-1)).toMatchObject({
    state: 'completed',
    result: { n: 4 },
    isError: false,
    durationMs: expect.any(Number),
    usage: { totalTokens: 0 },
  });
  const nothing = await runtime.invoke(defineWorkflow({ agent, name: 'nothing', run: () => {} }));
  await nothing.result();
  expect(await nothing.record()).toMatchObject({ result: null, usage: { totalTokens: 0 } });
  expect((await eventsOf(nothing)).at(-1)).toMatchObject({ result: null });
});

const named = defineAgent(() => ({}), { name: 'helper' });

test.for<[what: string, call: (runtime: Runtime) => Promise<unknown>]>([
  ['an id of a run that is a number', (runtime) => runtime.invoke(double, untyped({ input: { n: 1 }, id: 5 }))],
  ['an id of a run in an array', (runtime) => runtime.invoke(double, untyped({ input: { n: 1 }, id: ['a'] }))],
  ['a state that there is not', (runtime) => runtime.runs(untyped({ state: 'done' }))],
  ['a workflow that is no name', (runtime) => runtime.runs(untyped({ workflow: double }))],
  ['an id to go on after that is no text', (runtime) => runtime.runs(untyped({ after: 5 }))],
  ['no id of a run to find', (runtime) => runtime.run(untyped({}))],
  ['no id of an instance to abort', (runtime) => runtime.abort(named, untyped({}))],
  ['a reason that is no text', (runtime) => runtime.abort(named, untyped({ instance: 'a', reason: 5 }))],
  ['no observer', async (runtime) => runtime.observe(untyped({}))],
  ['events after no number', async (runtime) => (await runtime.run('known')).events({ after: Number.NaN })],
])('refuses %s, and nothing of it is kept', async ([, call], { runtime }) => {
  await (await runtime.invoke(double, { input: { n: 1 }, id: 'known' })).result();
  await expect(call(runtime)).rejects.toThrow(InvalidRequestError);
  expect((await runtime.runs()).map(({ runId }) => runId)).toEqual(['known']);
});

// contract: 7.1-runs-limit
test('lists 100 runs unless told otherwise, and never more than 1,000', async ({ directory }) => {
  const { local } = await import('../../../src/runtime/sandbox/local.ts');
  await using runtime = await createRuntime({ store: ':memory:', concurrency: 1, sandbox: local({ cwd: directory }) });
  const { workflow, started } = waiting('first');
  await runtime.invoke(workflow);
  await started; // all others wait for it
  for (let n = 0; n < 1_000; n++) await runtime.invoke(double, { input: { n } });
  expect(await runtime.runs()).toHaveLength(100);
  expect(await runtime.runs({ limit: 5_000 })).toHaveLength(1_000);
  for (const limit of [0, -1, 1.5]) await expect(runtime.runs({ limit })).rejects.toThrow(InvalidRequestError);
  await expect(runtime.runs({ after: 'nobody' })).rejects.toThrow(RunNotFoundError);
});
