import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TooManyStreamsError, WireProtocolError } from '../../src/protocol/errors.ts';
import { encodeFrame } from '../../src/protocol/frame.ts';
import { limits } from '../../src/protocol/limits.ts';
import { Mux, type WireStream } from '../../src/protocol/mux.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const ack = (frames: number) => Buffer.concat(encodeFrame({ kind: 'ack', frames }));

/** Two muxes whose transport is cut when `cutAfter` says so, in bytes either way, and joined again. */
class BreakingPair {
  readonly host: Mux;
  readonly agent: Mux;
  readonly messages: string[] = [];
  cuts = 0;
  readonly #underWay: { to: 'host' | 'agent'; bytes: Uint8Array }[] = [];
  readonly #cutAfter: number[];
  #left: number;

  constructor(cutAfter: number[]) {
    this.#cutAfter = [...cutAfter];
    this.#left = this.#cutAfter.shift() ?? Number.POSITIVE_INFINITY;
    this.host = new Mux({
      side: 'host',
      send: (pieces) => this.#underWay.push({ to: 'agent', bytes: Buffer.concat(pieces) }),
      onMessage: (payload) => this.messages.push(Buffer.from(payload).toString()),
    });
    this.agent = new Mux({
      side: 'agent',
      send: (pieces) => this.#underWay.push({ to: 'host', bytes: Buffer.concat(pieces) }),
      onMessage: (payload) => this.agent.sendMessage(payload),
    });
  }

  deliver(): void {
    for (const { to, bytes } of this.#underWay.splice(0)) {
      const come = bytes.subarray(0, this.#left);
      if (come.length > 0) this[to].receive(come);
      this.#left -= bytes.length;
      if (this.#left > 0) continue;
      // What is behind is lost, in both directions.
      this.#left = this.#cutAfter.shift() ?? Number.POSITIVE_INFINITY;
      this.cuts += 1;
      this.host.detach();
      this.agent.detach();
      this.#underWay.length = 0;
      const received = this.host.received;
      this.host.resume(this.agent.received);
      this.agent.resume(received);
      return;
    }
  }
}

let reused = 0;
const byteAt = (id: number, at: number) => (at * 31 + (at >> 8) * 7 + id) & 0xff;

/** What the other side has is used for something else at once. */
async function write(stream: WireStream, pieces: number[]): Promise<void> {
  let at = 0;
  for (const piece of pieces) {
    const bytes = Uint8Array.from({ length: piece }, (_, index) => byteAt(stream.id, at + index));
    let timesReceived = 0;
    await stream.write(bytes, undefined, () => {
      timesReceived += 1;
      if (timesReceived > 1) expect.fail('memory was given back twice');
      bytes.fill(0xee);
      reused += 1;
    });
    at += piece;
  }
  stream.end();
}

/** Each chunk is looked at when more has come, and given back then. */
async function read(stream: WireStream): Promise<number> {
  let at = 0;
  for await (const chunk of stream) {
    await turn();
    for (const byte of chunk) {
      if (byte !== byteAt(stream.id, at)) expect.fail(`wrong byte at ${at} of stream ${stream.id}`);
      at += 1;
    }
    stream.recycle(chunk);
  }
  return at;
}

test('every stream and message arrives whole, once and in order, wherever the transport is cut', async () => {
  const piece = fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 300_000 }));
  const plan = fc.record({ fromHost: fc.boolean(), pieces: fc.array(piece, { maxLength: 5 }) });
  const cut = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 200_000 }));
  let cuts = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(plan, { minLength: 1, maxLength: 4 }),
      fc.array(cut, { minLength: 1, maxLength: 25 }),
      async (plans, places) => {
        const pair = new BreakingPair(places);
        let failure: unknown;
        const texts = plans.map((_, index) => `message ${index}`);
        const flows = plans.map(async ({ fromHost, pieces }, index) => {
          const atHost = pair.host.open({ send: fromHost, receive: !fromHost });
          const atAgent = pair.agent.accept(atHost.id, { send: !fromHost, receive: fromHost });
          pair.host.sendMessage(Buffer.from(texts[index] ?? ''));
          const writing = write(fromHost ? atHost : atAgent, pieces);
          const received = await read(fromHost ? atAgent : atHost);
          await writing;
          expect(received).toBe(pieces.reduce((sum, one) => sum + one, 0));
        });
        let done = false;
        const all = Promise.all(flows).then(
          () => {
            done = true;
          },
          (error: unknown) => {
            failure = error;
          },
        );
        while ((!done || pair.messages.length < texts.length) && !failure) {
          pair.deliver();
          await turn();
        }
        await all;
        if (failure) throw failure;
        expect(pair.messages).toEqual(texts);
        cuts += pair.cuts;
        pair.host.close();
        pair.agent.close();
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 60) },
  );
  expect(cuts).toBeGreaterThan(0);
  expect(reused).toBeGreaterThan(0);
});

test('a side that acknowledges nothing stops the other, which then keeps no more than the limit', async () => {
  const host = new Mux({ side: 'host', send: () => {}, onMessage: () => {} });
  let sent = 0;
  const writing = Array.from({ length: 64 }, async () => {
    const stream = host.open({ send: true, receive: false });
    for (let count = 0; count < 2; count++) {
      await stream.write(new Uint8Array(limits.data));
      sent += limits.data;
    }
  });
  await turn();
  expect(sent).toBeLessThanOrEqual(limits.unacknowledged + 64 * limits.data);
  expect(sent).toBeLessThan(64 * 2 * limits.data);
  // It goes on when there is room.
  for (let count = 0; count < 200 && sent < 64 * 2 * limits.data; count++) {
    host.receive(ack(1));
    await turn();
  }
  await Promise.all(writing);
  host.close();
});

test('a side that acknowledges nothing is granted nothing more, and is held to that', async () => {
  const host = new Mux({ side: 'host', send: () => {}, onMessage: () => {} });
  for (let bytes = 0; bytes < limits.unacknowledged; bytes += limits.message) {
    host.sendMessage(new Uint8Array(limits.message));
  }
  const reading = host.open({ send: false, receive: true });
  const window = encodeFrame({ kind: 'data', stream: reading.id, payload: new Uint8Array(limits.data) });
  for (let left = limits.window; left > 0; left -= limits.data) {
    host.receive(Buffer.concat(window));
    await reading.read();
  }
  expect(() => host.receive(Buffer.concat(window))).toThrow(WireProtocolError);
  host.close();
});

test('one who does not read is sent no acks, and one for all when it reads again', async () => {
  let isBehind = true;
  const sent: Uint8Array[] = [];
  const host = new Mux({
    side: 'host',
    send: (pieces) => sent.push(...pieces),
    isBehind: () => isBehind,
    onMessage: () => {},
  });
  const message = Buffer.concat(encodeFrame({ kind: 'message', payload: Buffer.from('{}') }));
  host.receive(Buffer.concat(Array(10_000).fill(message)));
  await turn();
  expect(sent).toEqual([]);
  isBehind = false;
  host.receive(message);
  await turn();
  expect(Buffer.concat(sent)).toEqual(ack(10_001));
  host.close();
});

test.for<[what: string, frames: number[]]>([
  ['more than was sent', [3]],
  ['the same twice', [2, 1]],
  ['far too much', [0xffff_ffff]],
])('an ack of %s is refused', async ([, acks]) => {
  const host = new Mux({ side: 'host', send: () => {}, onMessage: () => {} });
  host.sendMessage(Buffer.from('one'));
  host.sendMessage(Buffer.from('two'));
  expect(() => {
    for (const frames of acks) host.receive(ack(frames));
  }).toThrow(WireProtocolError);
});

test.for([-1, 0, 3, Number.MAX_SAFE_INTEGER])(
  'to have received %i frames of one that is not acknowledged is refused',
  (received) => {
    const host = new Mux({ side: 'host', send: () => {}, onMessage: () => {} });
    host.sendMessage(Buffer.from('one'));
    host.sendMessage(Buffer.from('two'));
    host.receive(ack(1));
    host.detach();
    expect(() => host.resume(received)).toThrow(WireProtocolError);
  },
);

test('one stream more than there can be is an error of that call alone', () => {
  const host = new Mux({ side: 'host', send: () => {}, onMessage: () => {} });
  const one = { send: true, receive: false };
  const streams = Array.from({ length: limits.streams - 1 }, () => host.open(one));
  expect(() => host.openAll(one, one)).toThrow(TooManyStreamsError);
  streams.push(host.open(one));
  expect(() => host.open(one)).toThrow(TooManyStreamsError);
  streams[0]?.end();
  expect(host.open(one).id).toBe(2 * limits.streams + 1);
});

test('many small frames that are sent again fill no message beyond its limit', async () => {
  const sizes: number[] = [];
  const mux = new Mux({
    side: 'host',
    send: (pieces) => sizes.push(pieces.reduce((sum, piece) => sum + piece.length, 0)),
    onMessage: () => {},
  });
  for (let count = 0; count < 1_000; count++) mux.sendMessage(Buffer.alloc(2_000));
  await turn();
  mux.detach();
  sizes.length = 0;
  mux.resume(0);
  await turn();
  expect(sizes.length).toBeGreaterThan(1);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(limits.webSocketFrame);
  expect(Math.min(...sizes)).toBeGreaterThan(0);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(2_000_000);
  mux.close();
});
