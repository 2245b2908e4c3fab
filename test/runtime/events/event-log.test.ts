import { expect, test } from 'vitest';
import { IMAGE_DATA_OMITTED, type RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { EventLog } from '../../../src/runtime/events/event-log.ts';
import { frozenCopy } from '../../../src/runtime/events/frozen-copy.ts';
import { MemoryEvents } from '../../../src/runtime/events/memory-events.ts';

function open(deliver: (event: RuntimeEvent, log: EventLog) => void = () => {}, { isObserved = true } = {}) {
  const delivered: RuntimeEvent[] = [];
  const log: EventLog = new EventLog({
    logId: 'run_1',
    owner: { runId: 'run_1' },
    store: new MemoryEvents(),
    isObserved: () => isObserved,
    deliver: (event) => {
      delivered.push(event);
      deliver(event, log);
    },
  });
  return { log, delivered };
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
test('numbers events from 0 without a gap, and stamps them', () => {
  const { log, delivered } = open();
  for (let i = 0; i < 3; i++) log.emit({ type: 'idle' }, { session: `s${i}` });
  expect(delivered).toMatchObject(
    [0, 1, 2].map((eventIndex) => ({ v: 1, eventIndex, runId: 'run_1', session: `s${eventIndex}` })),
  );
  expect(new Date(delivered[0]?.timestamp ?? '').toISOString()).toBe(delivered[0]?.timestamp);
});

// contract: 8-joined
test('joins pieces of one text that come together, and gives them before what comes next', () => {
  const { log, delivered } = open();
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
  const { log } = open();
  log.emit({ type: 'text_delta', text: 'alone' });
  const next = await log.follow(-1).next();
  expect(next.value).toMatchObject({ text: 'alone' });
});

// contract: 7.1-events-after
test('follows from any number on, those of the past first, and ends with the log', async () => {
  const { log } = open();
  log.emit({ type: 'idle' });
  log.emit({ type: 'idle' });
  const fromStart = all(log.follow(-1));
  const later = all(log.follow(0));
  log.emit({ type: 'agent_start' });
  log.emit({ type: 'text_delta', text: 'last' });
  log.close();
  log.close();
  log.emit({ type: 'idle' }); // nothing comes after the end
  expect((await fromStart).map(({ eventIndex }) => eventIndex)).toEqual([0, 1, 2, 3]);
  expect((await later).map(({ type }) => type)).toEqual(['idle', 'agent_start', 'text_delta']);
  expect(await all(log.follow(3))).toEqual([]);
  expect(await all(log.follow(99))).toEqual([]);
});

// contract: 8-turn-request-live
test('tells of a whole request, does not keep it, and gives it the number of the event before it', async () => {
  const { log, delivered } = open();
  log.emit({ type: 'turn_start', purpose: 'agent' });
  log.emit({ type: 'turn_request', purpose: 'agent', request });
  log.emit({ type: 'idle' });
  log.close();
  expect(delivered.map(({ eventIndex, type }) => [eventIndex, type])).toEqual([
    [0, 'turn_start'],
    [0, 'turn_request'],
    [1, 'idle'],
  ]);
  expect((await all(log.follow(-1))).map(({ type }) => type)).toEqual(['turn_start', 'idle']);
});

test('does not look at a whole request when nobody is told of it', () => {
  const { log, delivered } = open(() => {}, { isObserved: false });
  let looks = 0;
  const looking = {
    ...request,
    get system() {
      looks++;
      return '';
    },
  };
  log.emit({ type: 'turn_request', purpose: 'agent', request: looking });
  expect(delivered).toEqual([]);
  expect(looks).toBe(0);
});

// contract: 8-observe-throws
test('tells of the next events also when one could not be told', () => {
  const { log, delivered } = open((event) => {
    if (event.type === 'agent_start') throw new Error('no');
  });
  expect(() => log.emit({ type: 'agent_start' })).toThrow('no');
  log.emit({ type: 'idle' });
  expect(delivered.map(({ type }) => type)).toEqual(['agent_start', 'idle']);
});

test('stops following when it is aborted', async () => {
  const { log } = open();
  const stop = new AbortController();
  const following = all(log.follow(-1, stop.signal));
  stop.abort('enough');
  await expect(following).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  await expect(all(log.follow(-1, stop.signal))).rejects.toMatchObject({ name: 'AbortError' });
});

test('gives an event to everybody before one that it causes', () => {
  const { log, delivered } = open((event, own) => {
    if (event.type === 'agent_start') own.emit({ type: 'idle' });
    if (event.type === 'agent_start') expect(delivered).toHaveLength(1);
  });
  log.emit({ type: 'agent_start' });
  expect(delivered.map(({ eventIndex, type }) => [eventIndex, type])).toEqual([
    [0, 'agent_start'],
    [1, 'idle'],
  ]);
});

// contract: 8-ends-whole
test('drops the oldest pieces of a text beyond 8 MiB, never what ends something', async () => {
  const { log } = open();
  for (let i = 0; i < 12; i++) {
    log.emit({ type: 'text_delta', text: 'x'.repeat(1024 * 1024) });
    log.emit({ type: 'idle' });
  }
  log.close();
  const kept = await all(log.follow(-1));
  expect(kept.filter(({ type }) => type === 'idle')).toHaveLength(12);
  const pieces = kept.filter(({ type }) => type === 'text_delta');
  expect(pieces.length).toBeLessThanOrEqual(8);
  expect(pieces.at(-1)?.eventIndex).toBe(22);
});

// contract: 8-observe-copy
test('copies are detached and deeply frozen', () => {
  const { log, delivered } = open();
  const data = { list: [{ n: 1 }] };
  log.emit({ type: 'data', name: 'd', data });
  data.list[0] = { n: 2 };
  const event = delivered[0] as unknown as { data: { list: { n: number }[] } };
  expect(event.data).toEqual({ list: [{ n: 1 }] });
  expect([event, event.data, event.data.list, event.data.list[0]].every(Object.isFrozen)).toBe(true);
  expect(frozenCopy(event)).toBe(event); // it needs no further one
});

// contract: 8-no-images, 8-no-cause
test('makes JSON of anything, without an exception, a stack or the bytes of an image', () => {
  const cyclic: Record<string, unknown> = { a: 1 };
  cyclic.self = cyclic;
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const copy = frozenCopy({
    cyclic,
    nan: Number.NaN,
    big: 5n,
    fn: () => 1,
    undef: undefined,
    inArray: [undefined],
    date: new Date(0),
    map: new Map([[1, 2]]),
    bytes: new Uint8Array(3),
    error: new TypeError('why', { cause: 'secret' }),
    throws: {
      get x() {
        throw new Error('no');
      },
    },
    revoked: revoked.proxy,
    image: { type: 'image', mimeType: 'image/png', data: 'AAAA' },
    nothing: Object.create(null),
  });
  expect(JSON.parse(JSON.stringify(copy))).toEqual({
    cyclic: { a: 1, self: '<cycle>' },
    nan: 'NaN',
    big: '5',
    fn: '() => 1',
    inArray: [null],
    date: expect.any(String),
    map: '[object Map]',
    bytes: '<3 bytes>',
    error: { name: 'TypeError', message: 'why' },
    throws: '<not readable>',
    revoked: '<not readable>',
    image: { type: 'image', mimeType: 'image/png', data: IMAGE_DATA_OMITTED },
    nothing: {},
  });
});
