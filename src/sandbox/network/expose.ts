import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { duplexOf } from '../../protocol/duplex.ts';
import { AnswerError, type Wire } from '../wire.ts';
import { relay } from './outgoing.ts';
import { rawAnswer } from './raw-answer.ts';

/** A port of the sandbox that can be reached from this machine. Disposing it closes it, with its connections. */
export interface Exposed extends AsyncDisposable {
  /** As in `http://127.0.0.1:40123`: for this machine only. */
  url: string;
  /** On 127.0.0.1 of this machine. */
  port: number;
  /** Twice is once. */
  close(): Promise<void>;
  /** Resolves when it is closed. */
  closed: Promise<void>;
}

/** Connections to one exposed port at once; more are refused. */
const mostConnections = 256;

/**
 * Listens on this machine, and passes on what comes to a server on the sandbox's loopback. Where none listens, whoever
 * speaks HTTP is told so.
 */
export async function expose(inside: number, wire: () => Promise<Wire>): Promise<Exposed> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => {}); // it is destroyed, with what it was passed on to
    void passOn(socket, inside, wire);
  });
  server.maxConnections = mostConnections;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const closed = once(server, 'close').then(() => {});
  const { port } = server.address() as AddressInfo; // it listens at a port
  const close = () => {
    server.close();
    for (const socket of open) socket.destroy();
    return closed;
  };
  return { url: `http://127.0.0.1:${port}`, port, close, closed, [Symbol.asyncDispose]: close };
}

async function passOn(socket: Socket, inside: number, wire: () => Promise<Wire>): Promise<void> {
  try {
    const connected = await wire();
    const stream = connected.openStream({ send: true, receive: true });
    const duplex = duplexOf(stream);
    duplex.on('error', () => {}); // it is destroyed, with the socket
    socket.once('close', () => duplex.destroy());
    await connected.call({ type: 'network.connect', port: inside, stream: stream.id }, 'ok');
    relay(socket, duplex);
  } catch (error) {
    const isRefused = error instanceof AnswerError && error.code === 'ECONNREFUSED';
    const reason = error instanceof Error ? error.message : String(error);
    const told = isRefused
      ? `nothing listens at port ${inside} in the sandbox. Start a server there, and ask again`
      : reason;
    socket.end(rawAnswer({ status: 502, reason: 'Bad Gateway', body: `berth: ${told}.\n` }));
  }
}
