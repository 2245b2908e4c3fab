import type { Duplex } from 'node:stream';
import type { Assignment } from '../src/protocol/assign.ts';
import { WireProtocolError } from '../src/protocol/errors.ts';
import {
  type Authenticate,
  closedCode,
  protocolVersion,
  resumeMs,
  signedText,
  type Welcome,
} from '../src/protocol/handshake.ts';
import { limits } from '../src/protocol/limits.ts';
import {
  type AgentMessage,
  type Answer,
  encodeHandshake,
  encodeMessage,
  HandshakeReader,
  isLimited,
  parseAuthenticate,
  parseRequest,
  type Request,
} from '../src/protocol/messages.ts';
import { Mux, type WireStream } from '../src/protocol/mux.ts';
import type { ProcessAttach, ProcessStart, ProcessStarted } from '../src/protocol/process.ts';
import { WebSocket } from '../src/protocol/websocket.ts';
import { RequestError } from './errors.ts';
import type { Checkpoints } from './fs/checkpoint/checkpoints.ts';
import { copy } from './fs/copy.ts';
import { chmod, mkdir, readdir, readlink, realpath, rename, stat, symlink, truncate } from './fs/entries.ts';
import { glob } from './fs/glob.ts';
import { grep } from './fs/grep.ts';
import { pack } from './fs/pack.ts';
import { readFile } from './fs/read.ts';
import { rm } from './fs/remove.ts';
import { unpack } from './fs/unpack.ts';
import { watch } from './fs/watch.ts';
import { writeFile } from './fs/write.ts';
import type { Lifetime } from './lifetime.ts';
import { type Network, type Outlet, passIn, passOut } from './network/network.ts';
import { portsBeside } from './network/ports.ts';
import { isSignatureOf, sha1 } from './openssl.ts';
import { killsBeyond } from './process/memory.ts';
import type { Attachment } from './process/output.ts';
import type { SandboxProcess } from './process/process.ts';
import type { Processes } from './process/processes.ts';
import { randomHex } from './random.ts';
import type { Sessions } from './session/sessions.ts';

/** What every connection works on. */
export interface Sandbox {
  id: string;
  version: string;
  /** Of the host that made the sandbox: 32 bytes, in hex. */
  publicKey: string;
  welcome: Omit<Welcome, 'type' | 'connection'>;
  connections: Connections;
  sessions: Sessions;
  processes: Processes;
  network: Network;
  checkpoints: Checkpoints;
  lifetime: Lifetime;
  /** What the host asks for from now on, or waits for, is not answered: from the engine it hears why. */
  ending: boolean;
  /** Makes a sandbox of one that waits in a pool. */
  assign: (assignment: Assignment) => void;
  /** Ends all processes and the sandbox-agent. */
  shutdown: () => void;
}

const handshakeMs = 30_000;
/** Of the time that a broken connection is kept; in pieces, as in `Lifetime`: no time passes while the sandbox is paused. */
const tickMs = 5_000;

/** One host's connection, through all breaks of its transport. */
interface Connection {
  /** As `Mux.received`. */
  readonly received: number;
  /** Takes a new transport in place of the one that broke. */
  attach(socket: WebSocket): void;
  /** Bytes that came on this transport. */
  receive(socket: WebSocket, bytes: Uint8Array): void;
  /** This transport has ended; `code`: the host has closed it. */
  lose(socket: WebSocket, code: number | undefined): void;
  /** Sends again what the host, which has `received`, does not have. @throws {WireProtocolError} */
  resume(received: number): void;
  /** The transport broke, or the host has given it up. */
  detach(): void;
  end(): void;
}

/** The connections that are open, or may be resumed. */
export type Connections = Map<string, Connection>;

/** Those who have not proved yet who they are; where there are too many, the oldest makes room. */
const unproved = new Set<WebSocket>();
const mostUnproved = 64;

/** Those whose transport broke, the first of them first; where there are too many, that one is not kept any longer. */
const broken = new Set<Connection>();
const mostBroken = 64;

/** Lets a host in that proves who it is: to a new connection, or to one of its own that broke. */
export function serve(transport: Duplex, sandbox: Sandbox): void {
  const nonce = randomHex(32);
  const send = (message: AgentMessage) => socket.send([encodeHandshake(message)]);
  const forget = () => {
    clearTimeout(patience);
    unproved.delete(socket);
  };
  const patience = setTimeout(() => {
    forget();
    socket.terminate();
  }, handshakeMs);
  const handshake = new HandshakeReader();
  let isOver = false;
  let connection: Connection | undefined;
  const socket = new WebSocket(transport, 'server', {
    sha1,
    onOpen: () => send({ type: 'hello', protocol: protocolVersion, agentVersion: sandbox.version, nonce }),
    onBytes: (piece, isLast) => {
      if (connection) return connection.receive(socket, piece);
      const payload = isOver ? undefined : handshake.take(piece, isLast);
      if (!payload) return;
      isOver = true;
      forget();
      authenticate(parseAuthenticate(payload));
    },
    onPong: () => {},
    onClose: ({ code, error }) => {
      forget();
      if (error instanceof WireProtocolError) console.error(error);
      connection?.lose(socket, code);
    },
  });
  const [oldest] = unproved;
  if (unproved.size >= mostUnproved && oldest) {
    unproved.delete(oldest);
    oldest.terminate();
  }
  unproved.add(socket);

  function authenticate({ signature, resume }: Authenticate): void {
    const text = Buffer.from(signedText(sandbox.id, nonce));
    if (!isSignatureOf(text, Buffer.from(signature, 'hex'), Buffer.from(sandbox.publicKey, 'hex'))) {
      refuse({ type: 'refused' });
    } else if (!resume) {
      const id = randomHex(16);
      send({ type: 'welcome', connection: id, ...sandbox.welcome });
      connection = openConnection(id, sandbox);
      connection.attach(socket);
    } else {
      const found = sandbox.connections.get(resume.connection);
      if (!found) {
        refuse({ type: 'unknown_connection', boot: sandbox.welcome.boot });
        return;
      }
      // That its old transport broke need not have come here.
      found.detach();
      send({ type: 'resumed', received: found.received });
      found.attach(socket);
      connection = found;
      found.resume(resume.received);
    }
  }

  function refuse(message: AgentMessage): void {
    send(message);
    // Behind the answer.
    setImmediate(() => socket.close(closedCode));
  }
}

/**
 * Answers the requests of one host. When the connection has ended, what it was reading or writing stops; processes go on:
 * they belong to the sandbox. One that broke is kept for a time, as it is.
 */
function openConnection(id: string, sandbox: Sandbox): Connection {
  const gone = new AbortController();
  /** What is under way and can be cancelled: all of it ends with the connection. */
  const operations = new Map<number, AbortController>();
  /** Of `limits.requests`. */
  let underWay = 0;
  let attached: WebSocket | undefined;
  let patience: NodeJS.Timeout | undefined;
  const outlet: Outlet = { gone: gone.signal, isAttached: () => attached !== undefined };

  const mux = new Mux({
    side: 'agent',
    send: (pieces) => attached?.send(pieces),
    isBehind: () => attached?.isBehind ?? false,
    onMessage: (payload) => {
      const request = parseRequest(payload);
      if (isLimited(request) && underWay >= limits.requests)
        throw new WireProtocolError('too many requests are under way');
      void answer(request);
    },
  });
  const send = (message: AgentMessage) => mux.sendMessage(encodeMessage(message));
  const connection: Connection = {
    get received() {
      return mux.received;
    },
    attach,
    receive,
    lose,
    resume: (received) => mux.resume(received),
    detach,
    end,
  };
  sandbox.connections.set(id, connection);
  return connection;

  function attach(socket: WebSocket): void {
    clearTimeout(patience);
    broken.delete(connection);
    attached = socket;
    sandbox.network.dispatch();
  }

  function receive(socket: WebSocket, bytes: Uint8Array): void {
    if (attached !== socket) return;
    try {
      mux.receive(bytes);
      if (mux.unsentBytes > limits.unsent)
        throw new WireProtocolError('answers that were asked for were not acknowledged');
    } catch (error) {
      // The host is not of this protocol, or wrong: nothing that follows can be trusted to mean what it says.
      console.error(error);
      end();
    }
  }

  function lose(socket: WebSocket, code: number | undefined): void {
    if (attached !== socket) return;
    if (code === closedCode) end();
    else detach();
  }

  function detach(): void {
    attached?.terminate();
    attached = undefined;
    mux.detach();
    sandbox.network.dispatch();
    clearTimeout(patience);
    const wait = (leftMs: number) => {
      patience = setTimeout(() => (leftMs > tickMs ? wait(leftMs - tickMs) : end()), Math.min(leftMs, tickMs));
    };
    wait(resumeMs);
    broken.add(connection);
    const [oldest] = broken;
    if (broken.size > mostBroken) oldest?.end();
  }

  function end(): void {
    attached?.terminate();
    attached = undefined;
    clearTimeout(patience);
    sandbox.connections.delete(id);
    broken.delete(connection);
    gone.abort();
    void sandbox.network.stop(outlet);
    for (const operation of operations.values()) operation.abort();
    mux.close();
  }

  async function answer(request: Request): Promise<void> {
    if (sandbox.ending) return;
    const streams: WireStream[] = [];
    const accept = (id: number, direction: 'send' | 'receive' | 'both') => {
      const stream = mux.accept(id, { send: direction !== 'receive', receive: direction !== 'send' });
      streams.push(stream);
      return stream;
    };
    // It makes its signal when that is asked for, which takes more memory than most requests.
    const operation = new AbortController();
    if (isCancellable(request)) operations.set(request.requestId, operation);
    const counts = isLimited(request) ? 1 : 0;
    underWay += counts;
    try {
      const work = carryOut(request, accept, operation);
      const answer = await (isLook(request) ? work : sandbox.lifetime.during(work));
      if (!sandbox.ending) send(answer);
    } catch (error) {
      if (sandbox.ending) return;
      // It named a stream that it may not, and will take the next for another one, too.
      if (error instanceof WireProtocolError) return connection.end();
      for (const stream of streams) {
        stream.reset();
        stream.cancel();
      }
      send({ type: 'error', requestId: request.requestId, ...describe(error) });
    } finally {
      operations.delete(request.requestId);
      underWay -= counts;
    }
  }

  async function carryOut(
    request: Request,
    accept: (id: number, direction: 'send' | 'receive' | 'both') => WireStream,
    operation: AbortController,
  ): Promise<Answer> {
    const { requestId } = request;
    const ok = { type: 'ok', requestId } as const;
    switch (request.type) {
      case 'ping':
        return ok;
      case 'cancel':
        operations.get(request.target)?.abort(new RequestError('cancelled', 'The host wants it no more.'));
        return ok;
      case 'shutdown':
        setImmediate(sandbox.shutdown);
        return ok;
      case 'assign': {
        const { type: _type, requestId: _requestId, ...assignment } = request;
        sandbox.assign(assignment);
        return ok;
      }
      case 'session.open':
        await sandbox.sessions.open(request);
        return ok;
      case 'session.close':
        await sandbox.sessions.close(request.sessionId);
        return ok;
      case 'process.start':
        return startProcess(request, accept);
      case 'process.attach':
        return attachProcess(request, accept);
      case 'process.kill':
        await sandbox.processes.find(request.processId).signal(request.signal, request.graceMs);
        return ok;
      case 'process.list':
        await sandbox.processes.list(accept(request.stream, 'send'), operation.signal);
        return ok;
      case 'memory.watch': {
        const kills = await killsBeyond(request.after, request.waitMs, operation.signal);
        return { type: 'memory.kills', requestId, kills };
      }
      case 'pty.open':
        return followTerminal(
          requestId,
          accept(request.input, 'receive'),
          // What has a key may have been there for long.
          { stream: accept(request.output, 'send'), from: request.key === undefined ? 0 : undefined },
          () => sandbox.processes.startOnTerminal(request, sandbox.sessions.find(request.sessionId)),
        );
      case 'pty.attach':
        return followTerminal(
          requestId,
          accept(request.input, 'receive'),
          { stream: accept(request.output.stream, 'send'), from: request.output.from },
          () => {
            const found = sandbox.processes.findTerminal(request.processId);
            if (request.size) found.resize(request.size);
            return found;
          },
        );
      case 'pty.resize':
        sandbox.processes.findTerminal(request.processId).resize(request.size);
        return ok;
      case 'network.serve':
        await sandbox.network.serve(request, outlet);
        return ok;
      case 'network.stop':
        await sandbox.network.stop(outlet);
        return ok;
      case 'network.accept': {
        const stream = accept(request.stream, 'both');
        const { socket, to } = await sandbox.network.accept(outlet);
        passOut(socket, stream);
        return { type: 'network.accepted', requestId, ...(to && { to }) };
      }
      case 'network.connect': {
        const stream = accept(request.stream, 'both');
        await passIn(request.port, stream);
        return ok;
      }
      case 'network.ports': {
        const ports = await portsBeside(request, () => sandbox.network.isServing, operation.signal);
        return { type: 'network.listening', requestId, ports };
      }
      case 'fs.stat':
        return { type: 'fs.stat', requestId, stats: await stat(request) };
      case 'fs.read':
        await readFile(request, accept(request.stream, 'send'), operation.signal);
        return ok;
      case 'fs.write':
        await writeFile(request, accept(request.stream, 'receive'));
        return ok;
      case 'fs.readdir':
        await readdir(request, accept(request.stream, 'send'), operation.signal);
        return ok;
      case 'fs.mkdir':
        await mkdir(request);
        return ok;
      case 'fs.rm':
        await rm(request, operation.signal);
        return ok;
      case 'fs.rename':
        await rename(request);
        return ok;
      case 'fs.copy':
        await copy(request, operation.signal);
        return ok;
      case 'fs.symlink':
        await symlink(request);
        return ok;
      case 'fs.readlink':
        return { type: 'fs.target', requestId, ...(await readlink(request)) };
      case 'fs.realpath':
        return { type: 'fs.target', requestId, ...(await realpath(request)) };
      case 'fs.chmod':
        await chmod(request);
        return ok;
      case 'fs.truncate':
        await truncate(request);
        return ok;
      case 'fs.glob':
        return {
          type: 'fs.found',
          requestId,
          ...(await glob(request, accept(request.stream, 'send'), operation.signal)),
        };
      case 'fs.grep':
        return {
          type: 'fs.found',
          requestId,
          ...(await grep(request, accept(request.stream, 'send'), operation.signal)),
        };
      case 'fs.watch':
        await watch(request, accept(request.stream, 'send'), operation.signal, () =>
          send({ type: 'fs.watching', requestId }),
        );
        return ok;
      case 'fs.pack':
        await pack(request, accept(request.stream, 'send'), operation.signal);
        return ok;
      case 'fs.unpack':
        await unpack(request, accept(request.stream, 'receive'), operation.signal);
        return ok;
      case 'fs.checkpoint':
        await sandbox.checkpoints.make(request, operation.signal);
        return ok;
      case 'fs.changes':
        await sandbox.checkpoints.sendChanges(request, accept(request.stream, 'send'), operation.signal);
        return ok;
      case 'fs.land':
        return {
          type: 'fs.landed',
          requestId,
          ...(await sandbox.checkpoints.land(request, accept(request.stream, 'receive'), operation.signal)),
        };
      case 'fs.rollback':
        await sandbox.checkpoints.rollback(request, operation.signal);
        return ok;
      case 'fs.dropCheckpoint':
        await sandbox.checkpoints.drop(request);
        return ok;
    }
  }

  async function startProcess(
    request: ProcessStart,
    accept: (id: number, direction: 'send' | 'receive') => WireStream,
  ): Promise<Answer> {
    const stdin = request.stdin === undefined ? undefined : accept(request.stdin, 'receive');
    const holds = request.backpressure;
    const output = (id: number | undefined) =>
      id === undefined ? undefined : { stream: accept(id, 'send'), from: 0, holds, rest: false };
    const outputs = { stdout: output(request.stdout), stderr: output(request.stderr) };
    const started = await sandbox.processes.start(request, sandbox.sessions.find(request.sessionId));
    if (stdin) void started.feed(stdin);
    return follow(request.requestId, started, outputs);
  }

  async function attachProcess(
    request: ProcessAttach,
    accept: (id: number, direction: 'send' | 'receive') => WireStream,
  ): Promise<Answer> {
    const { backpressure: holds, rest } = request;
    const output = (wanted: ProcessAttach['stdout']) =>
      wanted && { from: wanted.from, stream: accept(wanted.stream, 'send'), holds, rest };
    const outputs = { stdout: output(request.stdout), stderr: output(request.stderr) };
    return follow(request.requestId, sandbox.processes.find(request.processId), outputs);
  }

  async function followTerminal(
    requestId: number,
    typed: WireStream,
    { stream, from }: { stream: WireStream; from: number | undefined },
    find: () => SandboxProcess | Promise<SandboxProcess>,
  ): Promise<Answer> {
    const found = await find();
    void found.type(typed);
    const view = await found.view(from);
    const { size, screen } = view;
    return follow(
      requestId,
      found,
      { stdout: { stream, screen, from: view.from, holds: false, rest: false }, stderr: undefined },
      { size, screenBytes: screen.length, from: view.from },
    );
  }

  async function follow(
    requestId: number,
    process: SandboxProcess,
    outputs: { stdout: Attachment | undefined; stderr: Attachment | undefined },
    view?: ProcessStarted['view'],
  ): Promise<Answer> {
    const { processId, pid } = process.start;
    send({ type: 'process.started', requestId, processId, pid, ...(view && { view }) });
    return { type: 'process.exited', requestId, end: await sandbox.processes.follow(process, outputs, gone.signal) };
  }
}

function isCancellable({ type }: Request): boolean {
  return type.startsWith('fs.') || type === 'network.ports' || type === 'memory.watch';
}

/** Whether it only says what there is, or what others may do: that does not keep a sandbox from being idle. */
function isLook({ type }: Request): boolean {
  return (
    type === 'ping' ||
    type === 'cancel' ||
    type === 'process.list' ||
    type === 'memory.watch' ||
    type === 'fs.watch' ||
    type === 'network.serve' ||
    type === 'network.stop' ||
    type === 'network.accept' ||
    type === 'network.ports'
  );
}

/** Errors of Node carry the POSIX name as `code`, ours a code of our own; what has none is a fault of ours. */
function describe(error: unknown): { code: string; message: string; entry?: string } {
  const { code, message } = error as Partial<NodeJS.ErrnoException>;
  if (typeof code !== 'string') console.error(error);
  const text = Buffer.from(String(message)).subarray(0, limits.errorText - 8);
  const entry = error instanceof RequestError ? error.entry : undefined;
  return {
    code: typeof code === 'string' ? code : 'internal',
    message: text.toString(),
    ...(entry !== undefined && { entry }),
  };
}
