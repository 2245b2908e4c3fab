import { access } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { ToolNameConflictError } from '../../../src/runtime/define/errors.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { HarnessClosedError, SessionBusyError } from '../../../src/runtime/errors.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import type { SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import type { Session } from '../../../src/runtime/session/session.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, inHarness, ofType, test } from '../../support/runtime.ts';

// contract: 3.4-busy, 3.4-side-by-side
test('a session takes one operation at a time: a second one is refused at once, other sessions go on', async ({
  runtime,
}) => {
  await inHarness(runtime, ['In the other one.', 'And here.'], async (harness) => {
    const session = await harness.session();
    const first = session.shell('sleep 100');
    await expect(session.prompt('Now.')).rejects.toMatchObject({
      constructor: SessionBusyError,
      meta: { session: 'default', activeOperation: 'shell' },
    });
    expect((await (await harness.session('other')).prompt('Now.')).text).toBe('In the other one.');
    first.abort();
    await expect(first).rejects.toMatchObject({ name: 'AbortError' });
    expect((await session.prompt('Now.')).text).toBe('And here.');
  });
});

// contract: 2-end-aborts, 2-end-awaits, 2-end-closed, 2-end-readable, 8-operation
test('ends all that is open before the result is delivered; later calls reject with HarnessClosedError', async ({
  runtime,
  directory,
}) => {
  let kept: { harness: Harness; session: Session } | undefined;
  const { run } = await inHarness(runtime, [{ delayMs: 100_000, text: 'never' }], async (harness) => {
    const session = await harness.session();
    kept = { harness, session };
    // Dropped handles: nobody awaits these.
    void session.prompt('Wait.');
    void harness.shell('sleep 100; touch late');
    await harness.shell('(sleep 100; touch later) & echo started');
  });
  const events = await eventsOf(run);
  const ends = ofType(events, 'operation');
  expect(ends).toHaveLength(3);
  expect(ends.filter(({ isError }) => isError)).toHaveLength(2);
  expect(events.at(-1)).toMatchObject({ type: 'run_end', state: 'completed' });
  await expect(kept?.harness.shell('true')).rejects.toThrow(HarnessClosedError);
  await expect(kept?.session.prompt('Again.')).rejects.toThrow(HarnessClosedError);
  expect(() => kept?.harness.emit('x', 1)).toThrow(HarnessClosedError);
  for (const fs of [kept?.harness.fs, kept?.session.fs]) {
    await expect(fs?.writeFile('late', '')).rejects.toThrow(HarnessClosedError);
    await expect(fs?.exists('late')).rejects.toThrow(HarnessClosedError);
  }
  expect((await kept?.session.history())?.[0]).toMatchObject({ role: 'user' });
  await expect(access(join(directory, 'late'))).rejects.toThrow();
});

// contract: 1.1-tools-reserved, 1.1-tools-equal-across
test('refuses two tools of one name, and reserved names, before a sandbox is made', async ({ runtime }) => {
  let made = 0;
  const sandbox: SandboxFactory = {
    createSandbox: async () => {
      made++;
      throw new Error('no sandbox was to be made');
    },
  };
  const tool = (name: string) => ({ name, description: 'x', run: () => 1 });
  const conflict = async (config: object) => {
    const agent = defineAgent(() => ({ sandbox, ...config }));
    const workflow = defineWorkflow({ name: `w${++count}`, agent, run: () => 1 });
    return (await runtime.invoke(workflow)).result();
  };
  let count = 0;
  const action = defineAction({ name: 'twice', description: 'x', run: () => 1 });
  await expect(conflict({ tools: [tool('finish')] })).rejects.toMatchObject({
    constructor: ToolNameConflictError,
    meta: { name: 'finish', conflict: 'reserved' },
  });
  await expect(conflict({ tools: [tool('bash')] })).rejects.toThrow(ToolNameConflictError);
  await expect(conflict({ tools: [tool('twice')], actions: [action] })).rejects.toThrow(ToolNameConflictError);
  expect(made).toBe(0);
});

// contract: 1.1-tools-replace-built-in, 1.6-built-in-tools
test('a custom tool may have the name of a built-in one that is switched off', async ({ runtime }) => {
  const model = scriptedModel([{ toolCalls: [{ name: 'bash' }] }, 'Done.']);
  const bash = { name: 'bash', description: 'Not the real one.', run: () => 'mine' };
  const agent = defineAgent(() => ({ model, builtinTools: ['read'], tools: [bash] }));
  const workflow = defineWorkflow({
    name: 'replaced',
    agent,
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
  });
  await (await runtime.invoke(workflow)).result();
  expect(model.requests[0]?.tools.map(({ name }) => name)).toEqual(['read', 'bash']);
  expect(JSON.stringify(model.requests[1]?.messages)).toContain('mine');
});

// contract: 2-model-message, 2-caller-goes-on, 1.4-model-arguments
test('an action that fails gives the model its message without a stack, and the caller goes on', async ({
  runtime,
}) => {
  const broken = defineAction({
    name: 'broken',
    description: 'x',
    run: () => {
      throw new Error(`It broke. ${'x'.repeat(5_000)}`);
    },
  });
  const empty = defineAction({ name: 'empty', description: 'x', run: () => {} });
  const model = scriptedModel([{ toolCalls: [{ name: 'broken' }, { name: 'empty', input: { any: 1 } }] }, 'Went on.']);
  const workflow = defineWorkflow({
    name: 'goes-on',
    agent: defineAgent(() => ({ model, actions: [broken, empty] })),
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
  });
  expect(await (await runtime.invoke(workflow)).result()).toBe('Went on.');
  const [first, second] = model.requests[1]?.messages.slice(-2) ?? [];
  expect(first).toMatchObject({ role: 'tool', isError: true });
  const text = JSON.stringify(first?.content);
  expect(text).toContain('It broke.');
  expect(text.length).toBeLessThan(4_300);
  expect(text).not.toContain('.ts:');
  expect(second).toMatchObject({ isError: false, content: [{ text: 'null' }] });
});

// contract: 4.4-run, 4.4-below, 4.4-action
test('usage of a child action counts for its caller and the run', async ({ runtime }) => {
  const child = defineAction({
    name: 'child',
    description: 'x',
    run: async ({ harness }) => (await (await harness.session()).prompt('Child.')).usage.input,
  });
  const model = scriptedModel([
    { toolCalls: [{ name: 'child' }], usage: { input: 1 } },
    { text: 'child', usage: { input: 10 } },
    { text: 'parent', usage: { input: 100 } },
  ]);
  const workflow = defineWorkflow({
    name: 'usage',
    agent: defineAgent(() => ({ model, actions: [child] })),
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).usage.input,
  });
  const run = await runtime.invoke(workflow);
  expect(await run.result()).toBe(111);
  expect((await run.record()).usage.input).toBe(111);
  const events = await eventsOf(run);
  expect(ofType(events, 'action')[0]?.usage?.input).toBe(10);
  expect(ofType(events, 'run_end')[0]?.usage?.input).toBe(111);
});

// contract: 2-log-any, 2-log-errors, 2-log-size
test('logs take any attributes: errors with their stack, what JSON has no form for as text', async ({ runtime }) => {
  const loop: { self?: unknown } = {};
  loop.self = loop;
  const action = defineAction({
    name: 'logs',
    description: 'x',
    run: ({ log }) => {
      log.error('all of it', { error: new RangeError('x'), big: 1n, when: new Date(0), loop, fn: () => 1 });
      log.info('large', { text: 'x'.repeat(100_000) });
    },
  });
  const { run } = await inHarness(runtime, [], async (harness) => {
    await harness.run(action);
  });
  const [all, large] = ofType(await eventsOf(run), 'log');
  expect(all?.attributes).toMatchObject({
    action: 'logs',
    error: { name: 'RangeError', message: 'x', stack: expect.any(String) },
    big: '1',
  });
  expect(JSON.stringify(large?.attributes).length).toBeLessThan(65_536);
});

// contract: 1.4-unexpected-input, 1.4-omitted-input
test('an input for an action that takes none is refused to code', async ({ runtime }) => {
  const none = defineAction({ name: 'none', description: 'x', run: () => 1 });
  const some = defineAction({
    name: 'some',
    description: 'x',
    input: v.object({ a: v.optional(v.number(), 7) }),
    run: ({ input }) => input.a,
  });
  await inHarness(runtime, [], async (harness) => {
    await expect(harness.run(none, 1 as never)).rejects.toMatchObject({ code: 'action_input_validation' });
    expect(await harness.run(some)).toBe(7);
  });
});
