import {
  ActionInputValidationError,
  type AgentProfile,
  type CallHandle,
  type Checkpoint,
  type CompletedAttempt,
  DefinitionError,
  defineAction,
  defineAgent,
  defineAgentProfile,
  defineTool,
  defineWorkflow,
  dispatch,
  type Harness,
  InvalidRequestError,
  type InvokeOptions,
  invoke,
  type PromptOptions,
  type Receipt,
  type RunHandle,
  type Session,
  type WorkflowDefinition,
} from 'berth';
import * as v from 'valibot';
import { describe, expect, expectTypeOf } from 'vitest';
import { test } from '../support/runtime.ts';

const agent = defineAgent(() => ({}));
const common = { name: 'a', description: 'd' };
const noInput = defineWorkflow({ name: 'no-input', agent, run: () => 1 });
const required = defineWorkflow({
  name: 'required',
  agent,
  input: v.object({ n: v.number(), unit: v.optional(v.string()) }),
  output: v.object({ n: v.pipe(v.number(), v.transform(String), v.string()) }),
  run: ({ input }) => ({ n: input.n }),
});
const optional = defineWorkflow({
  name: 'optional',
  agent,
  input: v.object({ n: v.optional(v.number(), 1) }),
  run: () => 1,
});

/** Compiled, and never called. */
const compiled = (check: (given: never) => unknown) => expect(check).toBeTypeOf('function');

describe('a definition', () => {
  // contract: 1.4-types
  test('takes an object schema for its input, and no other', () => {
    const piped = v.pipe(
      v.strictObject({ from: v.number(), to: v.number() }),
      v.check(({ from, to }) => from < to),
    );
    for (const input of [v.object({}), v.looseObject({}), v.objectWithRest({}, v.number()), piped]) {
      expect(defineAction({ ...common, input, run: () => 1 }).input).toBe(input);
    }
    const run = () => 1;
    const refused = [
      // @ts-expect-error: a text
      () => defineAction({ ...common, input: v.string(), run }),
      // @ts-expect-error: it may be missing
      () => defineAction({ ...common, input: v.optional(v.object({})), run }),
      // @ts-expect-error: a record
      () => defineTool({ ...common, input: v.record(v.string(), v.number()), run }),
      // @ts-expect-error: one of several
      () => defineTool({ ...common, input: v.union([v.object({}), v.object({ a: v.string() })]), run }),
      // @ts-expect-error: asynchronous
      () => defineWorkflow({ agent, input: v.objectAsync({}), run }),
      // @ts-expect-error: it is no schema
      () => defineAction({ ...common, input: { n: Number }, run }),
      // @ts-expect-error: asynchronous
      () => defineAction({ ...common, output: v.objectAsync({}), run }),
    ];
    for (const define of refused) expect(define).toThrow(DefinitionError);
  });

  // contract: 1.4-types
  test('has no other fields than its own, each of its type', () => {
    const action = defineAction({ ...common, run: () => 1 });
    const refused = [
      // @ts-expect-error: misspelt
      () => defineAction({ ...common, run: () => 1, timeoutMS: 5 }),
      // @ts-expect-error: no `run`
      () => defineAction({ ...common }),
      // @ts-expect-error: a text is no number
      () => defineTool({ ...common, run: () => 1, timeoutMs: '5' }),
      // @ts-expect-error: the name of another library
      () => defineTool({ ...common, execute: () => 1 }),
      // @ts-expect-error: neither action nor run
      () => defineWorkflow({ agent }),
      // @ts-expect-error: no agent
      () => defineWorkflow({ run: () => 1 }),
      // @ts-expect-error: both
      () => defineWorkflow({ agent, action, run: () => 1 }),
      // @ts-expect-error: the action has an input of its own
      () => defineWorkflow({ agent, action, input: v.object({}) }),
      // @ts-expect-error: a configuration is no definition
      () => defineWorkflow({ agent: { model: 'a/b' }, action }),
      // @ts-expect-error: misspelt
      () => defineAgentProfile({ instrctions: 'Be short.' }),
      // @ts-expect-error: there is no such level
      () => defineAgentProfile({ thinkingLevel: 'loud' }),
      // @ts-expect-error: an agent has the sandbox
      () => defineAgentProfile({ name: 'p', sandbox: undefined }),
    ];
    for (const define of refused) expect(define).toThrow(DefinitionError);
    const profile: AgentProfile = { name: 'p' };
    expectTypeOf(defineAgentProfile(profile)).toEqualTypeOf<AgentProfile>();
    expectTypeOf(defineAgentProfile({ name: 'p', builtinTools: ['read'] }).name).toEqualTypeOf<'p'>();
  });

  // contract: 1.4-types
  test('of an agent has a configuration of known fields, at once or later', () => {
    compiled(() => [
      defineAgent(({ id, env }) => ({ instructions: `You are ${id} of ${env.USER}.`, builtinTools: false })),
      defineAgent(async () => ({ model: 'a/b', compaction: { reserveTokens: 1_000 } })),
      // @ts-expect-error: misspelt
      defineAgent(() => ({ instrctions: 'Be short.' })),
      // @ts-expect-error: also in a promise
      defineAgent(async () => ({ thinkingLevel: 'loud' })),
      // @ts-expect-error: there is no such tool
      defineAgent(() => ({ builtinTools: ['cat'] })),
      // @ts-expect-error: a configuration is no function
      defineAgent({ model: 'a/b' }),
    ]);
  });

  // contract: 1.4-types
  test('gives `run` the output side of the input schema, and takes the input side of the output schema', () => {
    const when = v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    );
    defineTool({
      ...common,
      input: v.object({ when }),
      output: v.object({ at: when }),
      run({ input, signal, toolCallId }) {
        expectTypeOf(input).toEqualTypeOf<{ when: Date }>();
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        return { at: toolCallId };
      },
    });
    // @ts-expect-error: a tool has no harness
    defineTool({ ...common, run: ({ harness }) => harness });
    // @ts-expect-error: without a schema there is no input
    defineTool({ ...common, run: ({ input }) => input });
    // @ts-expect-error: the input side is a text
    defineTool({ ...common, output: v.object({ at: when }), run: () => ({ at: new Date() }) });
    expectTypeOf(required).toEqualTypeOf<WorkflowDefinition<{ n: number; unit?: string | undefined }, { n: string }>>();
    const bound = defineWorkflow({ agent, action: defineAction({ ...common, run: async () => {} }) });
    expectTypeOf(bound).toEqualTypeOf<WorkflowDefinition<undefined, null>>();
  });
});

describe('a harness', () => {
  // contract: 1.4-types
  test('has attempts whose value is inferred, for `choose` too, and checkpoints', () => {
    compiled((harness: Harness) => {
      const numbers = harness.attempt(async ({ attempt, signal, log }) => {
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
        log.info('at work');
        return { attempt };
      });
      expectTypeOf(numbers).toEqualTypeOf<CallHandle<{ attempt: number }>>();
      expectTypeOf(harness.attempt(() => {})).toEqualTypeOf<CallHandle<null>>();
      const chosen = harness.attempt(({ attempt }) => ({ failing: attempt }), {
        count: 3,
        choose: (completed) => {
          expectTypeOf(completed).toEqualTypeOf<readonly CompletedAttempt<{ failing: number }>[]>();
          return completed.reduce((a, b) => (b.value.failing < a.value.failing ? b : a)).attempt;
        },
      });
      expectTypeOf(chosen).toEqualTypeOf<CallHandle<{ failing: number }>>();
      expectTypeOf(harness.checkpoint()).toEqualTypeOf<CallHandle<Checkpoint>>();
      return [
        // @ts-expect-error: it gives the number of an attempt
        harness.attempt(() => 1, { choose: () => 'first' }),
        // @ts-expect-error: misspelt
        harness.attempt(() => 1, { counts: 3 }),
        // @ts-expect-error: there is no such mode
        defineAction({ ...common, files: 'forked', run: () => 1 }),
        defineWorkflow({ agent, files: 'transaction', run: () => 1 }),
      ];
    });
  });
});

describe('invoke', () => {
  // contract: 1.4-types
  test('needs the input where the schema has a required field, of the runtime and of the module', async ({
    runtime,
  }) => {
    // @ts-expect-error: no input
    await expect(runtime.invoke(required)).rejects.toThrow(ActionInputValidationError);
    // @ts-expect-error: other options, and no input
    await expect(runtime.invoke(required, { id: 'x' })).rejects.toThrow(ActionInputValidationError);
    // @ts-expect-error: of another type
    await expect(runtime.invoke(required, { input: { n: '1' } })).rejects.toThrow(ActionInputValidationError);
    // @ts-expect-error: misspelt
    await expect(runtime.invoke(required, { input: { n: 1 }, signl: undefined })).rejects.toThrow(InvalidRequestError);
    expect(await runtime.runs()).toEqual([]);
    compiled(() => [
      // @ts-expect-error: no input
      invoke(required),
      // @ts-expect-error: of another type
      invoke(required, { input: { n: '1' } }),
      invoke(required, { input: { n: 1 }, id: 'x' }),
    ]);
  });

  // contract: 1.4-types
  test('leaves out the input where there is none, or an empty one fits', async ({ runtime }) => {
    const results = [
      await (await runtime.invoke(noInput)).result(),
      await (await runtime.invoke(noInput, {})).result(),
      await (await runtime.invoke(optional)).result(),
      await (await runtime.invoke(optional, { input: { n: 2 } })).result(),
    ];
    expect(results).toEqual([1, 1, 1, 1]);
    compiled((unknown: WorkflowDefinition) => [
      invoke(noInput),
      invoke(optional, { id: 'x' }),
      runtime.invoke(unknown),
      runtime.invoke(unknown, { input: 5 }),
      // @ts-expect-error: it takes none
      runtime.invoke(noInput, { input: 5 }),
    ]);
  });

  // contract: 1.4-types
  test('gives the output of the definition, and of a name what nobody knows', () => {
    compiled(async () => {
      expectTypeOf(await invoke(required, { input: { n: 1 } })).toEqualTypeOf<RunHandle<{ n: string }>>();
      expectTypeOf(await invoke('required', { input: { n: 1 } })).toEqualTypeOf<RunHandle<unknown>>();
      const options: InvokeOptions<{ n: number }> = { id: 'x' };
      // @ts-expect-error: whether there is an input is not known
      await invoke(required, options);
    });
  });
});

// contract: 1.4-types, 7.2-forms
test('dispatch takes a definition or a name, of the runtime and of the module', async ({ runtime }) => {
  compiled(async () => {
    expectTypeOf(await dispatch(agent, { instance: 'a', message: 'x' })).toEqualTypeOf<Receipt>();
    expectTypeOf(await dispatch('helper', { id: 'a', input: { n: 1 } })).toEqualTypeOf<Receipt>();
    await dispatch({ agent: 'helper', instance: 'a', message: 'x', key: 'k' });
    // @ts-expect-error: no instance
    await dispatch('helper', { message: 'x' });
    // @ts-expect-error: a workflow is no agent
    await dispatch(noInput, { instance: 'a', message: 'x' });
    // @ts-expect-error: of what agent?
    await dispatch({ instance: 'a', message: 'x' });
  });
  // @ts-expect-error: one of message and input
  await expect(runtime.dispatch(agent, { instance: 'a' })).rejects.toThrow(InvalidRequestError);
});

// contract: 1.4-types
test('prompt and task give data of the result schema, and only with one', () => {
  compiled(async (session: Session) => {
    const result = v.object({ when: v.pipe(v.string(), v.transform(Number)) });
    expectTypeOf((await session.prompt('x', { result })).data).toEqualTypeOf<{ when: number }>();
    expectTypeOf((await session.task('x', { result, agent: 'y' })).data).toEqualTypeOf<{ when: number }>();
    expectTypeOf((await session.prompt('x', { result: v.array(v.string()) })).data).toEqualTypeOf<string[]>();
    expectTypeOf(await session.task('x')).not.toHaveProperty('data');
    const options: PromptOptions = {};
    expectTypeOf(await session.prompt('x', options)).not.toHaveProperty('data');
    // @ts-expect-error: asynchronous
    await session.prompt('x', { result: v.objectAsync({}) });
    // @ts-expect-error: a task has it
    await session.prompt('x', { agent: 'y' });
  });
});

// contract: 1.4-types
test('harness.run needs the input of the action, and gives its output', () => {
  const double = defineAction({ ...common, input: v.object({ n: v.number() }), run: ({ input }) => input.n * 2 });
  const bare = defineAction({ ...common, run: () => {} });
  compiled(async (harness: Harness) => {
    expectTypeOf(await harness.run(double, { n: 1 }, { signal: AbortSignal.abort() })).toEqualTypeOf<number>();
    expectTypeOf(await harness.run(bare, undefined, {})).toEqualTypeOf<null>();
    // @ts-expect-error: no input
    await harness.run(double);
    // @ts-expect-error: misspelt
    await harness.run(double, { n: 1, m: 2 });
    // @ts-expect-error: a workflow is no action
    await harness.run(noInput);
  });
});
