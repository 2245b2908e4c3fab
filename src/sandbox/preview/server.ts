import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { SandboxDiedError, SandboxNotFoundError, SandboxPausedError } from '../errors.ts';
import { NothingListens } from '../network/dial.ts';
import { hasBody } from '../network/http-fields.ts';
import { type Access, type Asked, admit } from './access.ts';
import { BadAnswer, forward, forwardUpgrade, maxHeadBytes, type Upstream } from './forward.ts';
import { type Page, sendPage, sendRawPage } from './page.ts';

/** A server in a sandbox, and what is said of the others there when it is not. */
export interface Preview extends Upstream {
  /** The ports at which servers listen, and where they are reached, if they are. */
  openPorts: () => Promise<{ port: number; url?: string | undefined }[]>;
}

export interface PreviewServerOptions extends Access {
  /** That it listens at, on this machine. */
  address: string;
  /** 0: any. */
  port: number;
  /** Connections at once; more are refused. */
  mostConnections: number;
  /** What a request is for. */
  find: (asked: Asked) => Promise<Preview | Page>;
}

/** Requests of one connection that wait for the answer to another one; who sends more does not want theirs. */
const mostWaiting = 100;

interface Found {
  asked: Asked;
  preview: Preview;
}

/** Passes on what browsers and programs ask for to servers in sandboxes. */
export class PreviewServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #options: PreviewServerOptions;
  /** Connections that speak something else by now: the server of Node does not end them. */
  readonly #upgraded = new Set<Duplex>();
  /** How many wait, by their connection. */
  readonly #waiting = new WeakMap<Duplex, number>();
  readonly closed: Promise<void>;

  private constructor(options: PreviewServerOptions) {
    this.#options = options;
    // A body may take as long as it takes.
    this.#server = createServer({ maxHeaderSize: maxHeadBytes, requestTimeout: 0 });
    this.#server.maxConnections = options.mostConnections;
    this.#server.maxHeadersCount = 0; // the bytes are bounded; of more headers Node would drop some, and not the body that they tell of
    this.#server.on('request', (request, response) => void this.#answer(request, response));
    this.#server.on('upgrade', (request, socket: Duplex, head) => void this.#upgrade(request, socket, head));
    this.closed = once(this.#server, 'close').then(() => {});
  }

  /** Rejects with the error of the system where it can't listen. */
  static async open(options: PreviewServerOptions): Promise<PreviewServer> {
    const server = new PreviewServer(options);
    server.closed.catch(() => {}); // when it could not listen
    server.#server.listen(options.port, options.address);
    await once(server.#server, 'listening');
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port; // it listens at a port
  }

  /** @param graceMs - for requests that are under way. Default: 0 */
  close(graceMs = 0): Promise<void> {
    this.#server.close();
    this.#server.closeIdleConnections();
    const end = () => {
      this.#server.closeAllConnections();
      for (const socket of this.#upgraded) socket.destroy();
    };
    if (graceMs === 0) end();
    else {
      const patience = setTimeout(end, graceMs);
      void this.closed.then(() => clearTimeout(patience));
    }
    return this.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {}); // who asked is gone
    let found: Found | Page | undefined;
    try {
      await this.#turn(request, response);
      found = await this.#find(request);
      if ('status' in found) sendPage(request, response, found);
      else await forward(request, response, found.asked, found.preview);
    } catch (error) {
      const page = await pageOf(error, found && 'preview' in found ? found.preview : undefined);
      if (response.headersSent || response.destroyed) response.destroy();
      else sendPage(request, response, page);
    }
  }

  /**
   * Requests that come on a connection before an answer (pipelining) are passed on one after the other: of an answer that
   * others stand before Node does not tell that who asked is gone.
   */
  async #turn({ socket }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (response.socket) return;
    const add = (count: number) => {
      const waiting = (this.#waiting.get(socket) ?? 0) + count;
      this.#waiting.set(socket, waiting);
      return waiting;
    };
    if (add(1) > mostWaiting) socket.destroy();
    await once(response, 'socket');
    add(-1);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
    socket.on('error', () => {}); // it is destroyed, with what it was passed on to
    let found: Found | Page | undefined;
    try {
      found = await this.#find(request);
      if ('status' in found) sendRawPage(socket, found);
      else await forwardUpgrade(request, socket, head, found.asked, found.preview);
    } catch (error) {
      sendRawPage(socket, await pageOf(error, found && 'preview' in found ? found.preview : undefined));
    }
  }

  async #find(request: IncomingMessage): Promise<Found | Page> {
    const asked = admit(request, this.#options);
    if ('status' in asked) return asked;
    if (request.headers.upgrade !== undefined && hasBody(request)) {
      return { status: 400, title: 'Bad request', text: 'One for another protocol has no body.' };
    }
    const preview = await this.#options.find(asked);
    return 'status' in preview ? preview : { asked, preview };
  }
}

/** Says why a server in a sandbox gave no answer. */
export async function pageOf(error: unknown, preview: Pick<Preview, 'port' | 'openPorts'> | undefined): Promise<Page> {
  if (error instanceof NothingListens && preview) {
    const open = await preview.openPorts().catch(() => []);
    const links = open.map(({ port, url }) => ({ label: `port ${port}`, url }));
    return {
      status: 502,
      title: `Nothing listens at port ${preview.port} in the sandbox`,
      text: 'Start a server there, and ask again.',
      isForNow: true,
      ...(links.length > 0 && { lists: [{ title: 'Servers listen at', links }] }),
    };
  }
  if (error instanceof BadAnswer) {
    return {
      status: 502,
      title: 'The server in the sandbox gave a bad answer',
      text: `As it seems, ${error.message}.`,
    };
  }
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof SandboxNotFoundError) return { status: 404, title: 'There is no such sandbox', text };
  const isAtRest = error instanceof SandboxDiedError || error instanceof SandboxPausedError;
  return isAtRest
    ? { status: 503, title: 'The sandbox does not run', text }
    : { status: 502, title: 'The sandbox was not reached', text };
}
