import * as v from 'valibot';
import { expect, expectTypeOf, test } from 'vitest';
import { type ActionDefinition, defineAction, isAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, defineAgent, defineAgentProfile, resolveAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { defineWorkflow, type WorkflowDefinition } from '../../../src/runtime/define/workflow.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';

const agent = defineAgent(() => ({}));
const noop = defineAction({ name: 'noop', description: 'Does nothing.', run: () => {} });

function issuesOf(define: () => unknown): Record<string, string> {
  try {
    define();
  } catch (error) {
    if (error instanceof DefinitionError) {
      return Object.fromEntries(error.issues.map(({ path, message }) => [path, message]));
    }
    throw error;
  }
  throw new Error('it was not refused');
}

/** What the compiler would refuse: callers in JavaScript may write it. */
const untyped = (options: object) => options as never;

async function configIssues(config: object): Promise<Record<string, string>> {
  const resolving = resolveAgent(
    defineAgent(() => untyped(config)),
    { id: 'x', env: {} },
  );
  const error: unknown = await resolving.catch((thrown: unknown) => thrown);
  return issuesOf(() => {
    throw error;
  });
}

// contract: 1.1-all-issues, 1.1-unknown-fields, 1.1-not-blank, 1.2-required, 1.2-timeout-valid, 1.2-input-schema
test('tells everything that is wrong with a definition, not only the first', () => {
  const issues = issuesOf(() =>
    defineAction(untyped({ name: 'no name', description: ' ', run: 1, timeoutMs: 0, input: v.string(), colour: 1 })),
  );
  expect(Object.keys(issues).sort()).toEqual(['colour', 'description', 'input', 'name', 'run', 'timeoutMs']);
});

// contract: 1.1-names-tools
test('takes names of 1 to 64 characters that every provider accepts', () => {
  const named = (name: string) => () => defineAction({ name, description: 'x', run: () => {} });
  for (const name of ['_', 'a'.repeat(64), 'fix-the_bug2']) expect(named(name)).not.toThrow();
  for (const name of ['', 'a'.repeat(65), '2a', 'a.b', 'a b', 'ä'])
    expect(issuesOf(named(name))).toHaveProperty('name');
});

// contract: 1.1-frozen, 1.1-identity, 1.1-at-once
test('is frozen, and known by identity: a copy or a look-alike is refused', () => {
  expect(Object.isFrozen(noop)).toBe(true);
  expect(isAction(noop)).toBe(true);
  expect(isAction({ ...noop })).toBe(false);
  expect(isAction(Object.create(noop))).toBe(false);
  expect(issuesOf(() => defineWorkflow({ agent, action: { ...noop } }))).toHaveProperty('action');
  expect(issuesOf(() => defineWorkflow({ agent: { ...agent }, action: noop }))).toHaveProperty('agent');
});

// contract: 1.1-two-copies
test('is known to a second copy of the package in the same process', async () => {
  const second = '../../../src/runtime/define/definition.ts?second';
  const { isDefined } = (await import(second)) as typeof import('../../../src/runtime/define/definition.ts');
  expect(isDefined('action', noop)).toBe(true);
});

// contract: 1.2-files
test('says of the files of an action whether they are a transaction', async () => {
  const given = { name: 'noop', description: 'Does nothing.', run: () => {} };
  expect(defineAction({ ...given, files: 'transaction' }).files).toBe('transaction');
  expect(noop).not.toHaveProperty('files');
  expect(issuesOf(() => defineAction(untyped({ ...given, files: 'forked' }))).files).toContain('transaction');
});

// contract: 1.6-durability
test('takes a time limit and a number of attempts that are whole numbers above 0, also in a profile', async () => {
  expect(await configIssues({ durability: { maxAttempts: 0 } })).toHaveProperty('durability.maxAttempts');
  for (const timeoutMs of [0, -1, 1.5, Number.POSITIVE_INFINITY, '1']) {
    expect(await configIssues({ durability: { timeoutMs } })).toHaveProperty('durability.timeoutMs');
  }
  expect(await configIssues({ durability: 5 })).toHaveProperty('durability');
  expect(await configIssues({ profile: { durability: { timeout: 1 } } })).toHaveProperty('profile.durability.timeout');
  const profile = defineAgentProfile({ durability: { timeoutMs: 5, maxAttempts: 3 } });
  const resolved = await resolveAgent(
    defineAgent(() => ({ profile })),
    { id: 'x', env: {} },
  );
  expect(resolved.durability).toEqual({ timeoutMs: 5, maxAttempts: 3 });
});

// contract: 1.3-old-names
test('names the new fields to those who write the old ones of a tool', () => {
  const issues = issuesOf(() => defineTool(untyped({ name: 't', description: 't', parameters: {}, execute: () => 1 })));
  expect(issues.parameters).toContain('input');
  expect(issues.execute).toContain('run');
});

// contract: 1.3-plain-object
test('takes a plain object in a tools array by the rules of defineTool, with the path of what is wrong', async () => {
  const issues = await configIssues({ tools: [{ name: 't', description: 't', run: () => 1 }, { name: '?' }] });
  expect(Object.keys(issues).sort()).toEqual(['tools[1].description', 'tools[1].name', 'tools[1].run']);
});

// contract: 1.1-tools-equal-in-array, 1.6-profile-duplicates
test('refuses two equal names in one array, also when one comes from the profile', async () => {
  const tool = { name: 't', description: 't', run: () => 1 };
  expect(await configIssues({ tools: [tool, tool] })).toHaveProperty('tools[1].name');
  expect(await configIssues({ profile: { actions: [noop] }, actions: [noop] })).toHaveProperty('actions[1].name');
});

// contract: 1.6-profile-own-wins, 1.6-profile-arrays, 4.6-thinking-default
test('lays a configuration over its profile: own fields win even when undefined, arrays follow', async () => {
  const first = { name: 'first', description: 't', run: () => 1 };
  const second = { name: 'second', description: 't', run: () => 1 };
  const profile = defineAgentProfile({ model: 'a/b', instructions: 'From the profile.', tools: [first] });
  const layered = defineAgent(() => ({ profile, model: undefined, tools: [second] }));
  const resolved = await resolveAgent(layered, { id: 'x', env: {} });
  expect(resolved.model).toBeUndefined();
  expect(resolved.instructions).toBe('From the profile.');
  expect(resolved.tools.map(({ name }) => name)).toEqual(['first', 'second']);
  expect(resolved.thinkingLevel).toBe('medium');
});

// contract: 1.6-initializer-context
test('gives the initializer the id and the environment of the runtime', async () => {
  const asked: unknown[] = [];
  const asking = defineAgent((context) => {
    asked.push({ ...context });
    return {};
  });
  await resolveAgent(asking, { id: 'run_1', env: { KEY: 'x' } });
  expect(asked).toEqual([{ id: 'run_1', env: { KEY: 'x' } }]);
});

// contract: 1.1-profile-as-given, 1.6-profile-valid, 1.6-thinking-level
test('gives a profile back as it is, and refuses a bad one', () => {
  const profile = { name: 'reviewer', instructions: 'Review.' };
  expect(defineAgentProfile(profile)).toBe(profile);
  expect(issuesOf(() => defineAgentProfile(untyped({ name: '1', thinkingLevel: 'loud' })))).toEqual({
    name: expect.any(String),
    thinkingLevel: expect.any(String),
  });
});

// contract: 1.7-one-of, 1.7-bound, 1.7-bound-name
test('takes either an action or a run for a workflow, and nothing of the action beside it', () => {
  expect(defineWorkflow({ agent, action: noop }).name).toBe('noop');
  expect(defineWorkflow({ agent, name: 'other', action: noop }).name).toBe('other');
  expect(defineWorkflow({ agent, run: () => 1 }).name).toBeUndefined();
  expect(issuesOf(() => defineWorkflow(untyped({ agent })))).toHaveProperty(['']);
  const both = issuesOf(() => defineWorkflow(untyped({ agent, action: noop, run: () => 1, input: v.object({}) })));
  expect(Object.keys(both).sort()).toEqual(['input', 'run']);
});

// contract: 1.6-model-kinds
test('refuses a model that is neither a name nor a Model, and takes a Model', async () => {
  expect(await configIssues({ model: { provider: 'x' } })).toHaveProperty('model');
  const model = scriptedModel([]);
  const scripted = defineAgent(() => ({ model }));
  expect((await resolveAgent(scripted, { id: 'x', env: {} })).model).toBe(model);
});

// contract: 1.4-types
test('infers what an action takes and gives from its schemas', () => {
  const action = defineAction({
    name: 'typed',
    description: 'x',
    input: v.object({
      when: v.pipe(
        v.string(),
        v.transform((text) => new Date(text)),
      ),
      size: v.optional(v.number(), 1),
    }),
    output: v.object({ kind: v.picklist(['a', 'b']), at: v.optional(v.string(), '') }),
    run({ input, harness }) {
      expectTypeOf(input).toEqualTypeOf<{ when: Date; size: number }>();
      expectTypeOf(harness.session).returns.resolves.toHaveProperty('prompt');
      return { kind: 'a' };
    },
  });
  const workflow = defineWorkflow({ agent, action });
  expectTypeOf(action).toExtend<
    ActionDefinition<{ when: string; size?: number | undefined }, { kind: 'a' | 'b'; at: string }>
  >();
  expectTypeOf(workflow.action).toEqualTypeOf(action);
  defineAction({
    name: 'wrong',
    description: 'x',
    output: v.object({ kind: v.picklist(['a', 'b']) }),
    // @ts-expect-error the output schema has no such kind
    run: () => ({ kind: 'c' }),
  });
  // @ts-expect-error an action without an input schema has no input
  defineAction({ name: 'none', description: 'x', run: ({ input }) => input });
  const plain = defineAction({ name: 'plain', description: 'x', run: async () => ({ n: Date.now(), list: ['a'] }) });
  expectTypeOf(plain).toEqualTypeOf<ActionDefinition<undefined, { n: number; list: ['a'] }>>();
});

// contract: 1.4-types
test('takes literals for what a schema picks from, without a word more, wherever they are returned', () => {
  const output = v.object({
    level: v.picklist(['low', 'high']),
    kind: v.optional(v.literal('x')),
    list: v.optional(v.array(v.string())),
    when: v.optional(v.date()),
  });
  const input = v.object({ n: v.number() });
  const common = { name: 'a', description: 'd' };
  const variant = v.variant('t', [v.object({ t: v.literal('a'), x: v.number() }), v.object({ t: v.literal('b') })]);
  const actions = [
    defineAction({ ...common, output, run: () => ({ level: 'low', list: ['a'] }) }),
    defineAction({ ...common, output, run: async () => ({ level: 'high', when: new Date() }) }),
    defineAction({
      ...common,
      input,
      output,
      async run({ input, harness }) {
        const list: string[] = [harness.name];
        if (input.n > 1) return { level: 'low', kind: 'x', list };
        return { level: input.n > 0 ? 'low' : 'high' };
      },
    }),
    defineAction({ ...common, input, output: v.picklist(['a', 'b']), run: ({ input }) => (input.n > 1 ? 'a' : 'b') }),
    defineAction({
      ...common,
      input,
      output: variant,
      run: ({ input: { n } }) => (n > 1 ? { t: 'a', x: n } : { t: 'b' }),
    }),
    defineTool({ ...common, output, run: async ({ log }) => ({ level: log ? 'low' : 'high' }) }),
    defineWorkflow({ agent, output, run: async ({ log }) => ({ level: log ? 'low' : 'high' }) }),
    defineWorkflow({ agent, output, run: () => ({ level: 'low' }) }),
  ];
  expect(actions).toHaveLength(8);
  expectTypeOf(defineWorkflow({ agent, output, run: () => ({ level: 'low' }) })).toEqualTypeOf<
    WorkflowDefinition<undefined, v.InferOutput<typeof output>>
  >();
  // @ts-expect-error the schema has no such level
  defineAction({ ...common, output, run: async () => ({ level: 'mid' }) });
  // @ts-expect-error a field is missing
  defineAction({ ...common, output, run: () => ({ kind: 'x' }) });
  // @ts-expect-error an item is of another type
  defineTool({ ...common, output, run: async () => ({ level: 'low', list: [1] }) });
  // @ts-expect-error the schema has no such level
  defineWorkflow({ agent, output, run: ({ log }) => ({ level: log ? 'low' : 'mid' }) });
});

// contract: 1.1-names-agents
test('takes names of agents, workflows and profiles that begin with a letter, up to 64 characters', () => {
  const kinds = {
    agent: (name: string) => defineAgent(() => ({}), { name }),
    workflow: (name: string) => defineWorkflow({ agent, name, run: () => 1 }),
    profile: (name: string) => defineAgentProfile({ name }),
  };
  for (const [kind, define] of Object.entries(kinds)) {
    for (const name of ['a', 'A-b_2', 'a'.repeat(64)]) expect(() => define(name), `${kind} ${name}`).not.toThrow();
    for (const name of ['', '_a', '2a', 'a.b', 'a b', 'ä', 'a'.repeat(65)]) {
      const [path] = Object.keys(issuesOf(() => define(name)));
      expect(path, `${kind} ${name}`).toMatch(/^(options\.)?name$/);
    }
  }
});

// contract: 1.7-agent
test('needs an agent for a workflow, made by defineAgent', () => {
  expect(issuesOf(() => defineWorkflow(untyped({ run: () => 1 })))).toHaveProperty('agent');
  expect(issuesOf(() => defineWorkflow(untyped({ agent: () => ({}), run: () => 1 })))).toHaveProperty('agent');
});

// contract: 1.6-initializer-async
test('takes a promise of a configuration, and says what is wrong with it', async () => {
  const later = defineAgent(async () => ({ instructions: 'Later.' }));
  expect((await resolveAgent(later, { id: 'x', env: {} })).instructions).toBe('Later.');
  const bad = defineAgent(async () => untyped({ instructions: 5 }));
  await expect(resolveAgent(bad, { id: 'x', env: {} })).rejects.toThrow(DefinitionError);
});

// contract: 1.6-built-in-tools-unknown
test('refuses a name that no built-in tool has, in the list of those to keep', async () => {
  expect(await configIssues({ builtinTools: ['read', 'cat'] })).toHaveProperty('builtinTools[1]');
});

// contract: 1.6-compaction
test('takes false for compaction, or sizes that are whole and not negative and a model', async () => {
  const { resolved } = await compactionOf({ compaction: { reserveTokens: 0, keepRecentTokens: 8_000, model: 'a/b' } });
  expect(resolved).toEqual({ reserveTokens: 0, keepRecentTokens: 8_000, model: 'a/b' });
  expect(await compactionOf({ compaction: false })).toEqual({ resolved: false });
  expect(await compactionOf({})).toEqual({ resolved: {} });
  expect(await compactionOf({ profile: { compaction: false }, compaction: undefined })).toEqual({ resolved: {} });
  const wrong = { reserveTokens: -1, keepRecentTokens: 1.5, model: 5, threshold: 3 };
  const fields = Object.keys(wrong).map((field) => `compaction.${field}`);
  expect(Object.keys(await configIssues({ compaction: wrong })).sort()).toEqual(fields.sort());
  expect(Object.keys(await configIssues({ profile: { compaction: { reserveTokens: '5' } } }))).toEqual([
    'profile.compaction.reserveTokens',
  ]);
  expect(Object.keys(await configIssues({ compaction: true }))).toEqual(['compaction']);
});

async function compactionOf(config: AgentConfig) {
  const { compaction } = await resolveAgent(
    defineAgent(() => config),
    { id: 'x', env: {} },
  );
  return { resolved: compaction };
}
