import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'libsql';
import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { defineWorkflow, type WorkflowDefinition } from '../../../src/runtime/define/workflow.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import type { Model, ModelRequest } from '../../../src/runtime/model/model.ts';
import { createRuntime, type Runtime } from '../../../src/runtime/run/runtime.ts';
import type { RuntimeOptions } from '../../../src/runtime/run/runtime-options.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { endLeases, interruptedAt, interruptedCopy } from '../../support/interrupted.ts';
import { eventsOf, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const silent = pino({ level: 'silent' });

function open(directory: string, store: string, options: RuntimeOptions = {}): Promise<Runtime> {
  return createRuntime({
    store: join(directory, store),
    logger: silent,
    sandbox: local({ cwd: directory }),
    ...options,
  });
}

/** Runs a workflow, and gives the stores that its process would have left if it had died after each event. */
async function interruptedAfterEach(directory: string, workflow: WorkflowDefinition, options: RuntimeOptions = {}) {
  const left = new Map<number, string>();
  await using runtime = await open(directory, 'first.db', { workflows: { w: workflow }, ...options });
  runtime.observe((event) => {
    if (event.type === 'turn_request') return;
    const store = `after-${event.eventIndex}.db`;
    // Of events that were written together the store is the same.
    left.set(interruptedCopy(join(directory, 'first.db'), join(directory, store)), store);
  });
  const run = await runtime.invoke('w', { id: 'the-run' });
  const result = await run.result();
  return { left: [...left.values()], result, events: await eventsOf(run) };
}

describe('a run that was interrupted', () => {
  // contract: 7.4-run-again, 11-resumed, 1.8-opening, 8-tool
  test('goes on from what is recorded, wherever it was: each step is done once, and the end is the same', async ({
    directory,
  }) => {
    const double = defineAction({
      name: 'double',
      description: 'Doubles.',
      input: v.object({ n: v.number() }),
      run: async ({ harness, input }) => {
        await harness.shell(`echo double >> done`);
        return input.n * (await harness.step('factor', () => 2));
      },
    });
    const note = defineTool({ name: 'note', description: 'Notes.', run: () => 'noted' });
    const agent: AgentConfig = { workspaceContext: false, actions: [double], tools: [note] };
    // Answers by what it is asked, as a model does.
    const model = () =>
      scriptedModel(
        Array.from({ length: 10 }, () => ({ messages }: ModelRequest) => {
          const last = JSON.stringify(messages.at(-1));
          if (last.includes('Think.')) return 'Thought.';
          if (!last.includes('Double four.')) return 'Eight.';
          return {
            toolCalls: [
              { name: 'double', input: { n: 4 } },
              { name: 'task', input: { prompt: 'Think.' } },
              { name: 'note' },
            ],
          };
        }),
      );
    const workflow = () =>
      defineWorkflow({
        agent: defineAgent(() => ({ ...agent, model: model() })),
        run: async ({ harness }) => {
          const started = await harness.now();
          const two = await harness.run(double, { n: 1 });
          await harness.fs.writeFile('made', `${two}`);
          const session = await harness.session();
          const { text, usage } = await session.prompt('Double four.');
          const { stdout } = await session.shell('echo shell >> done; wc -l < done');
          return { started, two, text, lines: Number(stdout) > 0, tokens: usage.totalTokens };
        },
      });
    const { left, result, events } = await interruptedAfterEach(directory, workflow());
    expect(result).toMatchObject({ two: 2, text: 'Eight.', lines: true });
    for (const store of left) {
      await using later = await open(directory, store, { workflows: { w: workflow() } });
      const run = await later.run('the-run');
      expect(await run.result(), store).toEqual({ ...(result as object), started: expect.any(Number) });
      const told = await eventsOf(run);
      expect(told.map(({ eventIndex }) => eventIndex)).toEqual(told.map((_, index) => index));
      const resumed = told.findIndex(({ type }) => type === 'run_resume');
      if (resumed < 0) expect(told, store).toEqual(events);
      else {
        expect(told[resumed]).toMatchObject({ attempt: 2 });
        expect(told.slice(0, resumed), store).toEqual(events.slice(0, resumed));
      }
      const starts = (type: string, key: (event: RuntimeEvent) => unknown) =>
        told.flatMap((event) => (event.type === type ? [key(event)] : []));
      for (const [type, key] of [
        ['operation_start', ({ operationId }) => operationId],
        ['operation', ({ operationId }) => operationId],
        ['action_start', ({ actionId }) => actionId],
        ['task_start', ({ taskId }) => taskId],
        ['agent_start', ({ operationId }) => operationId],
      ] satisfies [string, (event: RuntimeEvent) => unknown][]) {
        const seen = starts(type, key);
        expect(new Set(seen).size, `${store} ${type}`).toBe(seen.length);
      }
      const calls = (type: 'tool_start' | 'tool') =>
        told.flatMap((event) => (event.type === type ? `${event.operationId} ${event.toolCallId}` : [])).sort();
      expect(calls('tool_start'), store).toEqual(calls('tool'));
    }
    expect(await readFile(join(directory, 'made'), 'utf8')).toBe('2');
  });

  // contract: 7.4-half-answer
  test('goes on from half an answer: what had come is closed, and told to the model', async ({ directory }) => {
    const store = await runInterruptedAt(
      directory,
      asks(halfAnswer('Half of it')),
      ({ type }) => type === 'text_delta',
    );
    const model = scriptedModel(['The other half.']);
    await using later = await open(directory, store, { workflows: { w: asks(model) } });
    const run = await later.run('the-run');
    expect(await run.result()).toBe('The other half.');
    const [request] = model.requests;
    const texts = request?.messages.map(({ role, content }) => [role, JSON.stringify(content)]);
    expect(texts?.map(([role]) => role)).toEqual(['user', 'user', 'user']);
    expect(texts?.[1]?.[1]).toMatch(/<stream_interrupted .*Half of it/);
    expect(texts?.[2]?.[1]).toContain('<stream_continued');
    const ends = (await eventsOf(run)).flatMap((event) => (event.type === 'message_end' ? [event.message] : []));
    expect(ends.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'user', 'assistant']);
    expect(ends[1]).toMatchObject({ finishReason: 'aborted', content: [{ type: 'text', text: 'Half of it' }] });
  });

  // contract: 7.4-no-answer
  test('asks again where there is nothing of an answer; the message is said once', async ({ directory }) => {
    const store = await runInterruptedAt(directory, asks(halfAnswer('')), ({ type }) => type === 'turn_start');
    const model = scriptedModel(['All of it.']);
    await using later = await open(directory, store, { workflows: { w: asks(model) } });
    const run = await later.run('the-run');
    expect(await run.result()).toBe('All of it.');
    expect(model.requests[0]?.messages.map(({ role }) => role)).toEqual(['user']);
    const said = (await eventsOf(run)).filter((event) => event.type === 'message_end' && event.message.role === 'user');
    expect(said).toHaveLength(1);
  });

  // contract: 7.4-complete, 7.4-finished-kept
  test('takes an answer that is complete, also when it may not be begun again', async ({ directory }) => {
    const once = { durability: { maxAttempts: 1 } };
    const store = await runInterruptedAt(directory, asks(scriptedModel(['Complete.']), once), isAnswer);
    const model = scriptedModel([]);
    await using later = await open(directory, store, { workflows: { w: asks(model, once) } });
    expect(await (await later.run('the-run')).result()).toBe('Complete.');
    expect(model.requests).toEqual([]);
  });

  // contract: 7.4-attempts, 7.4-attempts-reset
  test('is begun so often as its agent says, attempts that recorded a new step aside', async ({ directory }) => {
    const twice = { durability: { maxAttempts: 2 } };
    const hangs = () => asks(halfAnswer(''), twice);
    const isTurn = ({ type }: RuntimeEvent) => type === 'turn_start';
    let store = await runInterruptedAt(directory, hangs(), isTurn);
    store = await runInterruptedAt(directory, hangs(), isTurn, store);
    const model = scriptedModel(['Too late.']);
    await using later = await open(directory, store, { workflows: { w: asks(model, twice) } });
    await expect((await later.run('the-run')).result()).rejects.toMatchObject({
      name: 'SubmissionRetryExhaustedError',
      meta: { attemptCount: 2 },
    });
    expect(model.requests).toEqual([]);

    // One that records a step each time goes on.
    const steps = (count: number) =>
      defineWorkflow({
        agent: defineAgent(() => ({ ...twice, workspaceContext: false })),
        run: async ({ harness }) => {
          for (let i = 0; i < count; i++) await harness.step(`step ${i}`, () => i);
          if (count < 6) await new Promise(() => {});
          return count;
        },
      });
    let ended = 0;
    const isNewStep = ({ type }: RuntimeEvent) => type === 'operation' && ++ended > 0;
    let next = await runInterruptedAt(directory, steps(1), isNewStep, undefined, 'steps.db');
    for (let count = 2; count <= 5; count++) next = await runInterruptedAt(directory, steps(count), isNewStep, next);
    await using last = await open(directory, next, { workflows: { w: steps(6) } });
    expect(await (await last.run('the-run')).result()).toBe(6);
  });

  // contract: 7.4-unknown-outcome
  test('keeps the results of tools that are there; a call without one is not made again, and the model is told', async ({
    directory,
  }) => {
    const calls: string[] = [];
    const tool = (name: string, run: () => Promise<string>) =>
      defineTool({
        name,
        description: name,
        run: () => {
          calls.push(name);
          return run();
        },
      });
    const quick = tool('quick', async () => 'quick is done');
    const slow = tool('slow', () => new Promise(() => {}));
    const tools = { tools: [quick, slow] };
    const both = { toolCalls: [{ name: 'quick' }, { name: 'slow' }] };
    const store = await runInterruptedAt(
      directory,
      asks(scriptedModel([both]), tools),
      (event) => event.type === 'tool' && event.toolName === 'quick',
    );
    const model = scriptedModel(['Then not.']);
    await using later = await open(directory, store, { workflows: { w: asks(model, tools) } });
    const run = await later.run('the-run');
    expect(await run.result()).toBe('Then not.');
    expect(calls).toEqual(['quick', 'slow']);
    const results = model.requests[0]?.messages.filter(({ role }) => role === 'tool');
    expect(results).toMatchObject([
      { toolName: 'quick', isError: false, content: [{ text: 'quick is done' }] },
      { toolName: 'slow', isError: true, content: [{ text: expect.stringContaining('outcome is unknown') }] },
    ]);
    const ended = (await eventsOf(run)).flatMap((event) => (event.type === 'tool' ? [event] : []));
    expect(ended.map(({ toolName }) => toolName)).toEqual(['quick', 'slow']);
    expect(ended[1]?.result).toMatchObject({ details: { type: 'interrupted' } });
  });

  test('tells calls apart to which a model gives the same id in each of its turns', async ({ directory }) => {
    let count = 0;
    const act = defineAction({
      name: 'act',
      description: 'Acts.',
      run: ({ harness }) => harness.step('count', () => ++count),
    });
    const call = { toolCalls: [{ id: 'call_0', name: 'act' }] };
    const actions = { actions: [act] };
    const store = await runInterruptedAt(
      directory,
      asks(scriptedModel([call, () => new Promise(() => {})]), actions),
      ({ type }) => type === 'turn_start' && count === 1,
    );
    const model = scriptedModel([call, 'Done.']);
    await using later = await open(directory, store, { workflows: { w: asks(model, actions) } });
    expect(await (await later.run('the-run')).result()).toBe('Done.');
    expect(model.requests[1]?.messages.flatMap((message) => (message.role === 'tool' ? message.content : []))).toEqual([
      { type: 'text', text: '1' },
      { type: 'text', text: '2' },
    ]);
  });

  // contract: 3.3-replayed
  test('makes a structured result anew of what the model gave, so that a Date is a Date again', async ({
    directory,
  }) => {
    const result = v.object({
      at: v.pipe(
        v.string(),
        v.transform((text) => new Date(text)),
      ),
    });
    const workflow = (model: Model) =>
      defineWorkflow({
        agent: defineAgent(() => ({ model, workspaceContext: false })),
        run: async ({ harness }) => {
          const { data } = await (await harness.session()).prompt('When?', { result });
          await harness.step('uses it', () => null);
          return data.at.getUTCFullYear();
        },
      });
    const finish = { toolCalls: [{ name: 'finish', input: { at: '2031-05-06T00:00:00Z' } }] };
    // When the prompt has ended, and when its result was given but it has not.
    for (const [name, when] of [
      ['a', (event: RuntimeEvent) => event.type === 'operation' && event.operationKind === 'prompt'],
      ['b', (event: RuntimeEvent) => event.type === 'tool'],
    ] as const) {
      const store = await runInterruptedAt(directory, workflow(scriptedModel([finish])), when, undefined, `${name}.db`);
      await using later = await open(directory, store, { workflows: { w: workflow(scriptedModel([])) } });
      expect(await (await later.run('the-run')).result()).toBe(2031);
    }
  });

  // contract: 3.3-replayed
  test('takes a result that comes after one which was no JSON or did not fit', async ({ directory }) => {
    const given = (input: unknown) => ({ toolCalls: [{ name: 'finish', input }] });
    const workflow = (model: Model) =>
      defineWorkflow({
        agent: defineAgent(() => ({ model, workspaceContext: false })),
        run: async ({ harness }) =>
          (await (await harness.session()).prompt('How many?', { result: v.object({ n: v.number() }) })).data.n,
      });
    const first = scriptedModel([given('{"n": 1'), given({ n: 'x' }), () => new Promise(() => {})]);
    let turns = 0;
    const store = await runInterruptedAt(
      directory,
      workflow(first),
      ({ type }) => type === 'turn_messages' && ++turns === 2,
    );
    const model = scriptedModel([given({ n: 2 })]);
    await using later = await open(directory, store, { workflows: { w: workflow(model) } });
    expect(await (await later.run('the-run')).result()).toBe(2);
    expect(model.requests[0]?.messages.filter(({ role }) => role === 'tool')).toHaveLength(2);
  });

  test('fails where its code does something else than before, and says what', async ({ directory }) => {
    const workflow = (words: string) =>
      defineWorkflow({
        agent: defineAgent(() => ({ model: scriptedModel(['Yes.', 'Yes.']), workspaceContext: false })),
        run: async ({ harness }) => {
          const session = await harness.session();
          await session.prompt(words);
          await session.prompt('And now?');
        },
      });
    const store = await runInterruptedAt(directory, workflow('First.'), ({ type }) => type === 'operation');
    await using later = await open(directory, store, { workflows: { w: workflow('Another.') } });
    await expect((await later.run('the-run')).result()).rejects.toMatchObject({
      name: 'ReplayMismatchError',
      meta: { expected: expect.stringContaining('First.'), seen: expect.stringContaining('Another.') },
    });
  });

  // contract: 7.4-abort-asked
  test('is cancelled when that was asked for before its process died', async ({ directory }) => {
    const hangs = defineWorkflow({
      agent: defineAgent(() => ({ workspaceContext: false })),
      run: ({ harness }) => harness.step('hangs', ({ signal }) => once(signal, 'abort').then(() => {})),
    });
    const first = join(directory, 'first.db');
    const store = 'asked.db';
    await using runtime = await open(directory, 'first.db', { workflows: { w: hangs }, recover: false });
    const run = await runtime.invoke('w', { id: 'the-run' });
    for await (const { type } of run.events()) if (type === 'operation_start') break;
    void run.cancel('enough');
    await expect.poll(() => storedProgress(first)).toContain('enough');
    interruptedCopy(first, join(directory, store));
    await using later = await open(directory, store, { workflows: { w: hangs } });
    await expect((await later.run('the-run')).result()).rejects.toMatchObject({
      name: 'RunCancelledError',
      meta: { reason: 'enough' },
    });
  });

  // contract: 1.8-unknown-stays-suspended, 8-suspend
  test('stays suspended where its workflow is not known, and goes on when it is', async ({ directory }) => {
    const store = await runInterruptedAt(directory, asks(halfAnswer('')), ({ type }) => type === 'turn_start');
    await using later = await open(directory, store);
    const run = await later.run('the-run');
    await expect.poll(async () => (await run.record()).state).toBe('suspended');
    await expect(run.resume()).rejects.toMatchObject({ name: 'WorkflowNotFoundError' });
    // It is known under its name from now on.
    const known = defineWorkflow({ ...asks(scriptedModel(['There.', 'Other.'])), name: 'w' } as never);
    await (await later.invoke(known)).result();
    expect(await run.result()).toMatch(/There|Other/);
    expect((await eventsOf(run)).filter(({ type }) => type.startsWith('run_'))).toMatchObject([
      { type: 'run_start' },
      { type: 'run_suspend', reason: 'definition' },
      { type: 'run_resume' },
      { type: 'run_end' },
    ]);
  });
});

describe('close()', () => {
  // contract: 1.8-close-resumable
  test('lets a turn and a step end, and a later runtime goes on after them', async ({ directory }) => {
    const begun = gate();
    const goOn = gate();
    let steps = 0;
    const workflow = (model: Model) =>
      defineWorkflow({
        agent: defineAgent(() => ({ model, workspaceContext: false })),
        run: async ({ harness }) => {
          const prompt = (await harness.session()).prompt('Work.');
          await harness.step('slow', async () => {
            steps++;
            begun.open();
            await goOn.promise;
          });
          await harness.step('next', () => void steps++);
          return (await prompt).text;
        },
      });
    const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command: 'echo 1' } }] }, 'Unused.']);
    const runtime = await open(directory, 'runtime.db', { workflows: { w: workflow(model) } });
    const run = await runtime.invoke('w', { id: 'the-run' });
    await begun.promise;
    const closed = runtime.close();
    await expect(runtime.invoke('w')).rejects.toMatchObject({ name: 'RuntimeUnavailableError' });
    goOn.open();
    await closed;
    await expect(run.result()).rejects.toMatchObject({ name: 'RuntimeUnavailableError' });
    expect(steps).toBe(1);
    expect(model.requests.length).toBeLessThan(3);

    const rest = scriptedModel(['Unused.', 'Worked.'].slice(model.requests.length - 1));
    await using later = await open(directory, 'runtime.db', { workflows: { w: workflow(rest) } });
    const resumed = await later.run('the-run');
    expect(['Unused.', 'Worked.']).toContain(await resumed.result());
    expect(steps).toBe(2);
    const told = (await eventsOf(resumed)).filter(({ type }) => type.startsWith('run_'));
    expect(told).toMatchObject([
      { type: 'run_start' },
      { type: 'run_suspend', reason: 'closed' },
      { type: 'run_resume', attempt: 2 },
      { type: 'run_end', state: 'completed' },
    ]);
  });

  test('waits for so long as it is told; what is under way then is done again', async ({ directory }) => {
    const begun = gate();
    let tries = 0;
    const workflow = defineWorkflow({
      agent: defineAgent(() => ({ workspaceContext: false })),
      run: ({ harness }) =>
        harness.step('slow', async () => {
          begun.open();
          if (++tries === 1) await new Promise(() => {});
          return tries;
        }),
    });
    const runtime = await open(directory, 'runtime.db', { workflows: { w: workflow } });
    await runtime.invoke('w', { id: 'the-run' });
    await begun.promise;
    await runtime.close({ timeoutMs: 0 });
    await using later = await open(directory, 'runtime.db', { workflows: { w: workflow } });
    expect(await (await later.run('the-run')).result()).toBe(2);
    await expect(later.close({ timeoutMs: -1 })).rejects.toMatchObject({ name: 'InvalidRequestError' });
  });
});

describe.concurrent('a run that waits', () => {
  // contract: 11-wait, 7.1-suspended
  test('is suspended when it only waits, and goes on with what is sent to it', async ({ directory }) => {
    const workflow = defineWorkflow({
      agent: defineAgent(() => ({ workspaceContext: false })),
      run: async ({ harness }) => {
        const before = await harness.uuid();
        const first = await harness.waitFor('answer');
        const second = await harness.waitFor('answer', { timeoutMs: 60_000 });
        return { before, given: [first, second] };
      },
    });
    await using runtime = await open(directory, 'runtime.db', { workflows: { w: workflow } });
    const run = await runtime.invoke('w');
    const result = run.result();
    await expect.poll(async () => (await run.record()).state).toBe('suspended');
    await run.send('other', 1); // which nobody waits for
    await run.send('answer', { yes: true }, { key: 'k' });
    await run.send('answer', { yes: false }, { key: 'k' });
    await run.send('answer', 2);
    expect(await result).toEqual({ before: expect.any(String), given: [{ yes: true }, 2] });
    expect((await eventsOf(run)).filter(({ type }) => type.startsWith('run_'))).toMatchObject([
      { type: 'run_start' },
      { type: 'run_suspend', reason: 'waiting' },
      { type: 'run_resume' },
      { type: 'run_end' },
    ]);
    await expect(run.send('answer', 3)).rejects.toMatchObject({ name: 'InvalidRequestError' });
  });

  test('sleeps from when it was asked to first, over the death of its process', async ({ directory }) => {
    const workflow = defineWorkflow({
      agent: defineAgent(() => ({ workspaceContext: false })),
      run: async ({ harness }) => {
        const since = await harness.now();
        await harness.sleep(3_000);
        return (await harness.now()) - since;
      },
    });
    const isSleep = (event: RuntimeEvent) => event.type === 'operation_start' && event.operationKind === 'sleep';
    const store = await runInterruptedAt(directory, workflow, isSleep);
    await using later = await open(directory, store, { workflows: { w: workflow } });
    expect(await (await later.run('the-run')).result()).toBeGreaterThanOrEqual(3_000);
  });

  test('says when the time to wait is over, and what it can not wait for', async ({ directory }) => {
    const workflow = defineWorkflow({
      agent: defineAgent(() => ({ workspaceContext: false })),
      run: async ({ harness }) => {
        const errors: unknown[] = [];
        const note = (error: Error) => void errors.push(error.name);
        await harness.waitFor('nothing', { timeoutMs: 50 }).catch(note);
        await harness.waitFor('').catch(note);
        await harness.waitFor('x', { timeoutMs: 0 }).catch(note);
        await harness.sleep(Number.NaN).catch(note);
        await harness.sleep(60_000, { signal: AbortSignal.timeout(50) }).catch(note);
        return errors;
      },
    });
    await using runtime = await open(directory, 'runtime.db', { workflows: { w: workflow } });
    const invalid = 'InvalidRequestError';
    expect(await (await runtime.invoke('w')).result()).toEqual([
      'WaitTimeoutError',
      invalid,
      invalid,
      invalid,
      'AbortError',
    ]);
  });
});

describe('a lease', () => {
  test('that was lost fences what its holder still does; whoever has it gives the result', async ({ directory }) => {
    const inFirst = gate();
    const workflow = (value: string, hangs: boolean) =>
      defineWorkflow({
        agent: defineAgent(() => ({ workspaceContext: false })),
        run: async ({ harness }) => {
          inFirst.open();
          if (hangs) await sleep(3_000);
          return harness.step('value', () => value);
        },
      });
    await using first = await open(directory, 'runtime.db', { workflows: { w: workflow('first', true) } });
    const run = await first.invoke('w', { id: 'the-run' });
    await inFirst.promise;
    endLeases(join(directory, 'runtime.db'));
    await using second = await open(directory, 'runtime.db', { workflows: { w: workflow('second', false) } });
    expect(await (await second.run('the-run')).result()).toBe('second');
    expect(await run.result()).toBe('second');
    expect((await eventsOf(run)).map(({ eventIndex }) => eventIndex)).toEqual(
      (await eventsOf(await second.run('the-run'))).map(({ eventIndex }) => eventIndex),
    );
  });

  // contract: 7.4-lease
  test('is 30 s long and renewed every 10 s; one that is over is found within 15 s', async ({ directory }) => {
    const path = join(directory, 'runtime.db');
    const until = () => leasedUntil(path) - Date.now();
    const workflow = (value: string) =>
      defineWorkflow({
        agent: defineAgent(() => ({ workspaceContext: false })),
        run: async ({ harness }) =>
          value === 'second' ? value : harness.step('hangs', () => new Promise<string>(() => {})),
      });
    await using first = await open(directory, 'runtime.db', { workflows: { w: workflow('first') }, recover: false });
    const run = await first.invoke('w', { id: 'the-run' });
    for await (const { type } of run.events()) if (type === 'operation_start') break;
    const before = leasedUntil(path);
    expect(until()).toBeGreaterThan(25_000);
    expect(until()).toBeLessThanOrEqual(30_000);
    await using second = await open(directory, 'runtime.db', { workflows: { w: workflow('second') } });
    await expect.poll(() => leasedUntil(path) > before).toBe(true);
    expect(leasedUntil(path) - before).toBeLessThan(15_000);
    expect((await run.record()).state).toBe('running');
    endLeases(path);
    expect(await (await second.run('the-run')).result()).toBe('second');
  });
});

/** One prompt, and its text. */
function asks(model: Model, config: AgentConfig = {}): WorkflowDefinition {
  return defineWorkflow({
    agent: defineAgent(() => ({ model, workspaceContext: false, ...config })),
    run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
  });
}

/** A model that says this and then nothing more. */
function halfAnswer(text: string): Model {
  return {
    provider: 'scripted',
    id: 'half',
    async *stream(_request, signal) {
      if (text !== '') yield { type: 'text-delta', index: 0, text };
      await once(signal, 'abort');
    },
  };
}

function isAnswer(event: RuntimeEvent): boolean {
  return event.type === 'message_end' && event.message.role === 'assistant';
}

/**
 * Runs a workflow, or goes on with it, and gives the store that its process would have left if it had died right after an
 * event.
 */
async function runInterruptedAt(
  directory: string,
  workflow: WorkflowDefinition,
  when: (event: RuntimeEvent) => boolean,
  before?: string,
  first = 'first.db',
): Promise<string> {
  const from = before ?? first;
  const left = `left-by-${from}`;
  const runtime = await open(directory, from, { workflows: { w: workflow } });
  await interruptedAt(runtime, {
    store: join(directory, from),
    left: join(directory, left),
    when,
    begin: async () => {
      if (before === undefined) await runtime.invoke('w', { id: 'the-run' });
    },
  });
  return left;
}

function storedProgress(store: string): string {
  const db = new Database(store);
  try {
    return (db.prepare('SELECT progress FROM runs').get() as { progress: string }).progress;
  } finally {
    db.close();
  }
}

function leasedUntil(store: string): number {
  const db = new Database(store);
  try {
    return (db.prepare('SELECT leased_until AS until FROM owners').get() as { until: number }).until;
  } finally {
    db.close();
  }
}
