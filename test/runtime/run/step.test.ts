import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import * as v from 'valibot';
import { expect } from 'vitest';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import type { Owner, StepRow } from '../../../src/journal/store.ts';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { HarnessClosedError, InvalidRequestError, StepOutputSerializationError } from '../../../src/runtime/errors.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { sandboxFromDriver } from '../../../src/runtime/sandbox/driver.ts';
import type { SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { localDriver } from '../../support/local-env.ts';
import { eventsOf, test as runtimeTest } from '../../support/runtime.ts';

type Parsed = { position: string; start: { kind: string; about: string }; end?: { result?: unknown; error?: unknown } };

let count = 0;

/** A runtime on a store in a file, and what an other reader finds in it. */
const test = runtimeTest.extend<{ bench: Awaited<ReturnType<typeof open>> }>({
  bench: async ({ directory }, use) => {
    const bench = await open(directory);
    await use(bench);
    await bench.runtime.close();
    await bench.reader.close();
  },
});

async function open(directory: string) {
  const path = join(directory, 'runtime.db');
  const runtime = await createRuntime({
    store: path,
    sandbox: local({ cwd: directory }),
    logger: pino({ level: 'silent' }),
  });
  const reader = await SqliteStore.open(path);
  const parsed = ({ position, start, end }: StepRow): Parsed => ({
    position,
    start: JSON.parse(start) as Parsed['start'],
    ...(end !== undefined && { end: JSON.parse(end) as NonNullable<Parsed['end']> }),
  });
  return {
    runtime,
    reader,
    steps: async (owner: Owner) => (await reader.steps(owner, { limit: 1_000 })).map(parsed),
    /** Runs it as a workflow. */
    run: (run: (harness: Harness) => Promise<unknown>, config: AgentConfig = {}) =>
      runtime.invoke(
        defineWorkflow({
          agent: defineAgent(() => ({ workspaceContext: false, ...config })),
          name: `work-${++count}`,
          run: async ({ harness }) => void (await run(harness)),
        }),
      ),
  };
}

// contract: 11-step
test('step, now, random and uuid give what was recorded before', async ({ bench }) => {
  const seen: unknown[] = [];
  const run = await bench.run(async (harness) => {
    const owner = { run: run.id };
    const last = async () => {
      const found = await bench.steps(owner);
      return found.find((step) => !known.has(step.position) && known.add(step.position));
    };
    const known = new Set<string>();
    seen.push([await harness.step('ask', () => ({ answer: [42] })), await last()]);
    seen.push([await harness.step('ask', async () => {}), await last()]);
    seen.push([await harness.now(), await last()]);
    seen.push([await harness.random(), await last()]);
    seen.push([await harness.uuid(), await last()]);
  });
  await run.result();
  for (const [value, step] of seen as [unknown, Parsed][]) {
    expect(step.end).toEqual(value === undefined ? { attempt: 1 } : { result: value, attempt: 1 });
  }
  const kinds = (seen as [unknown, Parsed][]).map(([, { start }]) => start.kind);
  expect(kinds).toEqual(['step', 'step', 'now', 'random', 'uuid']);
  const [now, random, uuid] = (seen as [unknown, Parsed][]).slice(2).map(([value]) => value);
  expect(Math.abs((now as number) - Date.now())).toBeLessThan(60_000);
  expect(random).toSatisfy((number: number) => number >= 0 && number < 1);
  expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-/);
  const told = (await eventsOf(run)).filter(({ type }) => type === 'operation_start');
  expect(told).toMatchObject([
    { operationKind: 'step', name: 'ask' },
    { operationKind: 'step', name: 'ask' },
  ]);
});

test('every call with an effect is recorded before its result is used', async ({ bench }) => {
  const model = scriptedModel(['Hello.', 'Done.']);
  const double = defineAction({
    name: 'double',
    description: 'Doubles.',
    input: v.object({ n: v.number() }),
    run: ({ input }) => 2 * input.n,
  });
  const run = await bench.run(
    async (harness) => {
      const ended = async () => (await bench.steps({ run: run.id })).filter(({ end }) => end).length;
      const session = await harness.session();
      const calls: (() => Promise<unknown>)[] = [
        () => harness.shell('echo one'),
        () => harness.run(double, { n: 2 }),
        () => harness.fs.writeFile('a', 'text'),
        () => harness.fs.mkdir('b'),
        () => harness.fs.rm('b', { recursive: true }),
        () => session.fs.writeFile('c', 'text'),
        () => session.prompt('Hi'),
        () => session.shell('echo two'),
        () => session.task('More'),
        () => session.compact(),
      ];
      for (const [count, call] of calls.entries()) {
        await call();
        expect(await ended()).toBe(count + 1);
      }
      await harness.fs.readFile('a'); // which is no effect
      expect(await ended()).toBe(calls.length);
    },
    { model },
  );
  await run.result();
  const steps = await bench.steps({ run: run.id });
  expect(steps.map(({ position, start }) => [position.replace(/\.[0-9a-f]{16}/, ''), start.kind])).toEqual([
    ['action.0', 'action'],
    ['fs.mkdir.0', 'fs.mkdir'],
    ['fs.rm.0', 'fs.rm'],
    ['fs.writeFile.0', 'fs.writeFile'],
    ['fs.writeFile.0', 'fs.writeFile'],
    ['session.default/op.0', 'prompt'],
    ['session.default/op.1', 'shell'],
    ['session.default/op.2', 'task'],
    ['session.default/op.3', 'compact'],
    ['shell.0', 'shell'],
  ]);
  const shell = steps.find(({ position }) => position.startsWith('shell'));
  expect(shell).toMatchObject({
    start: { about: expect.stringContaining('echo one') },
    end: { result: { stdout: 'one\n', exitCode: 0 } },
  });
});

test('a position is the same when the same code runs again, in whatever order its parts end', async ({ bench }) => {
  const slow = (folder: string, delays: Record<string, number>) =>
    defineAction({
      name: 'each',
      description: 'Works on one folder.',
      run: async ({ harness }) => {
        await sleep(delays[folder]);
        await harness.shell(`echo ${folder}`);
        throw new Error('so that what is below it stays: it is not, see the next test');
      },
    });
  const positions = async (delays: Record<string, number>) => {
    let during: string[] = [];
    const run = await bench.run(async (harness) => {
      const one = async (folder: string) => {
        await sleep(delays[folder]);
        await harness.shell(`echo ${folder}`);
        await harness.shell('date');
        await harness.run(slow(folder, delays)).catch(() => {});
      };
      await Promise.all([one('a'), one('b')]);
      during = (await bench.steps({ run: run.id })).map(({ position }) => position);
    });
    await run.result();
    return during;
  };
  const first = await positions({ a: 0, b: 60 });
  expect(first).toHaveLength(6);
  expect(await positions({ a: 60, b: 0 })).toEqual(first);
});

test('what was recorded of its parts goes when a call has ended', async ({ bench }) => {
  const note = defineAction({
    name: 'note',
    description: 'Writes a note.',
    run: async ({ harness }) => {
      await harness.fs.writeFile('note', 'x');
      await harness.uuid();
    },
  });
  const model = scriptedModel([
    {
      toolCalls: [
        { name: 'note', input: {} },
        { name: 'task', input: { prompt: 'p' } },
      ],
    },
    'a',
    'b',
  ]);
  const config = { model, actions: [note] };
  let during = 0;
  const run = await bench.run(async (harness) => {
    await harness.run(note);
    const stop = bench.runtime.observe(async ({ type }) => {
      if (type === 'action')
        during = (await bench.steps({ run: run.id })).filter(({ position }) => position.includes('/call.')).length;
    });
    await (await harness.session('a/b')).prompt('x');
    stop();
    const stopped = new AbortController();
    const aborted = harness.step('never', ({ signal }) => sleep(60_000, undefined, { signal }), {
      signal: stopped.signal,
    });
    stopped.abort();
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  }, config);
  await run.result();
  expect(during).toBeGreaterThan(0);
  const left = await bench.steps({ run: run.id });
  expect(left.map(({ position }) => position.replace(/\.[0-9a-f]{16}/, ''))).toEqual([
    'action.0',
    'session.a~1b/op.0',
    'step.0',
  ]);
  expect(left.at(-1)?.end).toMatchObject({ error: { name: 'AbortError' } }); // so is it when the code runs again
});

test('nothing is kept for a submission of an instance that has ended', async ({ bench }) => {
  const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command: 'true' } }] }, 'One.', 'Two.']);
  const agent = defineAgent(() => ({ model, workspaceContext: false }), { name: 'helper' });
  const first = await bench.runtime.dispatch(agent, { instance: 'i', message: 'go' });
  await first.result();
  const second = await bench.runtime.dispatch(agent, { instance: 'i', message: 'go' });
  await second.result();
  expect(await bench.steps({ agent: 'helper', instance: 'i' })).toEqual([]);
});

test('a session under the name of one that was deleted goes on with its positions', async ({ bench }) => {
  const run = await bench.run(async (harness) => {
    const session = await harness.session('work');
    await session.shell('true');
    await session.delete();
    await (await harness.session('work')).shell('true');
  });
  await run.result();
  const positions = (await bench.steps({ run: run.id })).map(({ position }) => position);
  expect(positions).toEqual(['session.work/op.0', 'session.work/op.1']);
});

test('a sandbox gets a key for each command, and no two have the same', async ({ bench, directory }) => {
  const keys: (string | undefined)[] = [];
  const spied: SandboxFactory = {
    async createSandbox() {
      const driver = localDriver();
      return sandboxFromDriver(
        {
          ...driver,
          exec(command, options) {
            keys.push(options?.key);
            return driver.exec(command, options);
          },
        },
        { cwd: directory },
      );
    },
  };
  const bash = { name: 'bash', input: { command: 'true' } };
  const work = async (harness: Harness) => {
    await harness.shell('true');
    await harness.shell('true');
    await (await harness.session()).prompt('x');
    await (await harness.session()).shell('true');
  };
  for (let i = 0; i < 2; i++) {
    const model = scriptedModel([{ toolCalls: [bash, bash] }, 'Done.']);
    await (await bench.run(work, { sandbox: spied, model })).result();
  }
  expect(keys).toHaveLength(10);
  for (const key of keys) expect(key).toMatch(/^step_[0-9A-Z]{26}$/);
  expect(new Set(keys).size).toBe(10);
});

test('a step that fails gives its error; one that gives what JSON can not hold, says where', async ({ bench }) => {
  const run = await bench.run(async (harness) => {
    const failed = harness.step('fails', () => {
      throw new RangeError('too far');
    });
    await expect(failed).rejects.toThrow(RangeError);
    const error: unknown = await harness.step('bad', () => ({ when: [new Date()] })).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(StepOutputSerializationError);
    expect(error).toMatchObject({ meta: { step: 'bad', path: 'output.when[0]' } });
  });
  await run.result();
  const ends = (await bench.steps({ run: run.id })).map(({ end }) => end?.error);
  expect(ends).toContainEqual({ name: 'RangeError', message: 'too far' });
  expect(ends).toContainEqual(expect.objectContaining({ code: 'step_output_serialization' }));
});

// contract: 3.4-abort-error
test('a step that is aborted rejects so, whatever its work throws; what that gives all the same is kept', async ({
  bench,
}) => {
  const run = await bench.run(async (harness) => {
    const aborted = (end: () => string) => {
      const step = harness.step('asks', async ({ signal }) => {
        await once(signal, 'abort');
        return end();
      });
      step.abort('enough');
      return step;
    };
    const thrower = aborted(() => {
      throw new RangeError('stopped');
    });
    await expect(thrower).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(await aborted(() => 'done')).toBe('done');
  });
  await run.result();
});

test('the record of a structured result holds what the model gave', async ({ bench }) => {
  const result = v.object({
    day: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
  });
  const finish = { toolCalls: [{ name: 'finish', input: { day: '2026-01-02' } }] };
  const run = await bench.run(
    async (harness) => {
      const { data } = await (await harness.session()).prompt('When?', { result });
      expect(data.day).toEqual(new Date('2026-01-02'));
      const task = await (await harness.session()).task('When?', { result });
      expect(task.data.day).toEqual(new Date('2026-01-02'));
    },
    { model: scriptedModel([finish, finish]) },
  );
  await run.result();
  const recorded = (await bench.steps({ run: run.id })).map(({ end }) => end?.result);
  expect(recorded).toMatchObject([{ data: { day: '2026-01-02' } }, { data: { day: '2026-01-02' } }]);
});

test('a step is refused when it can not be right, or the run has ended', async ({ bench }) => {
  let kept: Harness | undefined;
  const run = await bench.run(async (harness) => {
    kept = harness;
    const step = harness.step as (...given: unknown[]) => Promise<unknown>;
    for (const given of [
      [''],
      ['x'.repeat(129), () => {}],
      [1, () => {}],
      ['x'],
      ['x', 'y'],
      ['x', () => {}, { name: 1 }],
    ]) {
      await expect(step.apply(harness, given)).rejects.toThrow(InvalidRequestError);
    }
  });
  await run.result();
  expect(await bench.steps({ run: run.id })).toEqual([]);
  await expect(kept?.now()).rejects.toThrow(HarnessClosedError);
  await expect(kept?.step('late', () => 1)).rejects.toThrow(HarnessClosedError);
});
