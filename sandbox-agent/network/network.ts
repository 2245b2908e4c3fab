import { createServer, type Server, Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { duplexOf } from '../../src/protocol/duplex.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { type NetworkServe, proxyPort } from '../../src/protocol/network.ts';
import { RequestError } from '../errors.ts';
import { Names } from './names.ts';

/** Names and their ports that are listened at: each takes an open file, and any name may be asked for. */
const mostServers = 512;
/** Connections that wait for the host to take them: it asks for the next ones while it works on others. */
const mostWaiting = 256;

export interface Arrived {
  socket: Socket;
  /** Left out: the proxy was connected to. */
  to?: { name: string; port: number };
}

/**
 * The way out of the sandbox: what programs connect to here goes through the wire to the host, as it is. Nothing is
 * decided here, as everything in the sandbox could be changed by what runs in it.
 */
export class Network {
  readonly #servers = new Map<string, Promise<Server>>();
  readonly #waiting: Arrived[] = [];
  readonly #takers: ((arrived: Arrived) => void)[] = [];
  #names: Names | undefined;
  #env: NetworkServe['env'] = [];
  #owner: AbortSignal | undefined;

  /** What every command sees, below all other variables. */
  get env(): NetworkServe['env'] {
    return this.#env;
  }

  /** Whether its proxy listens. */
  get isServing(): boolean {
    return this.#owner !== undefined;
  }

  /** @param owner - aborts when the host's connection ends */
  async serve({ env, names }: NetworkServe, owner: AbortSignal): Promise<void> {
    await this.#listen('127.0.0.1', proxyPort, undefined);
    this.#names ??= await Names.open((address, port, name) => this.#listen(address, port, { name, port }));
    this.#names.allow(names);
    this.#env = env;
    if (this.#owner === owner) return;
    this.#owner = owner;
    owner.addEventListener('abort', () => this.#owner === owner && void this.stop(), { once: true });
    if (owner.aborted) await this.stop();
  }

  async stop(): Promise<void> {
    this.#owner = undefined;
    this.#env = [];
    this.#names?.close();
    this.#names = undefined;
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    for (const { socket } of this.#waiting.splice(0)) socket.destroy();
    for (const server of await Promise.allSettled(servers)) if (server.status === 'fulfilled') server.value.close();
  }

  /** The next connection, in the order in which they came. */
  accept(signal: AbortSignal): Promise<Arrived> {
    return new Promise((resolve, reject) => {
      for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
        if (next.socket.destroyed) continue; // nobody waits for it any more
        resolve(next);
        return;
      }
      const stop = () => {
        this.#takers.splice(this.#takers.indexOf(take), 1);
        reject(signal.reason);
      };
      const take = (arrived: Arrived) => {
        signal.removeEventListener('abort', stop);
        resolve(arrived);
      };
      this.#takers.push(take);
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  #listen(host: string, port: number, to: Arrived['to']): Promise<Server> {
    const place = `${host}:${port}`;
    const known = this.#servers.get(place);
    if (known) return known;
    if (this.#servers.size >= mostServers)
      return Promise.reject(new RequestError('EMFILE', 'too many names are in use'));
    const listening = new Promise<Server>((resolve, reject) => {
      // A program may close its side and still read.
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#arrive(socket, to));
      server.once('error', (error) => {
        this.#servers.delete(place);
        reject(new RequestError('EADDRINUSE', `nothing can listen at ${place}: ${error.message}`));
      });
      server.listen({ host, port, backlog: mostWaiting }, () => resolve(server));
    });
    this.#servers.set(place, listening);
    return listening;
  }

  #arrive(socket: Socket, to: Arrived['to']): void {
    socket.on('error', () => {}); // it is destroyed, which who has it notices
    const arrived = { socket, ...(to && { to }) };
    const take = this.#takers.shift();
    if (take) take(arrived);
    else if (this.#waiting.length < mostWaiting) this.#waiting.push(arrived);
    else socket.resetAndDestroy();
  }
}

/** Connects to a server in the sandbox, at whichever of the loopback's addresses it listens. */
export async function connectInside(port: number): Promise<Socket> {
  const errors: NodeJS.ErrnoException[] = [];
  for (const host of ['127.0.0.1', '::1']) {
    const socket = new Socket({ allowHalfOpen: true });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.connect({ host, port, noDelay: true }, resolve);
      });
      return socket;
    } catch (error) {
      errors.push(error as NodeJS.ErrnoException); // of connect(2)
    }
  }
  throw errors[0];
}

/** Passes on what comes, both ways, until both have ended; a failure of one is the other's. */
export function join(socket: Socket, stream: WireStream): void {
  const duplex = duplexOf(stream);
  pipeline(socket, duplex, socket, (error) => {
    duplex.destroy();
    if (error) socket.resetAndDestroy();
    else socket.destroy();
  });
}
