import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pass } from 'node:timers/promises';
import { pack } from 'tar-stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { type Frame, FrameDecoder } from '../../src/protocol/frame.ts';
import { protocolVersion } from '../../src/protocol/handshake.ts';
import {
  type AgentMessage,
  type Answer,
  encodeMessage,
  parseAuthenticate,
  parseRequest,
  type Request,
} from '../../src/protocol/messages.ts';
import type { ProcessStarted } from '../../src/protocol/process.ts';
import { encodeRecord } from '../../src/protocol/records.ts';
import { type Lie, lyingWire, type Rejoining } from './lying-wire.ts';

/** A sandbox-agent that keeps to the protocol where `lie` lets it: it answers each request with something that fits. */
export class LyingAgent implements AsyncDisposable {
  readonly #server = createServer();
  readonly #connections = new Set<Socket>();
  readonly #path: string;
  #lie: Lie = (honest, _, wire) => wire.say(honest);
  #said = 0;
  /** What is being said, or is still to be said. */
  #busy = 0;
  #lastActive = 0;
  /** Of the connection, over all its transports: what was to be said, and how many frames have come. */
  #sent: Frame[] = [];
  #received = 0;
  #atEndOfInput = new Map<number, Frame[]>();
  #rejoining: Rejoining = { answer: 'resumed', shift: 0, times: 0 };
  /** How often a host has joined, and asked. */
  joined = 0;
  asked = 0;

  private constructor(path: string) {
    this.#path = path;
    const sockets = new WebSocketServer({ server: this.#server, perMessageDeflate: false });
    sockets.on('connection', (socket, request) => this.#converse(socket, request.socket));
    this.#server.on('connection', (connection: Socket) => {
      this.#connections.add(connection);
      connection.on('error', () => {}).on('close', () => this.#connections.delete(connection));
    });
  }

  /** Listens at a path, in place of whoever did. */
  static async listen(path: string): Promise<LyingAgent> {
    await rm(path, { force: true });
    const agent = new LyingAgent(path);
    agent.#server.listen(path);
    await once(agent.#server, 'listening');
    return agent;
  }

  /** For the hosts that come from now on. */
  startAnew(lie: Lie): void {
    for (const connection of this.#connections) connection.destroy();
    this.#lie = lie;
    this.#said = 0;
    this.#rejoining = { answer: 'resumed', shift: 0, times: 0 };
    this.joined = 0;
    this.asked = 0;
    this.#lastActive = performance.now();
  }

  /** Resolves when neither it nor the host has said anything for so long. */
  async quiet(ms: number): Promise<void> {
    while (this.#busy > 0 || performance.now() - this.#lastActive < ms) await pass(5);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    this.#server.close();
    await rm(this.#path, { force: true });
  }

  #converse(socket: WebSocket, connection: Socket): void {
    const decoder = new FrameDecoder();
    const { wire, hear } = lyingWire(socket, connection, (rejoining) => {
      this.#rejoining = rejoining;
    });
    let before = Promise.resolve();
    const say = (frames: Frame[]) => {
      for (const frame of frames) {
        this.#busy += 1;
        before = before.then(async () => {
          if (!connection.destroyed) await this.#lie(frame, this.#said++, wire);
          this.#busy -= 1;
          this.#lastActive = performance.now();
        });
      }
    };
    /** What a connection counts, and says again over its next transport. */
    const tell = (frames: Frame[]) => {
      this.#sent.push(...frames);
      say(frames);
    };
    const begin = () => {
      this.#sent = [];
      this.#received = 0;
      this.#atEndOfInput.clear();
      say([message(welcome)]);
    };
    const rejoin = (received: number) => {
      const { answer, shift, times } = this.#rejoining;
      if (answer === 'welcome') return begin();
      if (answer === 'refused') return say([message({ type: 'refused' })]);
      if (answer === 'unknown_connection') return say([message({ type: 'unknown_connection', boot: welcome.boot })]);
      say([message({ type: 'resumed', received: this.#received + shift })]);
      if (times === 0) return say(this.#sent.slice(received));
      this.#rejoining = { answer, shift, times: times - 1 };
      before = before.then(() => void setTimeout(() => connection.destroy(), 1)); // behind what is said
    };
    let authenticated = false;
    const take = (frame: Frame) => {
      if (authenticated && frame.kind !== 'ack') this.#received += 1;
      hear(frame);
      if (frame.kind === 'credit' || frame.kind === 'ack') return;
      if (frame.kind === 'data') {
        tell([{ kind: 'credit', stream: frame.stream, bytes: frame.payload.length }]);
      } else if (frame.kind !== 'message') {
        tell(this.#atEndOfInput.get(frame.stream) ?? []);
        this.#atEndOfInput.delete(frame.stream);
      } else if (!authenticated) {
        const { resume } = parseAuthenticate(frame.payload);
        authenticated = true;
        this.joined += 1;
        if (resume) rejoin(resume.received);
        else begin();
      } else {
        this.asked += 1;
        const request = parseRequest(frame.payload);
        const { now, atEnd } = answersTo(request);
        tell(now);
        if (atEnd) this.#atEndOfInput.set(atEnd.input, atEnd.frames);
      }
    };
    socket.on('error', () => {});
    socket.on('message', (data: Buffer) => {
      this.#lastActive = performance.now();
      for (const frame of decoder.push(data)) take(frame);
    });
    say([message(hello)]);
  }
}

const hello = { type: 'hello', protocol: protocolVersion, agentVersion: '0.0.1', nonce: 'ab'.repeat(32) } as const;
const welcome = {
  type: 'welcome',
  connection: 'cd'.repeat(16),
  boot: 'b',
  user: 'u',
  uid: 1,
  gid: 1,
  home: '/',
  cwd: '/',
} as const;
const stats = {
  kind: 'file',
  size: 3,
  mode: 0o644,
  uid: 1,
  gid: 1,
  accessedMs: 1,
  modifiedMs: 1.5,
  changedMs: 2,
} as const;
const output = { bytes: 7, gaps: [[1, 2]] };
const listed = {
  processId: 'p_1',
  sessionId: 'root',
  argv: ['a'],
  pid: 7,
  terminal: false,
  startedAt: 1,
  state: 'running',
  stdout: output,
  stderr: output,
  pids: [7],
};

const tar = pack();
tar.entry({ name: 'tree', type: 'directory' });
tar.entry({ name: 'tree/file' }, 'content');
tar.entry({ name: `tree/${'long'.repeat(40)}` }, 'content');
tar.entry({ name: 'tree/link', type: 'symlink', linkname: 'file' });
tar.finalize();
const archive = await buffer(tar);

function message(value: AgentMessage): Frame {
  return { kind: 'message', payload: encodeMessage(value) };
}

interface Answers {
  now: Frame[];
  /** What follows when the host has ended this stream. */
  atEnd?: { input: number; frames: Frame[] };
}

function answersTo(request: Request): Answers {
  const { requestId } = request;
  const ok = message({ type: 'ok', requestId });
  const stream = (id: number, ...pieces: Uint8Array[]): Frame[] => [
    ...pieces.map((payload): Frame => ({ kind: 'data', stream: id, payload })),
    { kind: 'end', stream: id },
  ];
  const run = (
    input: number | undefined,
    outputs: (number | undefined)[],
    more: Pick<ProcessStarted, 'view'> = {},
  ): Answers => {
    const ids = outputs.filter((id) => id !== undefined);
    const end = {
      exitCode: 0,
      signal: null,
      timedOut: false,
      oomKilled: false,
      stdoutBytes: 7,
      stderrBytes: 7,
      durationMs: 1,
    };
    const now = [message({ type: 'process.started', requestId, processId: 'p_1', pid: 7, ...more })];
    const frames = [
      ...ids.flatMap((id) => stream(id, Buffer.from('one '), Buffer.from('two'))),
      message({ type: 'process.exited', requestId, end }),
    ];
    return input === undefined ? { now: [...now, ...frames] } : { now, atEnd: { input, frames } };
  };
  const view = { size: { columns: 80, rows: 24 }, screenBytes: 3, from: 12 };
  const found: Answer = { type: 'fs.found', requestId, total: 2, truncated: false };
  switch (request.type) {
    case 'process.start':
      return run(request.stdin, [request.stdout, request.stderr]);
    case 'process.attach':
      return run(undefined, [request.stdout?.stream, request.stderr?.stream]);
    case 'pty.open':
      return run(request.input, [request.output], { view });
    case 'pty.attach':
      return run(request.input, [request.output.stream], { view });
    case 'memory.watch':
      return { now: [message({ type: 'memory.kills', requestId, kills: 1 })] };
    case 'network.ports':
      return { now: [message({ type: 'network.listening', requestId, ports: [{ port: 80, address: '::1' }] })] };
    case 'process.list':
      return { now: [...stream(request.stream, encodeRecord(listed), encodeRecord(listed)), ok] };
    case 'fs.stat':
      return {
        now: [
          message({
            type: 'fs.stat',
            requestId,
            stats: request.path.endsWith('tree') ? { ...stats, kind: 'directory' } : stats,
          }),
        ],
      };
    case 'fs.watch': {
      const changes = [
        { type: 'create', path: 'a/b', directory: false },
        { type: 'rename', from: 'a/b', path: 'c', directory: true },
        { type: 'overflow' },
      ];
      const watching = message({ type: 'fs.watching', requestId });
      return { now: [watching, ...stream(request.stream, ...changes.map(encodeRecord)), ok] };
    }
    case 'fs.readlink':
    case 'fs.realpath':
      return { now: [message({ type: 'fs.target', requestId, target: '/a/b' })] };
    case 'fs.read':
      return { now: [...stream(request.stream, Buffer.alloc(5_000, 'x'), Buffer.from('y')), ok] };
    case 'fs.write':
    case 'fs.unpack':
      return { now: [], atEnd: { input: request.stream, frames: [ok] } };
    case 'fs.readdir': {
      const entry = (name: string) => encodeRecord({ name, ...(request.withStats && { stats }) });
      return { now: [...stream(request.stream, entry('a'), entry('b')), ok] };
    }
    case 'fs.glob': {
      const paths = ['a', 'b/c'].map((path) => encodeRecord({ path }));
      return { now: [...stream(request.stream, ...paths), message(found)] };
    }
    case 'fs.grep': {
      const match = encodeRecord({ path: 'a', line: 3, text: 'some text' });
      return { now: [...stream(request.stream, match, match), message(found)] };
    }
    case 'fs.pack':
      return { now: [...stream(request.stream, archive), ok] };
    case 'fs.changes':
      return { now: [...stream(request.stream, encodeRecord({ kind: 'end' })), ok] };
    case 'fs.land': {
      const landed = message({ type: 'fs.landed', requestId, conflicts: 0, paths: [] });
      return { now: [], atEnd: { input: request.stream, frames: [landed] } };
    }
    default:
      return { now: [ok] };
  }
}
