import { join } from 'node:path';
import Database from 'libsql';
import { pino } from 'pino';
import { expect, vi } from 'vitest';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import type { Owner } from '../../../src/journal/store.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import {
  InvalidRequestError,
  RunCancelledError,
  RunConflictError,
  RunNotFoundError,
  SubmissionAbortedError,
  SubmissionConflictError,
} from '../../../src/runtime/errors.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { OperationFailedError } from '../../../src/runtime/model/errors.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { RuntimeOptions } from '../../../src/runtime/run/runtime-options.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { toHistory } from '../../../src/runtime/session/history.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf, test } from '../../support/runtime.ts';
import { gate } from '../model/conversation-of.ts';

const agent = defineAgent(() => ({}));
const double = defineWorkflow({ agent, name: 'double', run: () => ({ n: 2 }) });

/** A runtime on the store in a directory, as another process would open it. */
function open(directory: string, options: RuntimeOptions = {}) {
  return createRuntime({
    ...options,
    store: join(directory, 'runtime.db'),
    sandbox: local({ cwd: directory }),
    logger: pino({ level: 'silent' }),
  });
}

// contract: 1.8-store, 7.1-stored, 7.1-record-attempt, 7.1-id-conflict
test('a later process finds a run: its record, its result, its events, and it for the same id', async ({
  directory,
}) => {
  const earlier = await open(directory);
  const run = await earlier.invoke(double, { id: 'once' });
  await run.result();
  const record = await run.record();
  const events = await eventsOf(run);
  await earlier.close();

  await using later = await open(directory);
  const found = await later.run('once');
  expect(await found.record()).toEqual(record);
  expect(record).toMatchObject({ state: 'completed', attempt: 1, result: { n: 2 } });
  expect(await found.result()).toEqual({ n: 2 });
  expect(await eventsOf(found)).toEqual(events);
  expect(events.at(-1)?.type).toBe('run_end');
  const rest: number[] = [];
  for await (const { eventIndex } of found.events({ after: 0 })) rest.push(eventIndex);
  expect(rest).toEqual(events.slice(1).map(({ eventIndex }) => eventIndex));
  expect((await later.runs()).map(({ runId }) => runId)).toEqual(['once']);
  expect((await later.invoke(double, { id: 'once' })).id).toBe('once');
  expect(await later.runs()).toHaveLength(1);
  await expect(later.invoke(double, { id: 'once', model: 'openai/gpt-5.1' })).rejects.toThrow(RunConflictError);
  await found.cancel(); // it has ended
  expect(await found.record()).toEqual(record);
});

// contract: 1.8-close-flushes
test('when close() resolves every event is in the store, those of the end of what ran too', async ({ directory }) => {
  const runtime = await open(directory, { recover: false });
  const told: RuntimeEvent[] = [];
  const atWork = gate();
  let left = 2;
  runtime.observe((event) => {
    if (event.type !== 'turn_request') told.push(event);
    if (event.type === 'tool_output' && --left === 0) atWork.open();
  });
  const speaks = { name: 'bash', input: { command: 'echo begun; exec sleep 1301' } };
  const working = defineAgent(() => ({ model: scriptedModel([{ toolCalls: [speaks] }]) }), { name: 'working' });
  const run = await runtime.invoke(
    defineWorkflow({
      agent: working,
      name: 'last-words',
      run: async ({ harness, log, signal }) => {
        signal.addEventListener('abort', () => log.info('last words'));
        await (await harness.session()).prompt('Go.');
      },
    }),
  );
  await runtime.dispatch(working, { instance: 'i', message: 'Go.' });
  await atWork.promise;
  await runtime.close();

  const reader = await SqliteStore.open(join(directory, 'runtime.db'));
  const kept = async (owner: Owner) =>
    (await reader.events(owner, { after: -1, limit: 1_000 })).map(({ json }) => JSON.parse(json));
  const ofRun = await kept({ run: run.id });
  const ofInstance = await kept({ agent: 'working', instance: 'i' });
  await reader.close();
  expect(ofRun).toEqual(told.filter(({ runId }) => runId !== undefined));
  expect(ofInstance).toEqual(told.filter(({ instanceId }) => instanceId !== undefined));
  expect(ofRun).toContainEqual(expect.objectContaining({ type: 'log', message: 'last words' }));
  expect([ofRun.at(-1).type, ofInstance.at(-1).type]).toEqual(['run_end', 'submission_settled']);
});

// contract: 9-read-back, 9-cancellation
test('the error of a run of an earlier process is of the class that it was', async ({ directory }) => {
  const earlier = await open(directory);
  const refused = scriptedModel([{ error: { message: 'refused', status: 400 } }]);
  const asking = defineWorkflow({
    agent: defineAgent(() => ({ model: refused })),
    name: 'asking',
    run: async ({ harness }) => void (await (await harness.session()).prompt('x')),
  });
  const plain = defineWorkflow({
    agent,
    name: 'plain',
    run: () => {
      throw new RangeError('too far');
    },
  });
  const stopped = defineWorkflow({
    agent,
    name: 'stopped',
    run: () => {
      throw new DOMException('it stopped', 'AbortError');
    },
  });
  for (const workflow of [asking, plain, stopped]) {
    const run = await earlier.invoke(workflow, { id: workflow.name ?? '' });
    await expect(run.result()).rejects.toThrow();
  }
  await earlier.close();

  await using later = await open(directory);
  const errorOf = async (id: string) => (await later.run(id)).result().catch((error: unknown) => error);
  const failed = await errorOf('asking');
  expect(failed).toBeInstanceOf(OperationFailedError);
  expect(failed).toMatchObject({
    name: 'OperationFailedError',
    code: 'operation_failed',
    status: 502,
    meta: { operation: 'prompt', status: 400 },
  });
  expect(String(failed)).toContain('refused');
  expect(await errorOf('plain')).toMatchObject({ name: 'RangeError', message: 'too far' });
  expect(await errorOf('stopped')).toBeInstanceOf(DOMException);
});

test('a run that another process has under way is seen from here, and can be cancelled only there', async ({
  directory,
}) => {
  await using one = await open(directory);
  await using other = await open(directory);
  const atWork = gate();
  const go = gate();
  const slow = defineWorkflow({
    agent,
    name: 'slow',
    run: async () => {
      atWork.open();
      await go.promise;
      return 'done';
    },
  });
  const run = await one.invoke(slow);
  await atWork.promise;
  const seen = await other.run(run.id);
  expect((await seen.record()).state).toBe('running');
  await expect(seen.cancel()).rejects.toThrow(InvalidRequestError);
  const events = eventsOf(seen);
  go.open();
  expect(await seen.result()).toBe('done');
  expect((await events).map(({ type }) => type)).toEqual(['run_start', 'run_end']);
});

test('a run that nobody has any more can be cancelled, once', async ({ directory }) => {
  const store = await SqliteStore.open(join(directory, 'runtime.db'));
  const json = JSON.stringify({ createdAt: new Date().toISOString() });
  await store.admitRun({ id: 'left', workflow: 'double', json }); // by a process that has ended
  await store.close();
  await using runtime = await open(directory);
  const left = await runtime.run('left');
  expect(await left.record()).toMatchObject({ state: 'queued', attempt: 0 });
  await left.cancel('not needed');
  await left.cancel('again');
  await expect(left.result()).rejects.toMatchObject({
    constructor: RunCancelledError,
    status: 409,
    meta: { runId: 'left', reason: 'not needed' },
  });
  expect((await eventsOf(left)).map(({ type, eventIndex }) => [type, eventIndex])).toEqual([['run_end', 0]]);
});

// contract: 7.2-key-for-ever, 8-numbers-restart
test('a later process finds what was dispatched under a key, also when it failed, and numbers go on', async ({
  directory,
}) => {
  const model = scriptedModel(['one', { error: { message: 'refused', status: 400 } }]);
  const helper = defineAgent(() => ({ model }), { name: 'helper' });
  const earlier = await open(directory);
  const sent = { instance: 'a', message: 'Hello.', key: 'k' };
  const first = await earlier.dispatch(helper, sent);
  const second = await earlier.dispatch(helper, { ...sent, key: 'k2' });
  const answer = await first.result();
  await expect(second.result()).rejects.toThrow(OperationFailedError);
  await earlier.close();

  const later = await open(directory);
  const seen: number[] = [];
  later.observe(({ eventIndex, type }) => {
    if (type !== 'turn_request') seen.push(eventIndex);
  });
  const again = await later.dispatch(helper, sent);
  expect(again).toMatchObject({ ...first, result: expect.any(Function) });
  expect(await again.result()).toEqual(answer);
  await expect((await later.dispatch(helper, { ...sent, key: 'k2' })).result()).rejects.toThrow(OperationFailedError);
  await expect(later.dispatch(helper, { ...sent, message: 'Other.' })).rejects.toThrow(SubmissionConflictError);
  expect(seen).toEqual([]);
  await expect((await later.dispatch(helper, { ...sent, key: 'k3' })).result()).rejects.toThrow();
  expect(seen[0]).toBeGreaterThan(10);
  await later.close();
});

// contract: 7.2-own-conversation
test('an instance goes on with its conversation in a later process, images included', async ({ directory }) => {
  const image = { type: 'image', data: 'AAEC', mimeType: 'image/png' } as const;
  const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command: 'echo seen' } }] }, 'one', 'two']);
  const helper = defineAgent(() => ({ model }), { name: 'helper' });
  const earlier = await open(directory);
  await (await earlier.dispatch(helper, { instance: 'a', message: 'Look.', images: [image, image] })).result();
  await earlier.close();

  await using later = await open(directory);
  await (await later.dispatch(helper, { instance: 'a', message: 'Go on.' })).result();
  const [, before, after] = model.requests;
  expect(after?.messages.slice(0, 3)).toEqual(before?.messages);
  expect(after?.messages[0]?.content).toMatchObject([{ text: 'Look.' }, { type: 'text' }, image, image]);
  expect(after?.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'assistant', 'user']);
});

// contract: 7.3-attachments
test('images are kept once, beside the records, and records have none of their bytes', async ({ directory }) => {
  const data = Buffer.from('not really an image').toString('base64');
  const image = { type: 'image', data, mimeType: 'image/png' } as const;
  const runtime = await open(directory);
  const workflow = defineWorkflow({
    agent: defineAgent(() => ({ model: scriptedModel(['Seen.']) })),
    name: 'look',
    run: async ({ harness }) => void (await (await harness.session()).prompt('Look.', { images: [image, image] })),
  });
  const run = await runtime.invoke(workflow, { id: 'looks' });
  await run.result();
  await runtime.close();
  await using store = await SqliteStore.open(join(directory, 'runtime.db'));
  const owner = { run: 'looks' };
  const [conversation] = await store.conversations(owner, { limit: 10 });
  const records = await store.records(owner, conversation?.id ?? '', { limit: 10 });
  expect(records.map(({ json }) => JSON.parse(json).type)).toEqual(['preamble', 'user', 'assistant']);
  expect(JSON.stringify([records, await store.events(owner, { limit: 100 })])).not.toContain(data);
  const ids = [...(records[1]?.json.matchAll(/att_[0-9a-f]{32}/g) ?? [])].map(String);
  expect(new Set(ids).size).toBe(1);
  expect(ids).toHaveLength(2);
  const kept = await store.attachment(owner, conversation?.id ?? '', ids[0] ?? '');
  expect(Buffer.from(kept?.bytes ?? []).toString()).toBe('not really an image');
  expect(JSON.parse(kept?.json ?? '')).toEqual({ mimeType: 'image/png', size: 19 });
});

test('an instance is worked on by one process at a time: the other one waits for it', async ({ directory }) => {
  const model = scriptedModel(['one', 'two']);
  const helper = defineAgent(() => ({ model }), { name: 'helper' });
  const one = await open(directory);
  await using other = await open(directory);
  await (await one.dispatch(helper, { instance: 'a', message: '1' })).result();
  const waits = await other.dispatch(helper, { instance: 'a', message: '2' });
  await one.close();
  expect((await waits.result()).text).toBe('two');
});

test('what waits for another process can be aborted', async ({ directory }) => {
  const model = scriptedModel(['one']);
  const helper = defineAgent(() => ({ model }), { name: 'helper' });
  await using one = await open(directory);
  await using other = await open(directory);
  await (await one.dispatch(helper, { instance: 'a', message: '1' })).result();
  const waits = await other.dispatch(helper, { instance: 'a', message: '2' });
  expect(await other.abort(helper, { instance: 'a' })).toBe(true);
  await expect(waits.result()).rejects.toThrow(SubmissionAbortedError);
});

// contract: 7.1-end-at-once
test('whoever finds the last event of a run in the store finds its final record there, too', async ({ directory }) => {
  await using runtime = await open(directory);
  const store = await SqliteStore.open(join(directory, 'runtime.db'));
  const found: Promise<unknown>[] = [];
  runtime.observe(({ type, runId = '' }) => {
    if (type === 'run_end') found.push(store.run(runId));
  });
  await (await runtime.invoke(double)).result();
  expect(await Promise.all(found)).toMatchObject([{ state: 'completed' }]);
  await store.close();
});

// contract: 8-version-refused
test('events of another version are refused', async ({ directory }) => {
  const store = await SqliteStore.open(join(directory, 'runtime.db'));
  const owner = { run: 'newer' };
  await store.admitRun({ id: 'newer', workflow: 'w', json: '{}' });
  const lease = await store.claim(owner, 'h', 1_000);
  if (lease) await store.write(lease, [{ kind: 'event', index: 0, json: JSON.stringify({ v: 2, eventIndex: 0 }) }]);
  await store.close();
  await using runtime = await open(directory);
  const reading = eventsOf(await runtime.run('newer'));
  await expect(reading).rejects.toMatchObject({ name: 'StoreVersionError', meta: { stored: 2, supported: 1 } });
});

test('a run that another process has taken over stops here: what that one records counts', async ({ directory }) => {
  const runtime = await open(directory);
  const types: string[] = [];
  runtime.observe(({ type }) => types.push(type));
  const store = await SqliteStore.open(join(directory, 'runtime.db'));
  const workflow = defineWorkflow({
    agent,
    name: 'w',
    run: async ({ harness, signal }) => {
      // Another attempt has it: this one may write nothing more.
      await store.release({ owner: { run: 'taken' }, fence: 1 });
      const lease = await store.claim({ run: 'taken' }, 'other', 30_000);
      harness.emit('late', 1);
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      if (!lease) return;
      const error = { name: 'RangeError', message: 'ended elsewhere' };
      const progress = JSON.stringify({ error, usage: {} });
      await store.write(lease, [{ kind: 'run', state: 'failed', progress }]);
    },
  });
  const run = await runtime.invoke(workflow, { id: 'taken' });
  await expect(run.result()).rejects.toMatchObject({ name: 'RangeError', message: 'ended elsewhere' });
  expect(await run.record()).toMatchObject({ state: 'failed', attempt: 2 });
  expect(types).toEqual(['run_start']);
  await runtime.close();
  await store.close();
});

// contract: 1.8-admission
test('a run that the store does not take in is not started', async ({ directory }) => {
  await using runtime = await open(directory);
  const run = vi.fn(() => null);
  const workflow = defineWorkflow({ agent, name: 'never', run });
  const other = new Database(join(directory, 'runtime.db'));
  other.exec('ALTER TABLE runs RENAME TO gone');
  await expect(runtime.invoke(workflow)).rejects.toMatchObject({
    name: 'WorkflowAdmissionError',
    meta: { workflow: 'never' },
    cause: { name: 'StoreError', meta: { operation: 'admitRun' } },
  });
  other.exec('ALTER TABLE gone RENAME TO runs');
  other.close();
  expect(run).not.toHaveBeenCalled();
  expect(await runtime.runs()).toEqual([]);
});

test('a store that can not be opened is said at the start', async ({ directory }) => {
  const refused = createRuntime({ store: directory, sandbox: local() });
  await expect(refused).rejects.toMatchObject({ name: 'StoreError', meta: { operation: 'open' } });
});

test('a run is removed when its time is over, one that has not ended is not', async ({ directory }) => {
  const store = join(directory, 'runtime.db');
  const options = { store, sandbox: local({ cwd: directory }), logger: pino({ level: 'silent' }) };
  const waiting = gate();
  const wait = defineWorkflow({ agent, name: 'wait', run: () => waiting.promise });
  {
    await using earlier = await createRuntime(options);
    await (await earlier.invoke(double, { id: 'over' })).result();
    const held = await earlier.invoke(wait, { id: 'held' });
    {
      await using keeping = await createRuntime({ ...options, runRetention: 60_000 });
      expect((await keeping.runs()).map(({ runId }) => runId)).toEqual(['held', 'over']);
      await using removing = await createRuntime({ ...options, runRetention: 0 });
      await expect.poll(() => removing.runs()).toMatchObject([{ runId: 'held' }]);
      await expect(removing.run('over')).rejects.toThrow(RunNotFoundError);
    }
    waiting.open();
    await held.result();
  }
  await using forever = await createRuntime({ ...options, runRetention: Number.POSITIVE_INFINITY });
  expect(await (await forever.run('held')).record()).toMatchObject({ state: 'completed' });
});

test('the time that runs are kept is checked', async () => {
  for (const runRetention of [-1, Number.NaN, '1']) {
    await expect(createRuntime({ store: ':memory:', runRetention: runRetention as number })).rejects.toThrow(
      'runRetention',
    );
  }
});

// contract: 7.3-signals
test('what an application dispatches as data is kept as a signal, with its images; readers and the model get it as a user’s', async ({
  directory,
}) => {
  const data = Buffer.from('not really an image').toString('base64');
  const image = { type: 'image', data, mimeType: 'image/png' } as const;
  const model = scriptedModel(['one', 'two']);
  const helper = defineAgent(() => ({ model }), { name: 'helper' });
  const earlier = await open(directory);
  await (await earlier.dispatch(helper, { instance: 'a', input: { b: 1, a: '<' }, images: [image] })).result();
  await earlier.close();
  await using later = await open(directory);
  await (await later.dispatch(helper, { instance: 'a', message: 'Go on.' })).result();
  const [before, after] = model.requests;
  expect(before?.messages[0]?.content).toMatchObject([
    { text: expect.stringMatching(/^<dispatch /) },
    { type: 'text' },
    image,
  ]);
  expect(after?.messages[0]).toEqual(before?.messages[0]);
  await using store = await SqliteStore.open(join(directory, 'runtime.db'));
  const owner = { agent: 'helper', instance: 'a' };
  const [conversation] = await store.conversations(owner, { limit: 10 });
  const records = (await store.records(owner, conversation?.id ?? '', { limit: 10 })).map(({ json }) =>
    JSON.parse(json),
  );
  expect(records.map(({ type }) => type)).toEqual(['preamble', 'signal', 'assistant', 'user', 'assistant']);
  expect(records[1]).toMatchObject({
    tag: 'dispatch',
    attributes: { type: 'dispatch_input' },
    content: '{\n  "a": "<",\n  "b": 1\n}',
  });
  expect(
    toHistory(records.map((record) => (record.type === 'signal' ? { ...record, images: [image] } : record)))[0],
  ).toMatchObject({
    role: 'user',
    parts: [
      { type: 'text', text: expect.stringContaining('&lt;') },
      { type: 'file', mediaType: 'image/png' },
    ],
  });
});
