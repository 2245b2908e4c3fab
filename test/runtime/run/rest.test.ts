import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import type { RunHandle } from '../../../src/runtime/run/run.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import type { RuntimeOptions } from '../../../src/runtime/run/runtime-options.ts';
import type { SandboxFactory, WorkOutcome } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { endLeases, interruptedCopy } from '../../support/interrupted.ts';
import { eventsOf, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const silent = pino({ level: 'silent' });

function open(directory: string, options: RuntimeOptions = {}, store = 'runtime.db'): Promise<Runtime> {
  return createRuntime({
    store: join(directory, store),
    logger: silent,
    sandbox: local({ cwd: directory }),
    ...options,
  });
}

function workflow(run: (harness: Harness) => unknown, name?: string) {
  return defineWorkflow({
    ...(name !== undefined && { name }),
    agent: defineAgent(() => ({ workspaceContext: false })),
    run: ({ harness }) => run(harness),
  });
}

/** Whose environments tell how they were closed, the root ones. */
function watched(directory: string, closed: (outcome: WorkOutcome | undefined) => unknown): SandboxFactory {
  const inner = local({ cwd: directory });
  return {
    createSandbox: async (request) => {
      const env = await inner.createSandbox(request);
      const close = env.close.bind(env);
      env.close = async (outcome) => {
        await closed(outcome);
        await close(outcome);
      };
      return env;
    },
  };
}

describe('a message', () => {
  test('that was taken in an action which has ended is not taken again', async ({ directory }) => {
    const take = defineAction({
      name: 'take',
      description: 'Takes one.',
      run: ({ harness }): Promise<unknown> => harness.waitFor('one'),
    });
    const w = workflow(async (harness) => [await harness.run(take), await harness.waitFor('one')]);
    {
      await using first = await open(directory, { workflows: { w } });
      const run = await first.invoke('w', { id: 'the-run' });
      await run.send('one', 1);
      await expect.poll(async () => (await typesSoFar(run)).includes('action')).toBe(true);
    }
    await using later = await open(directory, { workflows: { w } });
    const run = await later.run('the-run');
    await sleep(500);
    await run.send('one', 2);
    expect(await run.result()).toEqual([1, 2]);
  });

  test('is taken by the call that took it before, in whatever order the calls come again', async ({ directory }) => {
    let attempt = 0;
    const w = workflow(async (harness) => {
      const first = () => harness.waitFor('one', { timeoutMs: 60_000 });
      const second = () => harness.waitFor('one', { timeoutMs: 60_001 });
      if (attempt++ === 0) return Promise.all([first(), second()]);
      const late = second();
      await sleep(600); // its own
      return Promise.all([first(), late]);
    });
    {
      await using first = await open(directory, { workflows: { w } });
      const run = await first.invoke('w', { id: 'the-run' });
      await run.send('one', 1);
      await expect.poll(async () => (await typesSoFar(run)).includes('operation')).toBe(true);
    }
    await using later = await open(directory, { workflows: { w } });
    const run = await later.run('the-run');
    await run.send('one', 2);
    expect(((await run.result()) as number[]).sort()).toEqual([1, 2]);
  });
});

describe.concurrent('a run that waits', () => {
  test('is not suspended while its code goes on with what came', async ({ directory }) => {
    const w = workflow(async (harness) => {
      const first = async () => {
        await harness.waitFor('first');
        await sleep(3_000); // the code is at work on its own
        return harness.step('after', () => 'done');
      };
      const second = harness.waitFor('second', { timeoutMs: 60 * 60 * 1000 });
      return Promise.race([first(), second]);
    });
    await using runtime = await open(directory, { workflows: { w } });
    const run = await runtime.invoke('w');
    await sleep(9_000);
    await run.send('first', 1);
    expect(await run.result()).toBe('done');
  });

  test('can be cancelled, and gone on with, while it is being suspended', async ({ directory }) => {
    const suspending = gate();
    const go = gate();
    const sandbox = watched(directory, async (outcome) => {
      if (outcome !== 'suspended') return;
      suspending.open();
      await go.promise;
    });
    const w = workflow((harness) => harness.waitFor('one'));
    await using runtime = await open(directory, { workflows: { w }, sandbox });
    const run = await runtime.invoke('w');
    await suspending.promise;
    const resumed = Promise.all([run.resume(), run.resume()]);
    const cancelled = run.cancel('no more');
    go.open();
    await Promise.all([resumed, cancelled]);
    await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
    expect((await eventsOf(run)).map(({ eventIndex }) => eventIndex)).toEqual(
      (await eventsOf(run)).map((_, index) => index),
    );
  });
});

describe('close()', () => {
  test('fails no run that waits for another one, or invokes one meanwhile', async ({ directory }) => {
    let opened: Runtime | undefined;
    const asked = gate();
    const answer = gate();
    const model = scriptedModel([
      async () => {
        asked.open();
        await answer.promise;
        return 'Done.';
      },
    ]);
    const child = workflow((harness) => harness.waitFor('one'), 'child');
    const agent = defineAgent(() => ({ model, workspaceContext: false }), { name: 'agent' });
    const parent = defineWorkflow({
      name: 'parent',
      agent,
      run: async ({ harness }) => {
        const run = await opened?.invoke('child', { id: 'the-child' });
        const both = Promise.all([run?.result(), (await harness.session()).prompt('Work.')]);
        await both;
      },
    });
    const late = defineWorkflow({
      name: 'late',
      agent,
      run: async () => {
        await answer.promise;
        await opened?.invoke('child', { id: 'another' });
      },
    });
    const workflows = { parent, child, late };
    const runtime: Runtime = await open(directory, { workflows });
    opened = runtime;
    const run = await runtime.invoke('parent', { id: 'the-parent' });
    const lateRun = await runtime.invoke('late', { id: 'the-late' });
    const ended = run.result().catch((error: Error) => error.name);
    const lateEnded = lateRun.result().catch((error: Error) => error.name);
    await asked.promise;
    const closing = runtime.close();
    await sleep(1_000); // the child is suspended meanwhile
    answer.open();
    await closing;
    expect(await ended).toBe('RuntimeUnavailableError');
    expect(await lateEnded).toBe('RuntimeUnavailableError');
    await using later = await open(directory, { recover: false });
    expect((await later.runs()).map(({ runId, state }) => [runId, state])).toEqual([
      ['the-child', 'suspended'],
      ['the-late', 'suspended'],
      ['the-parent', 'suspended'],
    ]);
  });

  test('is told to who waits for a run of another process', async ({ directory }) => {
    const w = workflow((harness) => harness.waitFor('one'));
    await using first = await open(directory, { workflows: { w } });
    await first.invoke('w', { id: 'the-run' });
    const second = await open(directory, { recover: false });
    const run = await second.run('the-run');
    const ended = run.result().catch((error: Error) => error.name);
    await second.close();
    expect(await ended).toBe('RuntimeUnavailableError');
    expect(await run.result().catch((error: Error) => error.name)).toBe('RuntimeUnavailableError');
  });

  test('lets abort() of an instance end, and keeps the process by no timer', async ({ directory }) => {
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const asked = gate();
    const model = scriptedModel([
      async () => {
        asked.open();
        return new Promise<string>(() => {});
      },
    ]);
    const agent = defineAgent(() => ({ model, workspaceContext: false }), { name: 'agent' });
    const runtime = await open(directory, { agents: { agent } });
    await runtime.dispatch('agent', { instance: 'one', message: 'Work.' });
    await asked.promise;
    await runtime.close({ timeoutMs: 0 });
    expect(await runtime.abort('agent', { instance: 'one' })).toBe(true);
    await expect.poll(timers).toBeLessThanOrEqual(before);
  });
});

describe('a lease that was lost', () => {
  test('leaves the sandbox to whoever has it, also where that was not noticed', async ({ directory }) => {
    const outcomes: (WorkOutcome | undefined)[] = [];
    const told = gate();
    const go = gate();
    const w = workflow(async () => {
      told.open();
      await go.promise;
    });
    await using first = await open(directory, {
      workflows: { w },
      sandbox: watched(directory, (outcome) => void outcomes.push(outcome)),
    });
    await first.invoke('w', { id: 'the-run' });
    await told.promise;
    endLeases(join(directory, 'runtime.db'));
    await using second = await open(directory, {
      workflows: { w: workflow((harness) => harness.waitFor('one')) },
    });
    const run = await second.run('the-run');
    await expect.poll(async () => (await run.record()).attempt).toBe(2);
    go.open();
    await expect.poll(() => outcomes).toEqual(['left']);
  });
});

test('the time of a run is not that in which nobody knew its workflow', async ({ directory }) => {
  const w = defineWorkflow({
    agent: defineAgent(() => ({ workspaceContext: false, durability: { timeoutMs: 5_000 } })),
    run: ({ harness }): Promise<unknown> => harness.waitFor('one'),
  });
  {
    await using first = await open(directory, { workflows: { w } });
    await first.invoke('w', { id: 'the-run' });
    await sleep(300);
    interruptedCopy(join(directory, 'runtime.db'), join(directory, 'left.db'));
  }
  await sleep(5_500);
  {
    await using _other = await open(directory, {}, 'left.db');
    await sleep(300);
  }
  await using later = await open(directory, { workflows: { w } }, 'left.db');
  const run = await later.run('the-run');
  await sleep(300);
  await run.send('one', 1);
  expect(await run.result()).toBe(1);
});

test('a run whose time is over when it goes on ends its sandbox', async ({ directory }) => {
  const outcomes: (WorkOutcome | undefined)[] = [];
  const agent = defineAgent(() => ({ workspaceContext: false }));
  const w = (timeoutMs: number) =>
    defineWorkflow({
      agent,
      action: defineAction({
        name: 'waits',
        description: 'Waits.',
        timeoutMs,
        run: ({ harness }): Promise<unknown> => harness.waitFor('one'),
      }),
    });
  {
    await using first = await open(directory, { workflows: { w: w(60_000) } });
    await first.invoke('w', { id: 'the-run' });
    await sleep(300);
  }
  await using later = await open(directory, {
    workflows: { w: w(100) },
    sandbox: watched(directory, (outcome) => void outcomes.push(outcome)),
  });
  await expect((await later.run('the-run')).result()).rejects.toMatchObject({ name: 'ActionTimeoutError' });
  expect(outcomes).toEqual(['failed']);
});

/** The types of the events that are there. */
async function typesSoFar(run: RunHandle): Promise<string[]> {
  const types: string[] = [];
  try {
    for await (const { type } of run.events({ signal: AbortSignal.timeout(100) })) types.push(type);
  } catch (error) {
    expect(error).toMatchObject({ name: 'AbortError' });
  }
  return types;
}
