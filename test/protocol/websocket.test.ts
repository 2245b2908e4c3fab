import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket as ForeignSocket, WebSocketServer } from 'ws';
import { WireProtocolError } from '../../src/protocol/errors.ts';
import { limits } from '../../src/protocol/limits.ts';
import { WebSocket } from '../../src/protocol/websocket.ts';

const sha1 = (bytes: Buffer) => createHash('sha1').update(bytes).digest();

/** One end, and all that came to it. */
class End {
  readonly messages: Buffer[] = [];
  readonly socket: WebSocket;
  pongs = 0;
  closed: { code?: number; error?: Error } | undefined;
  readonly open: Promise<void>;
  #pieces: Buffer[] = [];
  #wake = () => {};

  constructor(stream: Duplex, side: 'client' | 'server') {
    let onOpen = () => {};
    this.open = new Promise((resolve) => {
      onOpen = resolve;
    });
    this.socket = new WebSocket(stream, side, {
      sha1,
      onOpen: () => onOpen(),
      onBytes: (piece, isLast) => {
        this.#pieces.push(Buffer.from(piece));
        if (isLast) this.messages.push(Buffer.concat(this.#pieces.splice(0)));
        this.#wake();
      },
      onPong: () => {
        this.pongs += 1;
        this.#wake();
      },
      onClose: (end) => {
        this.closed = end;
        this.#wake();
      },
    });
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

const sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000, limits.webSocketFrame];
const contentOf = (bytes: number) =>
  Buffer.from(Uint8Array.from({ length: bytes }, (_, at) => (at * 7 + bytes) & 0xff));

describe('with another implementation at the other end', () => {
  test('the client brings and gets messages of every size, in frames as they come', async () => {
    const server = createServer();
    const sockets = new WebSocketServer({ server, path: '/wire' });
    sockets.on('connection', (socket) => {
      socket.on('message', (data: Buffer) => {
        const middle = data.length >> 1;
        socket.send(data.subarray(0, middle), { fin: false });
        socket.ping('between');
        socket.send(data.subarray(middle));
      });
      socket.on('close', (code) => closes.push(code));
    });
    const closes: number[] = [];
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.close();
    });
    const end = new End(connectTcp((server.address() as AddressInfo).port, '127.0.0.1'), 'client');
    await end.open;
    for (const size of sizes) end.socket.send([contentOf(size).subarray(0, 10), contentOf(size).subarray(10)]);
    end.socket.ping();
    await end.until(() => end.messages.length === sizes.length && end.pongs === 1);
    for (const [index, size] of sizes.entries()) expect(end.messages[index]?.equals(contentOf(size))).toBe(true);
    end.socket.close(1000);
    await expect.poll(() => closes).toEqual([1000]);
    expect(end.closed).toBeUndefined();
  });

  test('the server does, from one that masks', async () => {
    const ends: End[] = [];
    const server = createTcpServer((stream) => ends.push(new End(stream, 'server')));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.close();
    });
    const foreign = new ForeignSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/wire`);
    const echoed: Buffer[] = [];
    foreign.on('message', (data: Buffer) => echoed.push(data));
    await once(foreign, 'open');
    const [end] = ends;
    if (!end) expect.unreachable();
    for (const size of sizes) foreign.send(contentOf(size));
    foreign.ping();
    await Promise.all([end.until(() => end.messages.length === sizes.length), once(foreign, 'pong')]);
    for (const message of end.messages) end.socket.send([message]);
    await expect.poll(() => echoed.length).toBe(sizes.length);
    for (const [index, size] of sizes.entries()) expect(echoed[index]?.equals(contentOf(size))).toBe(true);
    foreign.close(4_001);
    await end.until(() => end.closed !== undefined);
    expect(end.closed).toEqual({ code: 4_001 });
    await once(foreign, 'close');
  });
});

/** Both of ours, on a transport that cuts what passes as it likes. */
test('messages arrive whole, in order, whatever the transport cuts', async () => {
  const message = fc.uint8Array({ maxLength: 300 });
  const cuts = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(message, { maxLength: 8 }),
      fc.array(message, { maxLength: 8 }),
      cuts,
      async (one, other, cuts) => {
        const [clientEnd, clientFar] = duplexPair();
        const [serverEnd, serverFar] = duplexPair();
        relay(clientFar, serverFar, cuts);
        relay(serverFar, clientFar, cuts);
        const server = new End(serverEnd, 'server');
        const client = new End(clientEnd, 'client');
        await Promise.all([server.open, client.open]);
        for (const bytes of one) client.socket.send([bytes]);
        for (const bytes of other) server.socket.send([bytes]);
        await Promise.all([
          server.until(() => server.messages.length === one.length),
          client.until(() => client.messages.length === other.length),
        ]);
        expect(server.messages).toEqual(one.map((bytes) => Buffer.from(bytes)));
        expect(client.messages).toEqual(other.map((bytes) => Buffer.from(bytes)));
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 40) },
  );
});

function relay(from: Duplex, to: Duplex, cuts: number[]): void {
  let next = 0;
  from.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; ) {
      const length = cuts[next++ % cuts.length] ?? 1;
      to.write(chunk.subarray(at, at + length));
      at += length;
    }
  });
}

const frame = (first: number, second: number, ...rest: number[]) => Buffer.from([first, second, ...rest]);
const mask = [0, 0, 0, 0];

describe('what is refused', () => {
  test.for<[what: string, side: 'client' | 'server', bytes: Buffer]>([
    ['an extension', 'client', frame(0xc2, 0)],
    ['a text message', 'client', frame(0x81, 0)],
    ['a frame of an unknown kind', 'client', frame(0x83, 0)],
    ['a control frame of an unknown kind', 'client', frame(0x8b, 0)],
    ['a masked frame from a server', 'client', frame(0x82, 0x80, ...mask)],
    ['a frame without a mask from a client', 'server', frame(0x82, 0)],
    ['the rest of no message', 'client', frame(0x80, 0)],
    ['a message inside of another one', 'client', frame(0x02, 0, 0x82, 0)],
    ['a large ping', 'client', frame(0x89, 126, 0, 126)],
    ['a ping in pieces', 'client', frame(0x09, 0)],
    ['a frame of too many bytes', 'client', frame(0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0x0a)],
    ['a frame of more bytes than a number has', 'client', frame(0x82, 127, ...Array(8).fill(0xff))],
  ])('%s', async ([, side, bytes]) => {
    const [near, far] = duplexPair();
    const [other, end] =
      side === 'client'
        ? [new End(far, 'server'), new End(near, 'client')]
        : [new End(far, 'client'), new End(near, 'server')];
    await Promise.all([other.open, end.open]);
    far.write(bytes);
    await end.until(() => end.closed !== undefined);
    expect(end.closed?.error).toBeInstanceOf(WireProtocolError);
    expect(end.messages).toEqual([]);
    expect(near.destroyed).toBe(true);
  });

  test.for<[what: string, bytes: string]>([
    ['another path', 'GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n'],
    ['no upgrade', 'GET /wire HTTP/1.1\r\nHost: berth\r\n\r\n'],
    ['no key', 'GET /wire HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'],
    ['what is no HTTP', '\0\0\0\r\n\r\n'],
    ['a head without end', `GET /wire HTTP/1.1\r\nx: ${'y'.repeat(5_000)}`],
    ['a head that is too large', `GET /wire HTTP/1.1\r\nx: ${'y'.repeat(5_000)}\r\n\r\n`],
  ])('a request of %s', async ([, bytes]) => {
    const [near, far] = duplexPair();
    const end = new End(near, 'server');
    far.resume();
    far.write(bytes);
    await end.until(() => end.closed !== undefined);
    expect(end.closed?.error).toBeInstanceOf(WireProtocolError);
  });

  test.for<[what: string, bytes: string]>([
    ['another status', 'HTTP/1.1 200 OK\r\n\r\n'],
    ['another key', 'HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: eA==\r\n\r\n'],
    ['no key', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
  ])('an answer with %s', async ([, bytes]) => {
    const [near, far] = duplexPair();
    const end = new End(near, 'client');
    far.resume();
    far.write(bytes);
    await end.until(() => end.closed !== undefined);
    expect(end.closed?.error).toBeInstanceOf(WireProtocolError);
  });
});

test('one who asks whether it is there and reads no answer does not fill the memory', async () => {
  const [near, far] = duplexPair();
  const server = new End(far, 'server');
  const end = new End(near, 'client');
  await Promise.all([server.open, end.open]);
  far.pause();
  for (let count = 0; count < 20_000; count++) far.write(frame(0x89, 125, ...Array(125).fill(0x61)));
  server.socket.send([Buffer.from('last')]);
  await end.until(() => end.messages.length === 1);
  expect(near.writableLength).toBeLessThan(128 * 1024);
});

test('the end of the transport is told once, and nothing is sent behind it', async () => {
  const [near, far] = duplexPair();
  const server = new End(far, 'server');
  const end = new End(near, 'client');
  await Promise.all([server.open, end.open]);
  far.end();
  await end.until(() => end.closed !== undefined);
  expect(end.closed).toEqual({});
  end.socket.send([Buffer.from('late')]);
  end.socket.ping();
  end.socket.close(1000);
});

test('what takes long leaves the event loop its turns, and comes whole and in order, whatever follows meanwhile', async () => {
  const [near, far] = duplexPair();
  const seen: number[] = [];
  let turns = 0;
  const count = setInterval(() => (turns += 1), 0);
  onTestFinished(() => clearInterval(count));
  const closed = new Promise<void>((resolve) => {
    new WebSocket(near, 'server', {
      sha1,
      onOpen: () => {},
      onBytes: (piece, isLast) => {
        if (isLast) seen.push(piece.length);
        for (const end = performance.now() + 5; performance.now() < end; ); // work
      },
      onPong: () => {},
      onClose: () => resolve(),
    });
  });
  const { socket: client, open } = new End(far, 'client');
  await open;
  const sizes = Array.from({ length: 20 }, (_, index) => index + 1);
  // In one piece, but for the last.
  for (const size of sizes.slice(0, -1)) client.send([Buffer.alloc(size)]);
  setTimeout(() => {
    client.send([Buffer.alloc(sizes.length)]);
    client.close(1000);
  }, 10);
  await closed;
  expect(seen).toEqual(sizes);
  expect(turns).toBeGreaterThan(sizes.length / 4);
});
