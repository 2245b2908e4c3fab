import { sign } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pass } from 'node:timers/promises';
import { pack } from 'tar-stream';
import { WebSocket } from 'ws';
import { type Frame, FrameDecoder } from '../../src/protocol/frame.ts';
import { protocolVersion, signedText } from '../../src/protocol/handshake.ts';
import { frameHeaderBytes } from '../../src/protocol/limits.ts';
import { encodeMessage, parseHello, type Request } from '../../src/protocol/messages.ts';
import type { StateDir } from '../../src/sandbox/state-dir.ts';
import { type Lie, lyingWire } from './lying-wire.ts';

type WithoutId<Message> = Message extends unknown ? Omit<Message, 'requestId'> : never;

interface Asked {
  request: WithoutId<Request>;
  /** What follows on the stream that the request opens to be read. */
  input?: Uint8Array;
}

const tar = pack();
tar.entry({ name: 'file' }, 'content');
tar.entry({ name: 'link', type: 'symlink', linkname: 'file' });
tar.finalize();
const archive = await buffer(tar);

const common = { sessionId: 'root', env: [], detached: false, backpressure: false };
const place = '/workspace/fuzz';
/** Nothing that would take the sandbox away from the others, also when it is bent. */
const requests: ((stream: number) => Asked)[] = [
  () => ({ request: { type: 'ping' } }),
  () => ({ request: { type: 'cancel', target: 1 } }),
  () => ({ request: { type: 'session.open', sessionId: 's', env: [['A', 'b']], cwd: '/' } }),
  () => ({ request: { type: 'session.close', sessionId: 's' } }),
  (stdout) => ({ request: { type: 'process.start', ...common, argv: ['echo', 'on'], stdout, stderr: stdout + 2 } }),
  (stdin) => ({
    request: { type: 'process.start', ...common, key: 'k', argv: ['cat'], timeoutMs: 1_000, stdin, stdout: stdin + 2 },
    input: Buffer.alloc(100_000, 'x'),
  }),
  (stream) => ({
    request: {
      type: 'process.attach',
      processId: 'p_1',
      stdout: { stream, from: 0 },
      backpressure: true,
      rest: false,
    },
  }),
  () => ({ request: { type: 'process.kill', processId: 'p_1', signal: 'SIGTERM', graceMs: 1 } }),
  (stream) => ({ request: { type: 'process.list', stream } }),
  () => ({ request: { type: 'memory.watch', after: 0, waitMs: 1 } }),
  () => ({ request: { type: 'network.ports', known: [80], waitMs: 1 } }),
  (input) => ({
    request: {
      type: 'pty.open',
      sessionId: 'root',
      argv: ['cat'],
      env: [],
      timeoutMs: 1_000,
      size: { columns: 80, rows: 24 },
      input,
      output: input + 2,
    },
    input: Buffer.from('typed\r\x04'),
  }),
  () => ({ request: { type: 'pty.resize', processId: 'p_1', size: { columns: 1, rows: 1 } } }),
  () => ({ request: { type: 'fs.stat', path: place, follow: true } }),
  (stream) => ({ request: { type: 'fs.read', path: '/etc/passwd', start: 0, end: 100, stream } }),
  (stream) => ({
    request: { type: 'fs.write', path: `${place}/file`, how: 'replace', mode: 0o600, stream },
    input: Buffer.alloc(100_000, 'x'),
  }),
  (stream) => ({ request: { type: 'fs.readdir', path: '/etc', withStats: true, stream } }),
  () => ({ request: { type: 'fs.mkdir', path: `${place}/a/b`, recursive: true } }),
  () => ({ request: { type: 'fs.rename', from: `${place}/file`, to: `${place}/other` } }),
  () => ({ request: { type: 'fs.symlink', target: '..', path: `${place}/link` } }),
  () => ({ request: { type: 'fs.readlink', path: `${place}/link` } }),
  () => ({ request: { type: 'fs.realpath', path: place } }),
  () => ({ request: { type: 'fs.chmod', path: `${place}/file`, mode: 0o644 } }),
  () => ({ request: { type: 'fs.truncate', path: `${place}/file`, size: 3 } }),
  (stream) => ({ request: { type: 'fs.glob', path: '/etc', pattern: '*.conf', limit: 10, stream } }),
  (stream) => ({ request: { type: 'fs.grep', path: '/etc', pattern: 'root', literal: true, limit: 10, stream } }),
  (stream) => ({ request: { type: 'fs.watch', path: '/etc', recursive: true, stream } }),
  (stream) => ({ request: { type: 'fs.unpack', path: place, stream }, input: archive }),
  (stream) => ({ request: { type: 'fs.pack', path: '/etc/ssl', stream } }),
  () => ({ request: { type: 'fs.checkpoint', id: 'c', path: '/etc/ssl', copy: true } }),
  (stream) => ({ request: { type: 'fs.changes', id: 'c', stream } }),
  (stream) => ({ request: { type: 'fs.land', id: 'c', stream }, input: Buffer.from('{"kind":"end"}\n') }),
  () => ({ request: { type: 'fs.rollback', id: 'c' } }),
  () => ({ request: { type: 'fs.dropCheckpoint', id: 'c' } }),
];
export const requestKinds = requests.length;

/** A host that has the key of a sandbox, and keeps to the protocol where `lie` lets it. */
export class LyingHost {
  readonly #path: string;
  readonly #sandboxId: string;
  readonly #state: StateDir;

  constructor(path: string, sandboxId: string, state: StateDir) {
    this.#path = path;
    this.#sandboxId = sandboxId;
    this.#state = state;
  }

  /** Connects and asks all of these; `quietMs` after the last of it, or when the other side closes, it is over. */
  async converse(kinds: readonly number[], lie: Lie, quietMs: number): Promise<void> {
    const { connection, wire, closed } = await this.connect((frame, at, wire) => lie(frame, at, wire));
    const frames = kinds.flatMap((kind, index) => framesOf(kind, index));
    let said = 1; // the handshake's was the first
    for (const frame of frames) if (!connection.destroyed) await lie(frame, said++, wire);
    await Promise.race([closed, pass(quietMs)]);
    connection.destroy();
  }

  /**
   * Sends its part of the handshake, of which `lie` may say something else; `answer` is that of the sandbox-agent.
   * @param resume - a connection that broke
   */
  async connect(lie: Lie = (frame, _, wire) => wire.say(frame), resume?: string) {
    const connection = createConnection(this.#path);
    await once(connection, 'connect');
    const socket = new WebSocket('ws://berth/wire', { createConnection: () => connection, perMessageDeflate: false });
    const closed = new Promise<void>((resolve) => connection.once('close', resolve));
    socket.on('error', () => {});
    const decoder = new FrameDecoder();
    const { wire, hear } = lyingWire(socket, connection, () => {});
    const [data]: Buffer[] = await once(socket, 'message');
    for (const frame of decoder.push(data ?? Buffer.alloc(0))) {
      if (frame.kind !== 'message') continue;
      const { nonce } = parseHello(frame.payload);
      const text = Buffer.from(signedText(this.#sandboxId, nonce));
      const signature = sign(null, text, this.#state.privateKey).toString('hex');
      const proof = { type: 'authenticate', protocol: protocolVersion, signature } as const;
      const full = resume === undefined ? proof : { ...proof, resume: { connection: resume, received: 0 } };
      await lie(message(full), 0, wire);
    }
    const answer = once(socket, 'message').then(([bytes]: Buffer[]): { type: string; connection?: string } =>
      JSON.parse(String(bytes?.subarray(frameHeaderBytes))),
    );
    answer.catch(() => {}); // it may close the connection instead
    let unacknowledged = 0;
    socket.on('message', (bytes: Buffer) => {
      for (const frame of decoder.push(bytes)) {
        hear(frame);
        if (frame.kind !== 'ack' && ++unacknowledged > 100) {
          wire.say({ kind: 'ack', frames: unacknowledged });
          unacknowledged = 0;
        }
      }
    });
    return { connection, wire, closed, answer };
  }
}

function framesOf(kind: number, index: number): Frame[] {
  const stream = 4 * index + 1;
  const { request, input } = requests[kind % requestKinds]?.(stream) ?? {};
  if (!request) return [];
  const asked = message({ ...request, requestId: index + 1 } as Request); // what it was without its number
  if (!input) return [asked];
  return [asked, { kind: 'data', stream, payload: input }, { kind: 'end', stream }];
}

function message(value: Parameters<typeof encodeMessage>[0]): Frame {
  return { kind: 'message', payload: encodeMessage(value) };
}
