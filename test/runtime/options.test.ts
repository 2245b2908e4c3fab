import { describe, expect } from 'vitest';
import { defineAction } from '../../src/runtime/define/action.ts';
import { defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import { registerProvider } from '../../src/runtime/model/providers.ts';
import { createRuntime, type Runtime } from '../../src/runtime/run/runtime.ts';
import { docker } from '../../src/runtime/sandbox/docker.ts';
import { local } from '../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../src/testing/scripted-model.ts';
import { inHarness, test } from '../support/runtime.ts';

const agent = defineAgent(() => ({}), { name: 'agent' });
const workflow = defineWorkflow({ agent, name: 'w', run: () => 1 });
const action = defineAction({ name: 'act', description: 'Acts.', run: () => 1 });

/** What the compiler would refuse: callers in JavaScript may write it. */
const untyped = (options: object) => options as never;

describe('an option that a call does not have is refused, with its name and those that there are:', () => {
  // contract: 1.1-unknown-options
  test.for<[call: string, make: (runtime: Runtime, options: never) => unknown]>([
    ['invoke', (runtime, options) => runtime.invoke(workflow, options)],
    ['runs', async (runtime, options) => runtime.runs(options)],
    ['events', async (runtime, options) => (await runtime.invoke(workflow)).events(options)],
  ])('%s', async ([call, make], { runtime }) => {
    await expect(make(runtime, untyped({ singal: 1 }))).rejects.toMatchObject({
      name: 'InvalidRequestError',
      message: expect.stringMatching(`${call} has no option singal \\(it has .*\\)`),
    });
  });

  test('dispatch', async ({ runtime }) => {
    const options = untyped({ instance: 'a', message: 'Hello.', singal: 1 });
    await expect(runtime.dispatch(agent, options)).rejects.toMatchObject({
      name: 'InvalidRequestError',
      message: expect.stringContaining('dispatch has no option singal'),
    });
  });

  // contract: 1.1-unknown-options, 3.2-refused-before
  test('prompt, shell, run and emit; nothing is told of them, and the session is free', async ({ runtime }) => {
    const told: RuntimeEvent[] = [];
    const { model } = await inHarness(runtime, ['Hello.'], async (harness) => {
      const session = await harness.session();
      const stop = runtime.observe((event) => told.push(event));
      const options = untyped({ singal: 1 });
      for (const [call, refused] of [
        ['prompt', session.prompt('x', options)],
        ['shell', harness.shell('true', options)],
        ['run', harness.run(action, undefined, options)],
      ] as const) {
        await expect(refused).rejects.toThrow(`${call} has no option singal`);
      }
      await expect(session.shell('true', options)).rejects.toThrow('shell has no option singal');
      expect(() => harness.emit('x', 1, options)).toThrow('emit has no option singal');
      stop();
      await session.prompt('Hello?');
    });
    expect(told).toEqual([]);
    expect(model.requests).toHaveLength(1);
  });

  // contract: 1.8-options, 10.2-docker-options
  test('createRuntime, docker, local, registerProvider', async () => {
    await expect(createRuntime(untyped({ concurency: 1 }))).rejects.toThrow(/concurency is not a known field/);
    expect(() => docker(untyped({ imag: 'x' }))).toThrow(/imag: is not an option/);
    expect(() => docker(untyped({ id: 'x' }))).toThrow(/id: is not an option/);
    expect(() => local(untyped({ dir: 'x' }))).toThrow(/dir is not a known field/);
    expect(() => registerProvider('openai', untyped({ baseURL: 'http://x' }))).toThrow(/baseURL is written baseUrl/);
  });

  test('scriptedModel, its answers, and their tool calls', async () => {
    expect(() => scriptedModel([], untyped({ name: 'x' }))).toThrow('scriptedModel has no option name');
    expect(() => scriptedModel([untyped({ toolCall: [] })])).toThrow('turn 1 of the script has no option toolCall');
    expect(() => scriptedModel(['x', untyped({ toolCalls: [{ name: 'bash', args: {} }] })])).toThrow(
      'a tool call of turn 2 has no option args',
    );
  });
});

test.for<object>([
  { env: { A: 1 } },
  { env: ['A=1'] },
  { env: null },
  { cwd: 5 },
  { timeoutMs: 0 },
  { timeoutMs: '5' },
  { timeoutMs: Number.NaN },
  { maxOutput: -1 },
  { maxOutput: 1.5 },
])('shell refuses %j before it starts anything', async (options, { runtime }) => {
  await inHarness(runtime, [], async (harness) => {
    await expect(harness.shell('touch started', untyped(options))).rejects.toMatchObject({
      name: 'InvalidRequestError',
    });
    expect(await harness.fs.exists('started')).toBe(false);
  });
});

test('what is no signal is refused before anything is done', async ({ runtime }) => {
  const options = untyped({ signal: 5 });
  await expect(runtime.invoke(workflow, options)).rejects.toThrow('must be an AbortSignal');
  expect(await runtime.runs()).toEqual([]);
  await inHarness(runtime, [], async (harness) => {
    await expect(harness.shell('true', options)).rejects.toThrow('must be an AbortSignal');
  });
});

// contract: 1.8-options, 1.8-one-name
test('options that are no object are refused as well, and records that are no plain object', async ({ runtime }) => {
  await expect(runtime.invoke(workflow, null as never)).rejects.toMatchObject({ name: 'InvalidRequestError' });
  await expect(createRuntime(untyped({ workflows: [workflow], models: [] }))).rejects.toMatchObject({
    name: 'DefinitionError',
    issues: [{ path: 'workflows' }, { path: 'models' }],
  });
  await expect(createRuntime({ store: ':memory:', workflows: { one: workflow, two: workflow } })).rejects.toMatchObject(
    {
      issues: [{ path: 'workflows.two', message: expect.stringContaining('is one already') }],
    },
  );
  await using made = await createRuntime({ store: ':memory:', env: process.env });
  expect(await made.runs()).toEqual([]);
});

// contract: 1.8-registered-names
test('agents and workflows are registered under names that definitions could have, all others are refused', async () => {
  const agent = defineAgent(() => ({}));
  const bad = createRuntime({
    store: ':memory:',
    agents: { helper: agent, 'no name': defineAgent(() => ({})) },
    workflows: { [`w${'x'.repeat(64)}`]: workflow, '': defineWorkflow({ agent, run: () => 1 }) },
  });
  await expect(bad).rejects.toMatchObject({
    name: 'DefinitionError',
    issues: [{ path: 'agents["no name"]' }, { path: `workflows.w${'x'.repeat(64)}` }, { path: 'workflows[""]' }],
  });
});
