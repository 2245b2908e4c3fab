import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WireProtocolError, WireStreamError } from '../../src/protocol/errors.ts';
import { encodeFrame, type Frame } from '../../src/protocol/frame.ts';
import { limits } from '../../src/protocol/limits.ts';
import { Mux, type WireStream } from '../../src/protocol/mux.ts';
import { ReceiveQueue } from '../../src/protocol/receive-queue.ts';
import { muxPair } from '../support/mux-pair.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const bytesOf = (...frames: Frame[]) => Buffer.concat(frames.flatMap(encodeFrame));
const data = (stream: number, bytes: number): Frame => ({ kind: 'data', stream, payload: new Uint8Array(bytes) });

/** An agent's mux with stream 1 open, and what it sent. */
function agentWith(directions: { send: boolean; receive: boolean }) {
  const sent: Uint8Array[] = [];
  const mux = new Mux({ side: 'agent', send: (pieces) => sent.push(Buffer.concat(pieces)), onMessage: () => {} });
  return { mux, sent, stream: mux.accept(1, directions) };
}
const both = { send: true, receive: true };

/** The byte at each place of a stream's content, so that a wrong order shows. */
const byteAt = (id: number, at: number) => (at * 31 + (at >> 8) * 7 + id) & 0xff;
const contentOf = (id: number, from: number, bytes: number) =>
  Uint8Array.from({ length: bytes }, (_, at) => byteAt(id, from + at));

describe('two muxes', () => {
  test('bring all bytes of all streams in order, never more than a window under way, under any schedule', async () => {
    const plan = fc.record({
      fromHost: fc.boolean(),
      pieces: fc.array(fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 400_000 })), {
        maxLength: 6,
      }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(plan, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(1_000_000), { maxLength: 120 }),
        runSchedule,
      ),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 40) },
    );
  });

  test('let a stopped reader stop its own stream and nothing else', async () => {
    const { host, agent, messages } = muxPair();
    const stopped = host.open({ send: true, receive: false });
    const going = host.open({ send: true, receive: false });
    agent.accept(stopped.id, { send: false, receive: true });
    const reader = agent.accept(going.id, { send: false, receive: true });
    let sent = 0;
    const sending = (async () => {
      for (;;) {
        const granted = await stopped.credit();
        stopped.send(new Uint8Array(granted));
        sent += granted;
      }
    })().catch((error: unknown) => error);
    const writing = going.write(new Uint8Array(4 * limits.window)).then(() => going.end());
    let received = 0;
    for await (const chunk of reader) received += chunk.length;
    await writing;
    host.sendMessage(Buffer.from('hello'));
    await turn();
    expect(received).toBe(4 * limits.window);
    expect(messages.agent.map(String)).toEqual([Buffer.from('hello').toString()]);
    expect(sent).toBe(limits.window);
    host.close();
    expect(await sending).toMatchObject({ meta: { reason: 'closed' } });
  });

  test('tell a cancel to the writer and a reset to the reader', async () => {
    const { host, agent } = muxPair();
    const one = host.open(both);
    const other = agent.accept(one.id, both);
    one.send(Buffer.from('part'));
    one.reset();
    await turn();
    await expect(other.read()).rejects.toMatchObject({ meta: { reason: 'reset' } });
    one.cancel();
    await turn();
    await expect(other.credit()).rejects.toMatchObject({ meta: { reason: 'cancelled' } });
    expect(other.sendable).toBe(0);
  });

  test('keep what has come readable when the connection breaks, and say then that it is not all', async () => {
    const { host, agent, close } = muxPair();
    const one = host.open({ send: true, receive: false });
    const other = agent.accept(one.id, { send: false, receive: true });
    one.send(Buffer.from('part'));
    await turn();
    close();
    expect(Buffer.from((await other.read()) ?? []).toString()).toBe('part');
    await expect(other.read()).rejects.toBeInstanceOf(WireStreamError);
    await expect(one.credit()).rejects.toMatchObject({ meta: { reason: 'closed' } });
    expect(() => one.send(Buffer.from('x'))).toThrow(WireStreamError);
    await expect(host.open(both).read()).rejects.toMatchObject({ meta: { reason: 'closed' } });
  });

  test('end a wait for credit when the signal says so', async () => {
    const { stream } = agentWith(both);
    for (let sent = 0; sent < limits.window; sent += limits.data) stream.send(new Uint8Array(limits.data));
    const aborting = new AbortController();
    const waiting = stream.credit(aborting.signal);
    aborting.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(() => stream.send(new Uint8Array(1))).toThrow(RangeError);
  });

  test('cancel a stream whose iteration is left early', async () => {
    const { host, agent } = muxPair();
    const one = host.open({ send: true, receive: false });
    const other = agent.accept(one.id, { send: false, receive: true });
    one.send(Buffer.from('part'));
    for await (const _ of other) break;
    await turn();
    await expect(one.credit()).rejects.toMatchObject({ meta: { reason: 'cancelled' } });
  });

  test('make room for new streams when old ones have ended', async () => {
    const { host, agent } = muxPair();
    for (let index = 0; index < 2 * limits.streams; index += 1) {
      const one = host.open({ send: true, receive: false });
      agent.accept(one.id, { send: false, receive: true });
      one.end();
      if (index % 1_000 === 0) await turn();
    }
    await turn();
  });
});

describe('a mux refuses', () => {
  test.for<[what: string, frames: Frame[]]>([
    ['data after the end', [{ kind: 'end', stream: 1 }, data(1, 1)]],
    [
      'a second end',
      [
        { kind: 'end', stream: 1 },
        { kind: 'end', stream: 1 },
      ],
    ],
    ['more than the window', [...Array(limits.window / limits.data).fill(data(1, limits.data)), data(1, 1)]],
    ['a grant that nobody used', [{ kind: 'credit', stream: 1, bytes: 1 }]],
    ['data for a stream that was never opened', [data(3, 1)]],
    ['data for a stream of ours that was never opened', [data(2, 1)]],
    ['a reset of a stream that was never opened', [{ kind: 'reset', stream: 99, reason: 'reset' }]],
  ])('%s', ([, frames]) => {
    const { mux } = agentWith(both);
    expect(() => mux.receive(bytesOf(...frames))).toThrow(WireProtocolError);
  });

  test('data on a stream that only sends', () => {
    const { mux } = agentWith({ send: true, receive: false });
    expect(() => mux.receive(bytesOf(data(1, 1)))).toThrow(WireProtocolError);
  });

  test('more grants than were used, also when they come bit by bit', () => {
    const { mux, stream } = agentWith(both);
    stream.send(new Uint8Array(100));
    mux.receive(bytesOf({ kind: 'credit', stream: 1, bytes: 60 }, { kind: 'credit', stream: 1, bytes: 40 }));
    expect(() => mux.receive(bytesOf({ kind: 'credit', stream: 1, bytes: 1 }))).toThrow(WireProtocolError);
  });

  test('a stream that is opened twice, is not the other side’s to open, or is one too many', () => {
    const { mux } = agentWith(both);
    expect(() => mux.accept(1, both)).toThrow(WireProtocolError);
    expect(() => mux.accept(2, both)).toThrow(WireProtocolError);
    for (let index = 1; index < limits.streams; index += 1) mux.accept(2 * index + 1, both);
    expect(() => mux.accept(2 * limits.streams + 1, both)).toThrow(WireProtocolError);
  });

  test('a message that is too large to send', () => {
    const { mux } = agentWith(both);
    expect(() => mux.sendMessage(new Uint8Array(limits.message + 1))).toThrow(RangeError);
  });
});

test('a mux drops what comes for streams that it has closed', async () => {
  const { mux, stream } = agentWith({ send: false, receive: true });
  stream.cancel();
  mux.receive(bytesOf(data(1, 10), { kind: 'credit', stream: 1, bytes: 10 }, { kind: 'end', stream: 1 }));
  mux.receive(bytesOf({ kind: 'reset', stream: 1, reason: 'reset' }));
  await expect(stream.read()).rejects.toMatchObject({ meta: { reason: 'cancelled' } });
});

test('a mux throws nothing but WireProtocolError, for any frames and bytes', () => {
  const stream = fc.integer({ min: 1, max: 6 });
  const frame: fc.Arbitrary<Frame> = fc.oneof(
    fc.record({ kind: fc.constant('data' as const), stream, payload: fc.uint8Array({ minLength: 1, maxLength: 20 }) }),
    fc.record({ kind: fc.constant('end' as const), stream }),
    fc.record({ kind: fc.constant('credit' as const), stream, bytes: fc.integer({ min: 1, max: limits.window }) }),
    fc.record({
      kind: fc.constant('reset' as const),
      stream,
      reason: fc.constantFrom('reset' as const, 'cancelled' as const, 'gone' as const),
    }),
  );
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          frame.map((one) => bytesOf(one)),
          fc.uint8Array({ maxLength: 12 }),
        ),
        { maxLength: 30 },
      ),
      (pieces) => {
        const { mux } = agentWith(both);
        mux.accept(3, { send: false, receive: true });
        mux.open({ send: true, receive: false });
        try {
          for (const piece of pieces) mux.receive(piece);
        } catch (error) {
          expect(error).toBeInstanceOf(WireProtocolError);
        }
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 1_000) },
  );
});

describe('ReceiveQueue', () => {
  test('gives the bytes back in order, and holds not much more than them, whatever the pieces', () => {
    const piece = fc.oneof(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 20_000 }),
      fc.constantFrom(1, 4_095, 4_096),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(piece, fc.boolean()), { maxLength: 60 }), (steps) => {
        const queue = new ReceiveQueue();
        let pushed = 0;
        let shifted = 0;
        const check = (chunk: Uint8Array | undefined) => {
          for (const byte of chunk ?? []) {
            if (byte !== byteAt(0, shifted)) expect.fail(`wrong byte at ${shifted}`);
            shifted += 1;
          }
        };
        for (const [bytes, isRead] of steps) {
          // Each lies in a buffer of its own that is far larger, as a frame in a WebSocket message.
          const message = new Uint8Array(bytes + 100_000);
          message.set(contentOf(0, pushed, bytes), 50_000);
          queue.push(message.subarray(50_000, 50_000 + bytes));
          pushed += bytes;
          if (isRead) check(queue.shift());
        }
        const unread = pushed - shifted;
        let held = 0;
        for (let chunk = queue.shift(); chunk; chunk = queue.shift()) {
          held += chunk.buffer.byteLength;
          check(chunk);
        }
        expect(shifted).toBe(pushed);
        expect(held).toBeLessThanOrEqual(2 * unread + 2 * 4_096);
        queue.push(Uint8Array.of(1));
        queue.clear();
        expect(queue.shift()).toBeUndefined();
      }),
    );
  });

  test('keeps half a million frames of a byte in little memory, and gives them back fast', async () => {
    const { mux, stream } = agentWith({ send: false, receive: true });
    const frames = bytesOf(...Array.from({ length: 1_024 }, () => data(1, 1)));
    const before = process.memoryUsage().arrayBuffers;
    const started = performance.now();
    for (let sent = 0; sent < limits.window; sent += 1_024) mux.receive(Buffer.from(frames));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
    let received = 0;
    while (received < limits.window) received += (await stream.read())?.length ?? 0;
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

/** Delivers, writes and reads in the order of `schedule`, then to the end. */
async function runSchedule(plans: { fromHost: boolean; pieces: number[] }[], schedule: number[]): Promise<void> {
  const underWay: { host: Uint8Array[]; agent: Uint8Array[] } = { host: [], agent: [] };
  const host = new Mux({
    side: 'host',
    send: (pieces) => underWay.agent.push(Buffer.concat(pieces)),
    onMessage: () => {},
  });
  const agent = new Mux({
    side: 'agent',
    send: (pieces) => underWay.host.push(Buffer.concat(pieces)),
    onMessage: () => {},
  });
  const deliver = (to: 'host' | 'agent', cut: number) => {
    const [bytes] = underWay[to];
    if (!bytes) return;
    const at = cut % (bytes.length + 1);
    underWay[to].splice(0, 1, ...(at === 0 || at === bytes.length ? [] : [bytes.subarray(at)]));
    (to === 'host' ? host : agent).receive(at === 0 ? bytes : bytes.subarray(0, at));
  };
  const flows = plans.map(({ fromHost, pieces }) => {
    const atHost = host.open({ send: fromHost, receive: !fromHost });
    const atAgent = agent.accept(atHost.id, { send: !fromHost, receive: fromHost });
    return new Flow(fromHost ? atHost : atAgent, fromHost ? atAgent : atHost, pieces);
  });
  for (const step of schedule) {
    const choice = step % (flows.length + 2);
    if (choice === 0) deliver('agent', step >> 3);
    else if (choice === 1) deliver('host', step >> 3);
    else flows[choice - 2]?.readOnce();
    for (let ticks = 0; ticks < 5; ticks += 1) await undefined;
  }
  while (!flows.every((flow) => flow.isDone)) {
    deliver('agent', 0);
    deliver('host', 0);
    for (const flow of flows) flow.readOnce();
    await turn();
    for (const flow of flows) if (flow.error) throw flow.error;
  }
  for (const flow of flows) expect(flow.received).toBe(flow.total);
}

class Flow {
  readonly total: number;
  readonly #reader: WireStream;
  #sent = 0;
  received = 0;
  isDone = false;
  error: unknown;
  #isReading = false;

  constructor(writer: WireStream, reader: WireStream, pieces: number[]) {
    this.#reader = reader;
    this.total = pieces.reduce((sum, piece) => sum + piece, 0);
    this.#write(writer, pieces).catch((error: unknown) => {
      this.error = error;
    });
  }

  async #write(writer: WireStream, pieces: number[]): Promise<void> {
    for (const piece of pieces) {
      for (let left = piece; left > 0; ) {
        const bytes = Math.min(left, await writer.credit());
        writer.send(contentOf(writer.id, this.#sent, bytes));
        this.#sent += bytes;
        left -= bytes;
        expect(this.#sent - this.received).toBeLessThanOrEqual(limits.window);
      }
    }
    writer.end();
  }

  readOnce(): void {
    if (this.#isReading || this.isDone) return;
    this.#isReading = true;
    this.#reader.read().then(
      (chunk) => {
        this.#isReading = false;
        if (chunk === null) this.isDone = true;
        const expected = contentOf(this.#reader.id, this.received, chunk?.length ?? 0);
        if (Buffer.compare(expected, chunk ?? new Uint8Array(0)) !== 0) this.error = new Error('wrong bytes');
        this.received += chunk?.length ?? 0;
      },
      (error: unknown) => {
        this.error = error;
      },
    );
  }
}
