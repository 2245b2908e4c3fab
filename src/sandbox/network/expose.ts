import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { newToken } from '../preview/access.ts';
import { sendRawPage } from '../preview/page.ts';
import { PreviewServer, pageOf } from '../preview/server.ts';
import type { Wire } from '../wire.ts';
import { dial } from './dial.ts';
import { relay } from './outgoing.ts';
import { openPorts } from './ports.ts';

/** A port of the sandbox that can be reached from this machine. Disposing it closes it, with its connections. */
export interface Exposed extends AsyncDisposable {
  /** As in `http://127.0.0.1:40123`: for this machine only. */
  url: string;
  /** That each request has to bring, where one was asked for. */
  token?: string;
  /** On 127.0.0.1 of this machine. */
  port: number;
  /** Twice is once. */
  close(): Promise<void>;
  /** Resolves when it is closed. */
  closed: Promise<void>;
}

/** Connections to one exposed port at once; more are refused. */
const mostConnections = 256;
const address = '127.0.0.1';

/**
 * Listens on this machine, and passes on the requests that bring the token.
 * @param token - true: a new one
 */
export async function exposeWithToken(
  inside: number,
  given: string | true,
  wire: () => Promise<Wire>,
): Promise<Exposed> {
  const token = given === true ? newToken() : given;
  const preview = {
    port: inside,
    prefix: '',
    dial: () => dial(inside, wire),
    openPorts: async () => openPorts(await wire()),
  };
  const server = await PreviewServer.open({
    address,
    port: 0,
    token,
    mostConnections,
    isOwn: () => false,
    find: async () => preview,
  });
  const { port, closed } = server;
  const close = () => server.close();
  return { url: `http://${address}:${port}`, port, token, close, closed, [Symbol.asyncDispose]: close };
}

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
  server.listen(0, address);
  await once(server, 'listening');
  const closed = once(server, 'close').then(() => {});
  const { port } = server.address() as AddressInfo; // it listens at a port
  const close = () => {
    server.close();
    for (const socket of open) socket.destroy();
    return closed;
  };
  return { url: `http://${address}:${port}`, port, close, closed, [Symbol.asyncDispose]: close };
}

async function passOn(socket: Socket, inside: number, wire: () => Promise<Wire>): Promise<void> {
  try {
    relay(socket, await dial(inside, wire));
  } catch (error) {
    const preview = { port: inside, openPorts: async () => openPorts(await wire()) };
    sendRawPage(socket, await pageOf(error, preview));
  }
}
