import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { connectAgent } from '../../src/engine/transport/unix.ts';
import { WireAuthenticationError, WireProtocolError, WireVersionError } from '../../src/protocol/errors.ts';
import { encodeFrame, FrameDecoder } from '../../src/protocol/frame.ts';
import { limits } from '../../src/protocol/limits.ts';
import { FileSystem } from '../../src/sandbox/fs/file-system.ts';
import { Wire } from '../../src/sandbox/wire.ts';
import { frameHeader } from './lying-wire.ts';

const { privateKey } = generateKeyPairSync('ed25519');

/** A server that plays the sandbox-agent as `lie` wants, and a wire to it. */
async function connect(lie: (socket: WebSocket) => void): Promise<Wire> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-test-hostile-'));
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    socket.on('error', () => {}); // the host ends it as it likes
    lie(socket);
  });
  onTestFinished(async () => {
    for (const socket of sockets.clients) socket.terminate();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  server.listen(join(directory, 'agent.sock'));
  await once(server, 'listening');
  return Wire.open(await connectAgent(join(directory, 'agent.sock')), {
    sandboxId: 'sb',
    privateKey,
    explainEnd: async (cause) => cause ?? new Error('closed'),
  });
}

function message(value: object): Buffer {
  return Buffer.concat(encodeFrame({ kind: 'message', payload: Buffer.from(JSON.stringify(value)) }));
}

const hello = { type: 'hello', protocol: 2, agentVersion: '0.0.1', nonce: 'ab'.repeat(32) };
const welcome = {
  type: 'welcome',
  connection: 'cd'.repeat(16),
  boot: 'b',
  user: 'u',
  uid: 1,
  gid: 1,
  home: '/',
  cwd: '/',
};

/** Goes through the handshake, and sends `bytes` when the first request comes. */
function afterHandshake(send: (socket: WebSocket) => void): (socket: WebSocket) => void {
  return (socket) => {
    socket.send(message(hello));
    socket.once('message', () => {
      socket.send(message(welcome));
      socket.once('message', () => send(socket));
    });
  };
}

test('a sandbox-agent of another version is named with both versions', async () => {
  const error: WireVersionError = await connect((socket) => {
    socket.send(message({ ...hello, protocol: 7, more: true }));
  }).then(
    () => expect.unreachable(),
    (cause) => cause,
  );
  expect(error).toBeInstanceOf(WireVersionError);
  expect(error.meta).toEqual({ host: 2, agent: 7, agentVersion: '0.0.1' });
});

test('a sandbox of another state directory is told from a broken one', async () => {
  const refusing = connect((socket) => {
    socket.send(message(hello));
    socket.once('message', () => socket.send(message({ type: 'refused' })));
  });
  await expect(refusing).rejects.toBeInstanceOf(WireAuthenticationError);
});

test.for<[string, (socket: WebSocket) => void]>([
  ['random bytes', (socket) => socket.send(Buffer.alloc(1_000, 0x5a))],
  ['text', (socket) => socket.send('hello')],
  ['a message before its time', (socket) => socket.send(message(welcome))],
  ['a large hello', (socket) => socket.send(message({ ...hello, more: 'x'.repeat(10_000) }))],
  ['two messages at once', (socket) => socket.send(Buffer.concat([message(hello), message(hello), message(hello)]))],
])('a handshake of %s ends it', async ([, lie]) => {
  await expect(connect(lie)).rejects.toBeInstanceOf(WireProtocolError);
});

test.for<[string, Buffer]>([
  ['an unknown kind', frameHeader(9, 1, 0)],
  ['a message that would be too large', frameHeader(1, 0, 0xffff_ffff)],
  ['data on a stream that nobody opened', Buffer.concat([frameHeader(2, 99, 1), Buffer.of(1)])],
  ['a grant for nothing', Buffer.concat([frameHeader(4, 99, 4), Buffer.of(0, 0, 1, 0)])],
  ['an answer to nothing', message({ type: 'ok', requestId: 12_345 })],
  ['an answer of another type', message({ type: 'fs.target', requestId: 1, target: '/' })],
  ['two answers', Buffer.concat([message({ type: 'ok', requestId: 1 }), message({ type: 'ok', requestId: 1 })])],
  ['an answer with more in it', message({ type: 'ok', requestId: 1, more: 1 })],
  ['an ack of what was not sent', Buffer.concat(encodeFrame({ kind: 'ack', frames: 3 }))],
  ['an ack of nothing', Buffer.concat([frameHeader(6, 0, 4), Buffer.alloc(4)])],
  ['JSON that is none', Buffer.concat(encodeFrame({ kind: 'message', payload: Buffer.from('{') }))],
])('%s ends the connection, and every call on it with that error', async ([, bytes]) => {
  const wire = await connect(afterHandshake((socket) => socket.send(bytes)));
  const first = wire.call({ type: 'ping' }, 'ok').catch((error: unknown) => error);
  const second = wire.call({ type: 'shutdown' }, 'ok');
  await expect(second).rejects.toBeInstanceOf(WireProtocolError);
  await first;
  await expect(wire.call({ type: 'ping' }, 'ok')).rejects.toBeInstanceOf(WireProtocolError);
  expect(wire.isOpen).toBe(false);
});

test('data beyond what was granted ends the connection before it fills the memory', async () => {
  const wire = await connect(
    afterHandshake((socket) => {
      const chunk = Buffer.alloc(64 * 1024);
      const data = Buffer.concat([frameHeader(2, 1, chunk.length), chunk]);
      for (let count = 0; count < 200; count++) socket.send(data);
    }),
  );
  const before = process.memoryUsage().arrayBuffers;
  const stream = wire.openStream({ send: false, receive: true });
  const call = wire.call({ type: 'fs.read', path: '/', start: 0, stream: stream.id }, 'ok');
  await expect(call).rejects.toBeInstanceOf(WireProtocolError);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
});

test('more matches than were asked for end the connection', async () => {
  const lines = '{"path":"x"}\n'.repeat(11);
  const wire = await connect(
    afterHandshake((socket) => socket.send(Buffer.concat([frameHeader(2, 1, lines.length), Buffer.from(lines)]))),
  );
  const fs = new FileSystem(async () => wire, '/');
  await expect(fs.glob('*', { limit: 10 })).rejects.toBeInstanceOf(WireProtocolError);
  expect(wire.isOpen).toBe(false);
});

test('calls beyond what a connection carries wait for their turn, and one that is given up before is never sent', async () => {
  const asked: { type: string; requestId: number }[] = [];
  let answer = (_requestId: number): void => {};
  const decoder = new FrameDecoder();
  const wire = await connect((socket) => {
    socket.send(message(hello));
    socket.once('message', () => {
      socket.send(message(welcome));
      socket.on('message', (bytes: Buffer) => {
        for (const frame of decoder.push(bytes)) {
          if (frame.kind === 'message') asked.push(JSON.parse(Buffer.from(frame.payload).toString()));
        }
      });
    });
    answer = (requestId) => socket.send(message({ type: 'fs.target', requestId, target: '/' }));
  });
  const realpath = (path: string, signal?: AbortSignal) =>
    wire.call({ type: 'fs.realpath', path }, 'fs.target', signal).catch((error: unknown) => error);
  const first = realpath('/first');
  for (let count = 1; count < limits.requests; count++) void realpath('/other');
  const giveUp = new AbortController();
  const given = realpath('/given-up', giveUp.signal);
  const last = realpath('/last');
  giveUp.abort();
  expect(await given).toMatchObject({ code: 'cancelled' });
  // What has no such limit is not kept back by it.
  void wire.call({ type: 'ping' }, 'ok').catch(() => {});
  await vi.waitFor(() => expect(asked.at(-1)).toMatchObject({ type: 'ping' }));
  expect(asked.length).toBe(limits.requests + 1);
  answer(1);
  expect(await first).toMatchObject({ target: '/' });
  await vi.waitFor(() => expect(asked.at(-1)).toMatchObject({ path: '/last' }));
  answer(asked.at(-1)?.requestId ?? 0);
  expect(await last).toMatchObject({ target: '/' });
});
