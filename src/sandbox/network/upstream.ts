import {
  Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as requestOne,
} from 'node:http';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectSession } from 'node:http2';
import { isIP, type Socket } from 'node:net';
import { type Duplex, pipeline, type Readable, Transform, type Writable } from 'node:stream';
import { connect as connectTls, rootCertificates, type TLSSocket } from 'node:tls';
import { connectTo, Refusal } from './outgoing.ts';

/** Where a request goes, as it was decided. */
export interface Place {
  /** A name or an address. */
  host: string;
  port: number;
  isSecure: boolean;
  /** One of these and no other. */
  addresses: readonly string[];
}

export interface Head {
  method: string;
  path: string;
  /** Without those of one connection, and with `host`. */
  headers: IncomingHttpHeaders;
  /** Whether a body follows, of whatever length. */
  hasBody: boolean;
}

/** What a request got. */
export interface Answer {
  status: number;
  reason: string;
  headers: IncomingHttpHeaders;
  body: Readable;
  /** When the body has ended. */
  trailers: () => IncomingHttpHeaders;
}

export interface Exchange {
  /** Its request is sent by writing to it. */
  outgoing: Writable;
  answer: Promise<Answer>;
  /** That was connected to. */
  address: string;
  /** Of the connection, since the exchange began; of one that others share, those of the bodies. */
  bytes: () => { out: number; in: number };
  /** Ends it, whatever is under way. */
  cut: () => void;
  /** Settles when it is over, in any way. */
  closed: Promise<void>;
}

/** Connections that nothing is asked on are kept so long: less than the 5 s after which many servers close them. */
const keptMs = 4_000;
const handshakeMs = 30_000;
/** Of HTTP/1.1, at once; requests that need another one wait. */
const mostConnections = 256;
/** What a server may be asked twice to the same effect (RFC 9110, section 9.2.2). */
const repeatable = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** The connections of one sandbox to servers; kept for a moment, for the next request to the same place. */
export class Upstream {
  readonly #ca: readonly string[] | undefined;
  readonly #agent: KeepingAgent;
  /** Of places that speak HTTP/2; `undefined` of those that do not. */
  readonly #sessions = new Map<string, Promise<ClientHttp2Session | undefined>>();

  /** @param ca - certificates, in PEM, that are trusted beside those that Node trusts */
  constructor(ca: readonly string[] | undefined) {
    this.#ca = ca;
    this.#agent = new KeepingAgent((place) =>
      place.isSecure ? this.connectTls(place, ['http/1.1']) : connectForRequests(place),
    );
  }

  /** Lets go of the connections that nothing is asked on. */
  closeIdle(): void {
    for (const sockets of Object.values(this.#agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    for (const [key, session] of this.#sessions) {
      this.#sessions.delete(key);
      session.then((open) => open?.close()).catch(() => {}); // those who asked for it were told
    }
  }

  /** @throws {Refusal} it can't be connected to */
  async exchange(place: Place, head: Head, { isHttp2 }: { isHttp2: boolean }): Promise<Exchange> {
    const session = isHttp2 && place.isSecure ? await this.#session(place) : undefined;
    return session ? overSession(session, head, place) : this.#overOne(place, head);
  }

  /** @throws {Refusal} it can't be connected to, or is not whom it should be */
  async connectTls(place: Place, protocols: string[]): Promise<TLSSocket> {
    const { host, port } = place;
    const socket = await connectForRequests(place);
    return new Promise((resolve, reject) => {
      const secure = connectTls({
        socket,
        ALPNProtocols: protocols,
        ...(isIP(host) ? { host } : { servername: host }),
        ...(this.#ca && { ca: [...rootCertificates, ...this.#ca] }),
      });
      raw.set(secure, socket);
      secure.setNoDelay(true);
      const patience = setTimeout(() => secure.destroy(new Error('no handshake in time')), handshakeMs);
      secure.once('error', (error) => {
        clearTimeout(patience);
        socket.destroy();
        reject(new Refusal(`no TLS with ${host}:${port}: ${error.message}`, '', { isFailure: true }));
      });
      secure.once('secureConnect', () => {
        clearTimeout(patience);
        resolve(secure);
      });
    });
  }

  async #overOne(place: Place, head: Head): Promise<Exchange> {
    let sent = await this.#send(place, head);
    let isCut = false;
    const { address } = sent;
    const answered = async (): Promise<Answer> => {
      for (;;) {
        try {
          return await sent.answer;
        } catch (error) {
          // A server may close a connection that was kept just when it is asked again.
          if (isCut || !sent.isKept || head.hasBody || !repeatable.has(head.method)) throw error;
          sent = await this.#send({ ...place, addresses: [address] }, head);
          if (isCut) sent.cut();
          sent.request.end();
        }
      }
    };
    const answer = answered();
    return {
      outgoing: sent.request,
      answer,
      address,
      bytes: () => sent.bytes(),
      cut: () => {
        isCut = true;
        sent.cut();
      },
      closed: answer.then(
        () => sent.closed,
        () => sent.closed,
      ),
    };
  }

  async #send(place: Place, head: Head) {
    const { method, path, hasBody } = head;
    const headers = { ...head.headers };
    // What has no length needs an end of its own: without one what follows would be taken for a request. And of a length
    // without a body the next request would be taken for that.
    if (hasBody && headers['content-length'] === undefined) headers['transfer-encoding'] = 'chunked';
    if (!hasBody && headers['content-length'] !== undefined) headers['content-length'] = '0';
    const request = requestOne({ ...optionsFor(place), agent: this.#agent, method, path, headers, setHost: false });
    request.maxHeadersCount = 0; // as of requests
    if (hasBody) request.flushHeaders(); // a server may answer before the first byte of it
    let upgraded: Duplex | undefined;
    let isOver = false;
    const answer = new Promise<Answer>((resolve, reject) => {
      request.once('response', (message) => resolve(answerOf(message)));
      request.once('upgrade', (message, socket, rest) => {
        upgraded = socket;
        if (rest.length > 0) socket.unshift(rest);
        resolve({ ...answerOf(message), body: socket });
      });
      request.on('error', reject);
      request.once('close', () => reject(new Error('it was closed')));
    });
    answer.catch(() => {}); // told to who waits for it
    const closed = new Promise<void>((resolve) => {
      const end = () => {
        isOver = true;
        resolve();
      };
      request.once('close', () => (upgraded && !upgraded.closed ? upgraded.once('close', end) : end()));
    });
    const socket = await socketOf(request);
    const counted = raw.get(socket) ?? socket;
    const before = { out: counted.bytesWritten, in: counted.bytesRead };
    return {
      request,
      answer,
      closed,
      isKept: request.reusedSocket,
      address: counted.remoteAddress ?? '',
      bytes: () => ({ out: counted.bytesWritten - before.out, in: counted.bytesRead - before.in }),
      // Afterwards the connection is kept, or another request's.
      cut: () => void (isOver || socket.destroy()),
    };
  }

  async #session(place: Place): Promise<ClientHttp2Session | undefined> {
    const key = keyOf(place);
    const known = this.#sessions.get(key);
    const open = await known;
    if (known && !(open?.closed || open?.destroyed)) return open;
    const opening = this.#openSession(place);
    this.#sessions.set(key, opening);
    const forget = () => this.#sessions.get(key) === opening && this.#sessions.delete(key);
    opening.then((session) => (session ? session.once('close', forget) : setTimeout(forget, keptMs).unref()), forget);
    return opening;
  }

  async #openSession(place: Place): Promise<ClientHttp2Session | undefined> {
    const socket = await this.connectTls(place, ['h2', 'http/1.1']);
    if (socket.alpnProtocol !== 'h2') {
      socket.destroy();
      return undefined;
    }
    const session = connectSession(`https://${authority(place)}`, {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    session.on('error', () => {}); // each stream has it too
    session.setTimeout(keptMs, () => {
      // What is under way may be silent for as long as it likes.
      if (isIdle(session)) session.close();
    });
    return session;
  }
}

/** @throws {Refusal} */
async function connectForRequests(place: Place): Promise<Socket> {
  const socket = await connectTo(place);
  socket.allowHalfOpen = false; // else one that the server has closed would be kept, and asked again
  return socket;
}

/** The connection below one of TLS. */
const raw = new WeakMap<object, Socket>();
const streams = new WeakMap<ClientHttp2Session, number>();

function isIdle(session: ClientHttp2Session): boolean {
  return (streams.get(session) ?? 0) === 0;
}

function overSession(session: ClientHttp2Session, head: Head, place: Place): Exchange {
  const { host: _host, ...headers } = head.headers;
  const stream: ClientHttp2Stream = session.request(
    { ...headers, ':method': head.method, ':path': head.path, ':authority': authority(place), ':scheme': 'https' },
    { endStream: !head.hasBody },
  );
  streams.set(session, (streams.get(session) ?? 0) + 1);
  const closed = new Promise<void>((resolve) => stream.once('close', resolve));
  void closed.then(() => streams.set(session, (streams.get(session) ?? 1) - 1));
  const count = { out: 0, in: 0 };
  const outgoing = counting((bytes) => {
    count.out += bytes;
  });
  const body = counting((bytes) => {
    count.in += bytes;
  });
  pipeline(outgoing, stream, body, () => {}); // a failure is that of each
  let trailers: IncomingHttpHeaders = {};
  stream.on('trailers', (given) => {
    trailers = given;
  });
  const answer = new Promise<Answer>((resolve, reject) => {
    stream.once('response', ({ ':status': status = 502, ...headers }) =>
      resolve({ status, reason: '', headers, body, trailers: () => trailers }),
    );
    stream.on('error', reject);
    stream.once('close', () => reject(new Error('it was closed')));
  });
  answer.catch(() => {}); // told to who waits for it
  return {
    outgoing,
    answer,
    address: session.socket?.remoteAddress ?? '',
    bytes: () => count,
    cut: () => stream.destroy(),
    closed,
  };
}

function counting(add: (bytes: number) => void): Transform {
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      add(chunk.length);
      done(null, chunk);
    },
  });
  return counter.on('error', () => {}); // it is destroyed, which whoever reads or writes it notices
}

function answerOf(message: IncomingMessage): Answer {
  const { statusCode = 502, statusMessage = '', headers } = message;
  return { status: statusCode, reason: statusMessage, headers, body: message, trailers: () => message.trailers };
}

function authority({ host, port }: Place): string {
  const name = host.includes(':') ? `[${host}]` : host;
  return port === 443 ? name : `${name}:${port}`;
}

/** Connections of which are the same. */
function keyOf({ host, port, isSecure, addresses }: Place): string {
  return JSON.stringify([host, port, isSecure, [...addresses].sort()]);
}

interface PlacedOptions {
  place: Place;
}

function optionsFor(place: Place): PlacedOptions {
  return { place };
}

/** Keeps connections by what was decided, not by the name that they were asked for with. */
class KeepingAgent extends Agent {
  readonly #open: (place: Place) => Promise<Socket>;

  constructor(open: (place: Place) => Promise<Socket>) {
    super({ keepAlive: true, maxFreeSockets: 16, maxTotalSockets: mostConnections, timeout: keptMs });
    this.#open = open;
  }

  override getName(options?: unknown): string {
    return keyOf((options as PlacedOptions).place); // nobody else asks it
  }

  override createConnection(options: unknown, done?: (error: Error | null, socket: Socket) => void): undefined {
    this.#open((options as PlacedOptions).place).then(
      (socket) => done?.(null, socket),
      (error: Error) => done?.(error, undefined as never),
    );
  }
}

function socketOf(request: ClientRequest): Promise<Socket> {
  return new Promise((resolve, reject) => {
    request.once('socket', resolve);
    request.once('error', reject);
  });
}
