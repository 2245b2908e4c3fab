import { mkdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect, expectTypeOf } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import type { RunHandle } from '../../../src/runtime/run/run.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import type { SandboxEnv, SandboxFactory, SandboxRequest } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, ofType, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const agent = defineAgent(() => ({}));
const silent = pino({ level: 'silent' });

/** Environments of `inner`, with what the test says of each. */
function around(inner: SandboxFactory, change: (env: SandboxEnv) => Partial<SandboxEnv>): SandboxFactory {
  return {
    async createSandbox(request) {
      const env = await inner.createSandbox(request);
      const changed = change(env);
      // A proxy, because the methods of the environment need their own `this`.
      return new Proxy(env, {
        get: (target, key) => {
          const found: unknown = Reflect.get(key in changed ? changed : target, key);
          return typeof found === 'function' ? found.bind(target) : found;
        },
      });
    },
  };
}

describe('a sandbox', () => {
  test.for<[outcome: string | undefined, cwd: string | undefined]>([
    ['completed', undefined],
    ['completed', 'inside'],
    ['failed', undefined],
    ['timed out', 'inside'],
    ['cancelled', undefined],
  ])('is told when it is closed that its run has %s (cwd: %s)', async ([ending, cwd], { directory }) => {
    await mkdir(join(directory, 'inside'));
    const told: unknown[] = [];
    const sandbox = around(local({ cwd: directory }), (env) => ({
      close: async (outcome) => {
        told.push(outcome);
        await env.close(outcome);
      },
    }));
    await using runtime = await createRuntime({ store: ':memory:', logger: silent });
    const atWork = gate();
    const workflow = defineWorkflow({
      agent: defineAgent(() => ({ sandbox, ...(cwd !== undefined && { cwd }) })),
      name: 'w',
      ...(ending === 'timed out' && { timeoutMs: 500 }),
      run: async ({ signal }) => {
        if (ending === 'failed') throw new Error('no luck');
        atWork.open();
        if (ending !== 'completed') await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    });
    const run = await runtime.invoke(workflow);
    if (ending === 'cancelled') await atWork.promise.then(() => run.cancel());
    await run.result().catch(() => {});
    expect(told).toEqual([ending === 'timed out' ? 'failed' : ending]);
  });

  // contract: 5-factory-tools
  test('gives its tools in place of the six, made of its environment and the subagents; the others stay', async ({
    directory,
  }) => {
    const given: unknown[] = [];
    const sandbox: SandboxFactory = {
      ...local({ cwd: directory }),
      tools: (env, options) => {
        given.push([env.cwd, options]);
        return [{ name: 'bash', description: 'Looks.', run: () => 'seen' }];
      },
    };
    const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: {} }] }, 'Done.']);
    const read = { name: 'read', description: 'The own one.', run: () => 'x' };
    const subagents = [{ name: 'searcher', description: 'Finds places.' }];
    // `builtinTools` is about the built-in ones, of which there are none but `task`.
    const own = defineAgent(() => ({ model, sandbox, tools: [read], subagents, builtinTools: ['grep', 'task'] }));
    await using runtime = await createRuntime({ store: ':memory:', logger: silent });
    const workflow = defineWorkflow({
      agent: own,
      name: 'w',
      run: async ({ harness }) => {
        await (await harness.session()).prompt('Look.');
      },
    });
    await (await runtime.invoke(workflow)).result();
    expect(given).toEqual([[directory, { subagents }]]);
    expect(model.requests[0]?.tools.map(({ name }) => name)).toEqual(['bash', 'read', 'task']);
    expect(model.requests[1]?.messages.at(-1)).toMatchObject({ content: [{ type: 'text', text: 'seen' }] });
  });
});

describe('invoke', () => {
  // contract: 1.4-types
  test('takes input and gives output by the types of the workflow', () => {
    const check = async (runtime: Runtime) => {
      const input = v.object({ a: v.pipe(v.string(), v.transform(Number)) });
      const workflow = defineWorkflow({ agent, name: 'w', input, run: ({ input }) => ({ b: input.a }) });
      const run = await runtime.invoke(workflow, { input: { a: '1' } });
      expectTypeOf(await run.result()).toEqualTypeOf<{ b: number }>();
      // @ts-expect-error: the input side of the schema is a string
      await runtime.invoke(workflow, { input: { a: 1 } });
      expectTypeOf(await (await runtime.invoke('by name')).result()).toBeUnknown();
    };
    expect(check).toBeTypeOf('function');
  });

  // contract: 7.1-signal-before
  test('with a signal that is aborted already starts nothing', async ({ runtime }) => {
    const events: RuntimeEvent[] = [];
    runtime.observe((event) => events.push(event));
    const workflow = defineWorkflow({ agent, name: 'w', run: () => 1 });
    const call = runtime.invoke(workflow, { signal: AbortSignal.abort('before') });
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'before' });
    expect(await runtime.runs()).toEqual([]);
    expect(events).toEqual([]);
  });

  // contract: 7.1-id-form
  test.each([[''], ['a b'], ['ü'], ['x'.repeat(129)]])('refuses the id %j', async (id) => {
    await using runtime = await createRuntime({ store: ':memory:', sandbox: local(), logger: silent });
    const call = runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 1 }), { id });
    await expect(call).rejects.toMatchObject({ name: 'InvalidRequestError' });
  });

  test('is known by its id to whoever sees its first event, and can be cancelled from there', async ({ runtime }) => {
    const cancelled: Promise<void>[] = [];
    runtime.observe(({ type, runId = '' }) => {
      if (type === 'run_start') cancelled.push(runtime.run(runId).then((run) => run.cancel('at once')));
    });
    let started = false;
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: () => {
        started = true;
      },
    });
    const run = await runtime.invoke(workflow);
    await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError', meta: { reason: 'at once' } });
    await Promise.all(cancelled);
    expect(cancelled).toHaveLength(1);
    expect(started).toBe(false);
    expect((await eventsOf(run)).map(({ type }) => type)).toEqual(['run_start', 'run_end']);
  });

  // contract: 7.1-signal, 7.1-result-cancelled
  test('the reason of a signal is that of the cancellation, be it a text or an error', async ({ runtime }) => {
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: async ({ harness }) => void (await harness.shell('sleep 1501')),
    });
    for (const [reason, text] of [
      ['enough', 'enough'],
      [new Error('enough!'), 'enough!'],
    ]) {
      const stop = new AbortController();
      const run = await runtime.invoke(workflow, { signal: stop.signal });
      stop.abort(reason);
      await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError', meta: { reason: text } });
      expect(await run.record()).toMatchObject({ state: 'cancelled', error: { code: 'run_cancelled' } });
    }
  });
});

describe('a run', () => {
  // contract: 1.5-workflow-input-detached, 7.1-id-idempotent
  test('keeps its input from what the work does to it', async ({ runtime }) => {
    const input = v.looseObject({ list: v.any() });
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      input,
      run: ({ input: given }) => {
        given.list.push('mine');
      },
    });
    const run = await runtime.invoke(workflow, { id: 'same', input: { list: ['yours'] } });
    await run.result();
    expect((await run.record()).input).toEqual({ list: ['yours'] });
    expect((await runtime.invoke(workflow, { id: 'same', input: { list: ['yours'] } })).id).toBe(run.id);
  });

  // contract: 7.1-record-copy
  test('keeps its record from what whoever asked for it does to it', async ({ runtime }) => {
    const input = v.object({ list: v.array(v.string()) });
    const workflow = defineWorkflow({ agent, name: 'w', input, run: ({ input: given }) => given });
    const run = await runtime.invoke(workflow, { input: { list: ['yours'] } });
    await run.result();
    const record = await run.record();
    const before = structuredClone(record);
    const [listed] = await runtime.runs();
    for (const taken of [record, listed]) {
      for (const part of [taken, taken?.input, taken?.result, taken?.usage])
        Object.assign(Object(part), { list: 'mine' });
    }
    expect(await run.record()).toEqual(before);
  });

  // contract: 7.1-record-copy, 1.4-types
  test('keeps its result from what whoever asked for it does to it', async ({ runtime }) => {
    const workflow = defineWorkflow({ agent, name: 'w', run: ({ harness }) => ({ list: [harness.name] }) });
    const run = await runtime.invoke(workflow);
    (await run.result()).list.push('mine');
    expect((await run.record()).result).toEqual({ list: ['default'] });
  });

  // contract: 1.6-initializer-context, 1.6-initializer-called, 1.8-env
  test('resolves its agent anew, with its own id and the environment of the runtime', async ({ directory }) => {
    const contexts: object[] = [];
    const own = defineAgent((context) => {
      contexts.push(context);
      return {};
    });
    await using runtime = await createRuntime({
      store: ':memory:',
      sandbox: local({ cwd: directory }),
      env: { KEY: 'k' },
      logger: silent,
    });
    const workflow = defineWorkflow({ agent: own, name: 'w', run: ({ harness }) => harness.shell('echo "[$KEY]"') });
    const runs = [await runtime.invoke(workflow), await runtime.invoke(workflow)];
    const results = await Promise.all(runs.map((run) => run.result()));
    expect(contexts).toEqual(runs.map(({ id }) => ({ id, env: { KEY: 'k' } })));
    expect(results.map(({ stdout }) => stdout)).toEqual(['[]\n', '[]\n']); // commands do not see it
  });

  // contract: 1.6-cwd, 3.1-sandbox
  test('works in the directory that its agent names, relative to that of the sandbox', async ({
    runtime,
    directory,
  }) => {
    await mkdir(join(directory, 'packages/one'), { recursive: true });
    const own = defineAgent(() => ({ cwd: 'packages/one' }));
    const workflow = defineWorkflow({
      agent: own,
      name: 'w',
      run: async ({ harness }) => [(await harness.shell('pwd')).stdout.trim(), harness.sandbox.cwd],
    });
    const at = join(await realpath(directory), 'packages/one');
    expect(await (await runtime.invoke(workflow)).result()).toEqual([at, at]);
  });

  // contract: 7.1-agent-first, 1.6-model-checked, 1.1-tools-equal-across
  test('whose agent can not be resolved fails, before a sandbox is made', async ({ directory }) => {
    let made = 0;
    const counting: SandboxFactory = {
      createSandbox: (request) => {
        made++;
        return local({ cwd: directory }).createSandbox(request);
      },
    };
    await using runtime = await createRuntime({ store: ':memory:', sandbox: counting, logger: silent });
    const bash = { name: 'bash', description: 'Mine.', run: () => 1 };
    for (const [config, name] of [
      [{ unknown: 1 }, 'DefinitionError'],
      [{ model: 'nobody/knows' }, 'ModelNotFoundError'],
      [{ model: 'no-slash' }, 'InvalidModelError'],
      [{ tools: [bash] }, 'ToolNameConflictError'],
    ] as const) {
      const own = defineAgent(() => config as object);
      const run = await runtime.invoke(defineWorkflow({ agent: own, name: `w-${name}`, run: () => 1 }));
      await expect(run.result()).rejects.toMatchObject({ name });
      expect(await run.record()).toMatchObject({ state: 'failed', error: { name } });
    }
    expect(made).toBe(0);
  });

  test('that is aborted while its sandbox is made does not begin, and the sandbox is ended', async ({ directory }) => {
    const making = gate();
    const go = gate();
    let closed = 0;
    const slow = around(local({ cwd: directory }), (env) => ({
      close: async () => {
        closed++;
        await env.close();
      },
    }));
    const sandbox: SandboxFactory = {
      async createSandbox(request) {
        making.open();
        await go.promise;
        return slow.createSandbox(request);
      },
    };
    await using runtime = await createRuntime({ store: ':memory:', sandbox, logger: silent });
    let began = false;
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: () => {
        began = true;
      },
    });
    const run = await runtime.invoke(workflow);
    await making.promise;
    const cancelled = run.cancel();
    go.open();
    await cancelled;
    expect((await run.record()).state).toBe('cancelled');
    expect({ began, closed }).toEqual({ began: false, closed: 1 });
  });

  // contract: 7.1-cancelled-all-the-same
  test('that is cancelled and looks at no signal is cancelled all the same, and what it returned is not kept', async ({
    runtime,
  }) => {
    const started = gate();
    const goOn = gate();
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: async () => {
        started.open();
        await goOn.promise;
        return 'too late';
      },
    });
    const run = await runtime.invoke(workflow);
    await started.promise;
    const cancelled = run.cancel('enough');
    goOn.open();
    await cancelled;
    await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError', meta: { reason: 'enough' } });
    expect(await run.record()).toMatchObject({ state: 'cancelled', error: { code: 'run_cancelled' } });
    expect(await run.record()).not.toHaveProperty('result');
    const end = (await eventsOf(run)).at(-1);
    expect(end).toMatchObject({ type: 'run_end', state: 'cancelled', isError: true });
    expect(end).not.toHaveProperty('result');
  });

  // contract: 7.1-final-once
  test('that is cancelled while what it made is removed is cancelled: its end was not written', async ({
    directory,
  }) => {
    const closing = gate();
    const goOn = gate();
    const slow = around(local({ cwd: directory }), (env) => ({
      close: async () => {
        closing.open();
        await goOn.promise;
        await env.close();
      },
    }));
    await using runtime = await createRuntime({ store: ':memory:', sandbox: slow, logger: silent });
    const run = await runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 'result' }));
    await closing.promise;
    const cancelled = run.cancel();
    goOn.open();
    await cancelled;
    await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
    expect((await run.record()).state).toBe('cancelled');
  });

  // contract: 7.1-final-once
  test('that is cancelled when its end is written stays completed', async ({ runtime }) => {
    const run = await runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 'result' }));
    runtime.observe(({ type }) => type === 'run_end' && void run.cancel('too late'));
    expect(await run.result()).toBe('result');
    expect(await run.record()).toMatchObject({ state: 'completed', result: 'result' });
  });

  test('keeps its result when its sandbox can not be ended, and says so in its log', async ({ directory }) => {
    const stuck = around(local({ cwd: directory }), () => ({ close: () => Promise.reject(new Error('stuck')) }));
    await using runtime = await createRuntime({ store: ':memory:', sandbox: stuck, logger: silent });
    const run = await runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 'kept' }));
    expect(await run.result()).toBe('kept');
    const events = await eventsOf(run);
    expect(ofType(events, 'log')).toMatchObject([{ level: 'warn', attributes: { error: { message: 'stuck' } } }]);
    expect(events.at(-1)?.type).toBe('run_end');
  });

  test('ends its sandbox also when what was made in it can not be removed', async ({ directory }) => {
    let closed = 0;
    const stuck = around(local({ cwd: directory }), (env) => ({
      rm: () => Promise.reject(new Error('read-only')),
      close: async () => {
        closed++;
        await env.close();
      },
    }));
    await using runtime = await createRuntime({ store: ':memory:', sandbox: stuck, logger: silent });
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      async run({ harness }) {
        const session = await harness.session();
        await session.shell('yes | head -n 3000'); // too long for the model, so a file keeps it
        const part = (await session.history())[1]?.parts[0];
        return part?.type === 'dynamic-tool' ? String(part.output) : '';
      },
    });
    const run = await runtime.invoke(workflow);
    const kept = /(\/tmp\/\.berth-output-[^/]+)\//.exec(await run.result())?.[1] ?? '';
    expect(closed).toBe(1);
    expect(ofType(await eventsOf(run), 'log')).toMatchObject([{ level: 'warn' }]);
    await rm(kept, { recursive: true });
  });

  // contract: 2-end-silent, 7.1-order
  test('tells nothing after its end, also when work that was left behind goes on', async ({ runtime }) => {
    const left = gate<{ log: { info: (message: string) => void } }>();
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: async (context) => {
        left.open(context);
        void context.harness.shell('sleep 1502');
        await context.harness.shell('echo done');
      },
    });
    const run = await runtime.invoke(workflow);
    await run.result();
    const events = await eventsOf(run);
    (await left.promise).log.info('late');
    expect(await eventsOf(run)).toEqual(events);
    expect(events.filter(({ type }) => type === 'run_end')).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ type: 'run_end', state: 'completed', durationMs: expect.any(Number) });
  });

  // contract: 4.4-run, 4.4-below
  test('sums the usage of its turns, also in its last event', async ({ runtime }) => {
    const usage = { input: 7, output: 1 };
    const model = scriptedModel([
      { toolCalls: [{ name: 'asks' }], usage },
      { text: 'inner', usage },
      { text: 'x', usage },
    ]);
    const asks = defineAction({
      name: 'asks',
      description: 'Asks.',
      run: async ({ harness }) => void (await (await harness.session()).prompt('?')),
    });
    const own = defineAgent(() => ({ model, actions: [asks] }));
    const workflow = defineWorkflow({
      agent: own,
      name: 'w',
      run: async ({ harness }) => void (await (await harness.session()).prompt('Go.')),
    });
    const run = await runtime.invoke(workflow);
    await run.result();
    const events = await eventsOf(run);
    const sum = ofType(events, 'turn').reduce((total, turn) => total + (turn.usage?.totalTokens ?? 0), 0);
    expect(sum).toBe(24);
    expect((await run.record()).usage.totalTokens).toBe(sum);
    expect(ofType(events, 'run_end')[0]?.usage?.totalTokens).toBe(sum);
  });

  // contract: 8-order, 8-batch-order
  test('every event that ends something comes after its start, and after all that happened inside', async ({
    runtime,
  }) => {
    const model = scriptedModel([
      { toolCalls: [{ name: 'asks' }, { name: 'asks' }, { name: 'bash', input: { command: 'echo x' } }] },
      'inner',
      'inner',
      'Done.',
    ]);
    const asks = defineAction({
      name: 'asks',
      description: 'Asks.',
      run: async ({ harness, log }) => {
        log.info('in');
        await (await harness.session()).prompt('?');
      },
    });
    const own = defineAgent(() => ({ model, actions: [asks] }));
    const workflow = defineWorkflow({
      agent: own,
      name: 'w',
      run: async ({ harness }) => void (await (await harness.session()).prompt('Go.')),
    });
    const run = await runtime.invoke(workflow);
    await run.result();
    const events = await eventsOf(run);
    for (const [field, start, end] of [
      ['operationId', 'operation_start', 'idle'],
      ['actionId', 'action_start', 'action'],
    ] as const) {
      const ids = new Set(events.flatMap((event) => event[field] ?? []));
      expect(ids.size).toBeGreaterThan(1);
      for (const id of ids) {
        const own = events.filter((event) => event[field] === id).map(({ type }) => type);
        expect([own[0], own.at(-1)]).toEqual([start, end]);
      }
    }
    const results = ofType(events, 'turn_messages')
      .map(({ toolResults }) => toolResults.map(({ toolCallId }) => toolCallId))
      .filter((ids) => ids.length > 0);
    expect(results).toEqual([['call_1_1', 'call_1_2', 'call_1_3']]);
  });
});

describe('observe', () => {
  // contract: 8-observe
  test('tells of what comes from then on, also to one that is added while an event is told', async ({ runtime }) => {
    const early: string[] = [];
    const late: string[] = [];
    runtime.observe(({ type }) => {
      early.push(type);
      if (early.length === 1) runtime.observe((event) => late.push(event.type));
    });
    await (await runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 1 }))).result();
    expect({ early, late }).toEqual({ early: ['run_start', 'run_end'], late: ['run_end'] });
  });

  // contract: 8-observe
  test('does not tell one that another has just ended', async ({ runtime }) => {
    const told: string[] = [];
    let end = () => {};
    runtime.observe(() => end());
    end = runtime.observe(({ type }) => told.push(type));
    await (await runtime.invoke(defineWorkflow({ agent, name: 'w', run: () => 1 }))).result();
    expect(told).toEqual([]);
  });

  // contract: 8-observe
  test('tells one that observes twice twice, until each is ended', async ({ runtime }) => {
    let told = 0;
    const count = () => {
      told++;
    };
    const [endFirst, endSecond] = [runtime.observe(count), runtime.observe(count)];
    const workflow = defineWorkflow({ agent, name: 'w', run: () => 1 });
    await (await runtime.invoke(workflow)).result();
    expect(told).toBe(4);
    endFirst();
    await (await runtime.invoke(workflow)).result();
    expect(told).toBe(6);
    endSecond();
    await (await runtime.invoke(workflow)).result();
    expect(told).toBe(6);
  });
});

describe('a runtime', () => {
  // contract: 10.2-local-warning
  test('warns once of a sandbox that is none, also when the agent names it anew for each run', async ({
    runtime,
    directory,
    logged,
  }) => {
    const own = defineAgent(() => ({ sandbox: local({ cwd: directory }) }));
    const workflow = defineWorkflow({ agent: own, name: 'w', run: () => 1 });
    for (let i = 0; i < 3; i++) await (await runtime.invoke(workflow)).result();
    expect(logged.filter(({ msg }) => msg.startsWith('local() is no sandbox'))).toHaveLength(1);
  });

  // contract: 7.1-runs-limit
  test('lists the newest 100 runs, or as many as are asked for, at most 1,000', async ({ directory }) => {
    await using runtime = await createRuntime({
      store: ':memory:',
      sandbox: local({ cwd: directory }),
      concurrency: 50,
      logger: silent,
    });
    const workflow = defineWorkflow({ agent, name: 'w', run: () => 1 });
    const runs: RunHandle[] = [];
    for (let i = 0; i < 1_005; i++) runs.push(await runtime.invoke(workflow));
    await Promise.all(runs.map((run) => run.result()));
    const newest = runs.map(({ id }) => id).reverse();
    expect((await runtime.runs()).map(({ runId }) => runId)).toEqual(newest.slice(0, 100));
    expect((await runtime.runs({ limit: 10_000 })).map(({ runId }) => runId)).toEqual(newest.slice(0, 1_000));
    expect(await (await runtime.run(newest.at(-1) ?? '')).result()).toBe(1);
  });

  // contract: 1.8-close-once, 1.8-close-ends, 1.8-close-admits-nothing
  test('that is closed has ended all its runs, waits included, and closes once', async ({ directory }) => {
    const runtime = await createRuntime({
      store: ':memory:',
      sandbox: local({ cwd: directory }),
      concurrency: 1,
      logger: silent,
    });
    const workflow = defineWorkflow({
      agent,
      name: 'w',
      run: async ({ harness }) => void (await harness.shell('sleep 1503')),
    });
    const runs = [await runtime.invoke(workflow), await runtime.invoke(workflow)];
    const told = Promise.all(runs.map(eventsOf));
    await Promise.all([runtime.close(), runtime.close()]);
    expect((await Promise.all(runs.map((run) => run.record()))).map(({ state }) => state)).toEqual([
      'cancelled',
      'cancelled',
    ]);
    for (const run of runs) {
      await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
    }
    for (const events of await told) {
      expect(events.at(-1)).toMatchObject({ type: 'run_end', state: 'cancelled', isError: true });
    }
    await expect(runtime.invoke(workflow)).rejects.toMatchObject({ name: 'RuntimeUnavailableError', status: 503 });
    await expect(runtime.dispatch(agent, { instance: 'x', message: 'y' })).rejects.toMatchObject({
      name: 'RuntimeUnavailableError',
    });
  });
});

// contract: 7.4-deadline-run
test('a run that takes longer than its agent allows fails, with all that it started', async ({ runtime }) => {
  const slow = defineWorkflow({
    name: 'slow',
    agent: defineAgent(() => ({ durability: { timeoutMs: 300 } })),
    timeoutMs: 100_000,
    run: async ({ harness }) => void (await harness.shell('sleep 1000')),
  });
  const run = await runtime.invoke(slow);
  await expect(run.result()).rejects.toMatchObject({
    name: 'ActionTimeoutError',
    meta: { action: 'slow', timeoutMs: 300 },
  });
  expect(await run.record()).toMatchObject({ state: 'failed', error: { code: 'action_timeout' } });
});

describe('the sandbox of a run', () => {
  // contract: 1.6-sandbox, 10.1-once
  test('is that of its agent before that of the runtime, made once for all that is in it', async ({
    runtime,
    directory,
  }) => {
    await mkdir(join(directory, 'of-agent'));
    const requests: object[] = [];
    const sandbox: SandboxFactory = {
      createSandbox: (request) => {
        requests.push(request);
        return local({ cwd: join(directory, 'of-agent') }).createSandbox(request);
      },
    };
    const act = defineAction({
      name: 'act',
      description: 'Acts.',
      run: async ({ harness }) => (await harness.shell('pwd')).stdout.trim(),
    });
    const workflow = defineWorkflow({
      name: 'w',
      agent: defineAgent(() => ({ sandbox })),
      run: async ({ harness }) => {
        const [a, b] = await Promise.all([harness.session('a'), harness.session('b')]);
        const shells = [await a.shell('pwd'), await b.shell('pwd')];
        return [...shells.map(({ stdout }) => stdout.trim()), await harness.run(act)];
      },
    });
    const run = await runtime.invoke(workflow);
    const at = join(directory, 'of-agent');
    expect(await run.result()).toEqual([at, at, at]);
    expect(requests).toMatchObject([{ id: run.id, kind: 'run', resume: false }]);
  });
});

// contract: 1.8-env-default
test('initializers see the variables of the process, as they were when the runtime was made, and can not change them', async ({
  directory,
}) => {
  process.env.BERTH_TEST_ENV = 'before';
  await using runtime = await createRuntime({ sandbox: local({ cwd: directory }), logger: silent });
  process.env.BERTH_TEST_ENV = 'after';
  const seen: unknown[] = [];
  const own = defineAgent(({ env }) => {
    seen.push(env.BERTH_TEST_ENV, Object.isFrozen(env));
    return {};
  });
  await (await runtime.invoke(defineWorkflow({ agent: own, name: 'w', run: () => 1 }))).result();
  delete process.env.BERTH_TEST_ENV;
  expect(seen).toEqual(['before', true]);
});

// contract: 1.2-timeout, 2-end-grace
test('an agent or a sandbox that is never made is not waited for when its run times out or its instance is aborted', async ({
  directory,
}) => {
  const lateSandbox = gate<SandboxEnv>();
  const late: SandboxFactory = { createSandbox: () => lateSandbox.promise };
  const asked = gate();
  const never = defineAgent(
    () => {
      asked.open();
      return new Promise<AgentConfig>(() => {});
    },
    { name: 'never' },
  );
  const times = defineWorkflow({ name: 'times-out', agent: never, timeoutMs: 1, run: () => 1 });
  const cancels = defineWorkflow({ name: 'cancels', agent: defineAgent(() => ({ sandbox: late })), run: () => 1 });
  await using runtime = await createRuntime({ store: ':memory:', sandbox: local({ cwd: directory }), logger: silent });
  const runs = [await runtime.invoke(times), await runtime.invoke(cancels)];
  const receipt = await runtime.dispatch(never, { instance: 'a', message: 'Hello.' });
  await asked.promise;
  const aborted = runtime.abort(never, { instance: 'a' });
  void runs[1]?.cancel();
  await expect(runs[0]?.result()).rejects.toMatchObject({ name: 'ActionTimeoutError' });
  await expect(runs[1]?.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
  await expect(receipt.result()).rejects.toMatchObject({ name: 'SubmissionAbortedError' });
  expect(await aborted).toBe(true);
  for (const run of runs) expect(ofType(await eventsOf(run), 'log')).toMatchObject([{ level: 'warn' }]);
  const env = await local({ cwd: directory }).createSandbox({ signal: new AbortController().signal } as SandboxRequest);
  const ended = gate();
  lateSandbox.open(
    Object.assign(env, {
      close: async () => ended.open(),
    }),
  );
  await ended.promise; // one that comes after all is closed
});
