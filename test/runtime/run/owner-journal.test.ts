import { expect } from 'vitest';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import type { RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { frozenCopy } from '../../../src/runtime/events/frozen-copy.ts';
import { OwnerJournal } from '../../../src/runtime/run/owner-journal.ts';
import { test } from '../../support/runtime.ts';

async function open(deliver: (event: RuntimeEvent, log: OwnerJournal) => void = () => {}, { isObserved = true } = {}) {
  const delivered: RuntimeEvent[] = [];
  const failures: unknown[] = [];
  const store = await SqliteStore.open(':memory:');
  await store.admitRun({ id: 'run_1', workflow: 'w', json: '{}' });
  const log: OwnerJournal = new OwnerJournal({
    owner: { run: 'run_1' },
    store,
    host: 'h',
    isObserved: () => isObserved,
    deliver: (event) => {
      delivered.push(event);
      deliver(event, log);
    },
    onFailure: (error) => failures.push(error),
  });
  await log.claim();
  return { log, store, delivered, failures };
}

const request = {
  providerId: 'p',
  providerName: 'p',
  requestedModel: 'm',
  api: 'a',
  system: '',
  messages: [],
  tools: [],
};

async function all(events: AsyncIterable<RuntimeEvent>): Promise<RuntimeEvent[]> {
  const found: RuntimeEvent[] = [];
  for await (const event of events) found.push(event);
  return found;
}

// contract: 8-numbers, 8-timestamp, 8-version
test('numbers events from 0 without a gap, and stamps them', async () => {
  const { log, delivered } = await open();
  for (let i = 0; i < 3; i++) log.emit({ type: 'idle' }, { session: `s${i}` });
  await log.flush();
  expect(delivered).toMatchObject(
    [0, 1, 2].map((eventIndex) => ({ v: 1, eventIndex, runId: 'run_1', session: `s${eventIndex}` })),
  );
  expect(new Date(delivered[0]?.timestamp ?? '').toISOString()).toBe(delivered[0]?.timestamp);
});

// contract: 8-joined
test('joins pieces of one text that come together, and gives them before what comes next', async () => {
  const { log, delivered } = await open();
  const scope = { operationId: 'op', turnId: 't' };
  log.emit({ type: 'text_delta', text: 'a' }, scope);
  log.emit({ type: 'tool_output', toolCallId: 'c', stream: 'stdout', text: '1' }, scope);
  log.emit({ type: 'text_delta', text: 'b' }, scope);
  log.emit({ type: 'tool_output', toolCallId: 'c', stream: 'stderr', text: '2' }, scope);
  log.emit({ type: 'thinking_delta', contentIndex: 0, delta: 'x' }, scope);
  log.emit({ type: 'thinking_delta', contentIndex: 0, delta: 'y' }, scope);
  log.emit({ type: 'text_delta', text: 'of another turn' }, { ...scope, turnId: 'u' });
  expect(delivered).toEqual([]);
  log.emit({ type: 'idle' });
  await log.flush();
  expect(delivered).toMatchObject([
    { type: 'text_delta', text: 'ab', turnId: 't' },
    { type: 'tool_output', stream: 'stdout', text: '1' },
    { type: 'tool_output', stream: 'stderr', text: '2' },
    { type: 'thinking_delta', delta: 'xy' },
    { type: 'text_delta', text: 'of another turn', turnId: 'u' },
    { type: 'idle' },
  ]);
});

test('gives pieces also when nothing comes after them', async () => {
  const { log } = await open();
  log.emit({ type: 'text_delta', text: 'alone' });
  const next = await log.follow(-1).next();
  expect(next.value).toMatchObject({ text: 'alone' });
});

// contract: 7.1-events-after
test('follows from any number on, those of the past first, and ends with the log', async () => {
  const { log } = await open();
  log.emit({ type: 'idle' });
  log.emit({ type: 'idle' });
  const fromStart = all(log.follow(-1));
  const later = all(log.follow(0));
  log.emit({ type: 'agent_start' });
  log.emit({ type: 'text_delta', text: 'last' });
  await log.close();
  await log.close();
  log.emit({ type: 'idle' }); // nothing comes after the end
  expect((await fromStart).map(({ eventIndex }) => eventIndex)).toEqual([0, 1, 2, 3]);
  expect((await later).map(({ type }) => type)).toEqual(['idle', 'agent_start', 'text_delta']);
  expect(await all(log.follow(3))).toEqual([]);
  expect(await all(log.follow(99))).toEqual([]);
});

// contract: 8-turn-request-live
test('tells of a whole request, does not keep it, and gives it the number of the event before it', async () => {
  const { log, delivered } = await open();
  log.emit({ type: 'turn_start', purpose: 'agent' });
  log.emit({ type: 'turn_request', purpose: 'agent', request });
  log.emit({ type: 'idle' });
  await log.close();
  expect(delivered.map(({ eventIndex, type }) => [eventIndex, type])).toEqual([
    [0, 'turn_start'],
    [0, 'turn_request'],
    [1, 'idle'],
  ]);
  expect((await all(log.follow(-1))).map(({ type }) => type)).toEqual(['turn_start', 'idle']);
});

test('does not look at a whole request when nobody is told of it', async () => {
  const { log, delivered } = await open(() => {}, { isObserved: false });
  let looks = 0;
  const looking = {
    ...request,
    get system() {
      looks++;
      return '';
    },
  };
  log.emit({ type: 'turn_request', purpose: 'agent', request: looking });
  await log.flush();
  expect(delivered).toEqual([]);
  expect(looks).toBe(0);
});

test('stops following when it is aborted', async () => {
  const { log } = await open();
  const stop = new AbortController();
  const following = all(log.follow(-1, stop.signal));
  stop.abort('enough');
  await expect(following).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  await expect(all(log.follow(-1, stop.signal))).rejects.toMatchObject({ name: 'AbortError' });
});

test('gives an event to everybody before one that it causes', async () => {
  const { log, delivered } = await open((event, own) => {
    if (event.type === 'agent_start') own.emit({ type: 'idle' });
    if (event.type === 'agent_start') expect(delivered).toHaveLength(1);
  });
  log.emit({ type: 'agent_start' });
  await log.flush();
  await log.flush();
  expect(delivered.map(({ eventIndex, type }) => [eventIndex, type])).toEqual([
    [0, 'agent_start'],
    [1, 'idle'],
  ]);
});

// contract: 8-observe-copy
test('copies are detached and deeply frozen', async () => {
  const { log, delivered } = await open();
  const data = { list: [{ n: 1 }] };
  log.emit({ type: 'data', name: 'd', data });
  data.list[0] = { n: 2 };
  await log.flush();
  const event = delivered[0] as unknown as { data: { list: { n: number }[] } };
  expect(event.data).toEqual({ list: [{ n: 1 }] });
  expect([event, event.data, event.data.list, event.data.list[0]].every(Object.isFrozen)).toBe(true);
  expect(frozenCopy(event)).toBe(event); // it needs no further one
});

// contract: 8-stored-first
test('writes what comes together in one transaction, and tells of it only when it is in the store', async () => {
  const found: Promise<number>[] = [];
  const { log, store, delivered } = await open((_event, { owner }) => found.push(store.lastEvent(owner)));
  log.put({ kind: 'conversation', id: 'c', json: '{}' });
  log.emit({ type: 'agent_start' });
  log.emit({ type: 'idle' });
  expect(await store.lastEvent(log.owner)).toBe(-1);
  expect(delivered).toEqual([]);
  await log.flush();
  expect(await Promise.all(found)).toEqual([1, 1]);
  expect(await store.conversation(log.owner, 'c')).toEqual({ id: 'c', json: '{}' });
});

test('writes by itself what nobody waits for', async () => {
  let told = () => {};
  const telling = new Promise<void>((resolve) => {
    told = resolve;
  });
  const { log } = await open(() => told());
  log.emit({ type: 'idle' });
  await telling;
});

test('of a write that is refused nothing is told or written, and nothing comes after it', async () => {
  const { log, store, delivered, failures } = await open();
  log.emit({ type: 'agent_start' });
  log.put({ kind: 'conversation.remove', id: 'none' });
  await expect(log.flush()).rejects.toMatchObject({ name: 'WriteRefusedError' });
  log.emit({ type: 'idle' });
  await expect(log.flush()).rejects.toMatchObject({ name: 'WriteRefusedError' });
  await expect(all(log.follow(-1))).rejects.toMatchObject({ name: 'WriteRefusedError' });
  expect(delivered).toEqual([]);
  expect(failures).toHaveLength(1);
  expect(await store.lastEvent(log.owner)).toBe(-1);
});

// contract: 8-numbers-restart
test('numbers go on after those that are in the store', async () => {
  const { log, store, delivered } = await open();
  log.emit({ type: 'idle' });
  await log.flush();
  if (log.lease) await store.release(log.lease);
  const next: RuntimeEvent[] = [];
  const later = new OwnerJournal({
    owner: log.owner,
    store,
    host: 'h2',
    isObserved: () => true,
    deliver: (event) => next.push(event),
    onFailure: () => {},
  });
  expect(await later.claim()).toBe(true);
  later.emit({ type: 'idle' });
  await later.flush();
  expect([...delivered, ...next].map(({ eventIndex }) => eventIndex)).toEqual([0, 1]);
});
