import { createServer, type Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { duplexOf } from '../../src/protocol/duplex.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { type NetworkServe, proxyPort } from '../../src/protocol/network.ts';
import { relay } from '../../src/protocol/relay.ts';
import { RequestError } from '../errors.ts';
import { bindTcp } from '../kernel.ts';
import { Names, useNameServer } from './names.ts';
import { Profile } from './profile.ts';
import { Trust } from './trust.ts';

/** Names and their ports that are listened at: each takes an open file, and any name may be asked for. */
const mostServers = 512;
/** Connections that wait for the host to take them: it asks for the next ones while it works on others. */
const mostWaiting = 256;

export interface Arrived {
  socket: Socket;
  /** Left out: the proxy was connected to. */
  to?: { name: string; port: number };
}

/** A host's connection, as far as programs may go out through it. */
export interface Outlet {
  /** Aborts when it has ended. */
  gone: AbortSignal;
  /** Not so while its transport is broken. */
  isAttached: () => boolean;
}

/**
 * The way out of the sandbox: what programs connect to here goes through the wire to the host, as it is. Nothing is
 * decided here, as everything in the sandbox could be changed by what runs in it.
 */
export class Network {
  readonly #servers = new Map<string, Promise<Server>>();
  readonly #waiting: Arrived[] = [];
  readonly #takers = new WeakMap<Outlet, ((arrived: Arrived) => void)[]>();
  /** The first that is attached is the one that programs go out through. */
  #offers: (Pick<NetworkServe, 'env' | 'names' | 'authority'> & { outlet: Outlet })[] = [];
  #names: Names | undefined;
  readonly #trust = new Trust();
  readonly #profile = new Profile();
  #lastChange: Promise<unknown> = Promise.resolve();

  /** What every command sees, below all other variables. */
  get env(): NetworkServe['env'] {
    this.#trust.refresh();
    return this.#serving?.env ?? [];
  }

  /** Whether its proxy listens. */
  get isServing(): boolean {
    return this.#offers.length > 0;
  }

  get #serving() {
    return this.#offers.find(({ outlet }) => outlet.isAttached()) ?? this.#offers[0];
  }

  serve({ env, names, authority, takesOver }: Omit<NetworkServe, 'type' | 'requestId'>, outlet: Outlet): Promise<void> {
    return this.#inTurn(async () => {
      await this.#open();
      const offer = { outlet, env, names, authority };
      const at = takesOver ? -1 : this.#offers.findIndex((one) => one.outlet === outlet);
      if (at !== -1) this.#offers[at] = offer;
      else {
        const others = this.#offers.filter((one) => one.outlet !== outlet);
        this.#offers = takesOver ? [offer, ...others] : [...others, offer];
      }
      this.dispatch();
    });
  }

  /** This one serves no more, or has ended. */
  stop(outlet: Outlet): Promise<void> {
    return this.#inTurn(async () => {
      this.#offers = this.#offers.filter((one) => one.outlet !== outlet);
      this.dispatch();
      await this.#closeUnused();
    });
  }

  /** The next connection, in the order in which they came, when this is the one that programs go out through. */
  accept(outlet: Outlet): Promise<Arrived> {
    return new Promise((resolve, reject) => {
      const takers = this.#takers.get(outlet) ?? [];
      this.#takers.set(outlet, takers);
      const stop = () => {
        takers.splice(takers.indexOf(take), 1);
        reject(new RequestError('cancelled', 'The connection has ended.'));
      };
      const take = (arrived: Arrived) => {
        outlet.gone.removeEventListener('abort', stop);
        resolve(arrived);
      };
      takers.push(take);
      outlet.gone.addEventListener('abort', stop, { once: true });
      this.dispatch();
    });
  }

  /** Has programs know who serves, and hands over what waits; to be called when a transport has come or gone. */
  dispatch(): void {
    const serving = this.#serving;
    this.#trust.set(serving?.authority);
    this.#profile.set(serving?.env);
    const takers = serving && this.#takers.get(serving.outlet);
    while (takers && takers.length > 0 && this.#waiting.length > 0) {
      const next = this.#waiting.shift();
      if (next && !next.socket.destroyed) takers.shift()?.(next); // else nobody waits for it any more
    }
  }

  /** One change after the other: each opens or closes what the others count on. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const changed = this.#lastChange.then(change);
    this.#lastChange = changed.catch(() => {}); // told to who asked for it
    return changed;
  }

  async #open(): Promise<void> {
    useNameServer();
    try {
      await this.#listen('127.0.0.1', proxyPort, undefined);
      this.#names ??= await Names.open(
        (address, port, name) => this.#listen(address, port, { name, port }),
        () => this.#serving?.names ?? [],
      );
    } catch (error) {
      await this.#closeUnused();
      throw error;
    }
  }

  async #closeUnused(): Promise<void> {
    if (this.#offers.length > 0) return;
    this.#names?.close();
    this.#names = undefined;
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    for (const { socket } of this.#waiting.splice(0)) socket.destroy();
    for (const server of await Promise.allSettled(servers)) if (server.status === 'fulfilled') server.value.close();
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
      server.once('error', reject);
      server.listen({ fd: bindTcp(host, port), backlog: mostWaiting }, () => resolve(server));
    }).catch((error: Error) => {
      this.#servers.delete(place);
      throw new RequestError('EADDRINUSE', `nothing can listen at ${place}: ${error.message}`);
    });
    this.#servers.set(place, listening);
    return listening;
  }

  #arrive(socket: Socket, to: Arrived['to']): void {
    socket.on('error', () => {}); // it is destroyed, which who has it notices
    const arrived = { socket, ...(to && { to }) };
    if (this.#waiting.length >= mostWaiting) return void socket.resetAndDestroy();
    this.#waiting.push(arrived);
    this.dispatch();
  }
}

/** Connects to a server in the sandbox, at whichever of the loopback's addresses it listens. */
async function connectInside(port: number): Promise<Socket> {
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

/** Passes on what a program says, and what it is told: a part of that does not look like a whole. */
export function passOut(program: Socket, stream: WireStream): void {
  const abort = (side: Duplex) => (side === program ? program.resetAndDestroy() : side.destroy());
  relay(program, duplexOf(stream), { abort });
}

/** Connects a client to a server. When the client is gone, its connection closes: not each server bears a reset. */
export async function passIn(port: number, stream: WireStream): Promise<void> {
  relay(await connectInside(port), duplexOf(stream));
}
