import { createHash } from 'node:crypto';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import {
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders as IncomingHttp2Headers,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type Duplex, pipeline, type Readable, type Writable } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import type { Authority } from './authority.ts';
import { normalHost, type Target } from './decide.ts';
import { firstByte } from './first-byte.ts';
import type { Gateway } from './gateway.ts';
import { hasBody, hopsOf } from './http-fields.ts';
import { Mask, masked } from './mask.ts';
import { Refusal, relay } from './outgoing.ts';
import { rawAnswer } from './raw-answer.ts';
import { sendBody } from './send-body.ts';
import type { Answer, Exchange, Upstream } from './upstream.ts';

/** Of one connection of a program, at once: in HTTP/2 others wait; of HTTP/1.1 nobody asks that many without an answer. */
const mostRequests = 100;
/** Characters of the line of an answer that says why it is none: some programs read lines of a few KiB only. */
const mostOfReason = 1_024;

/** Fields that some servers and frameworks take for the method, or for the path, in place of those of the request. */
const methodFields = ['x-http-method-override', 'x-http-method', 'x-method-override'];
const pathFields = ['x-original-url', 'x-rewrite-url'];

/** Where a connection leads whose requests are decided on one by one. */
interface Destination {
  host: string;
  port: number;
  isSecure: boolean;
}

/** A request of a program, in either version of HTTP. */
interface Incoming {
  method: string;
  /** A path, or to a proxy a URL. */
  url: string;
  /** Whom it says that it is for. */
  authority: string | undefined;
  headers: IncomingHttpHeaders;
  /** Left out: it has none. */
  body?: Readable;
  isHttp2: boolean;
  /** Left out: it came to the proxy. */
  destination: Destination | undefined;
}

/** What a program is answered on. */
interface Outgoing {
  /** Begins the answer. @returns what its body goes to */
  respond: (answer: Answer) => Writable;
  /** Left as it is when the answer has begun; then it breaks off. */
  refuse: (refusal: { status: number; reason: string; body: string }) => void;
  /** Also when it is closed already. */
  onClose: (listener: () => void) => void;
  destroy: () => void;
}

/** A request, as it is decided on and sent. */
interface Asked {
  target: Target;
  isSecure: boolean;
  method: string;
  /** With the query. */
  path: string;
  headers: IncomingHttpHeaders;
}

/** Speaks HTTP with programs: as a proxy, and in place of the servers whose requests are decided on one by one. */
export class HttpProxy {
  readonly #gateway: Gateway;
  readonly #upstream: Upstream;
  readonly #authority: () => Promise<Authority>;
  readonly #server: Server;
  readonly #http2: Http2Server;
  /** By the socket, or the session, of a connection in place of a server. */
  readonly #destinations = new WeakMap<object, Destination>();
  /** Requests that are not answered yet, by the socket that they came on. */
  readonly #open = new WeakMap<object, number>();

  constructor(gateway: Gateway, upstream: Upstream, authority: () => Promise<Authority>) {
    this.#gateway = gateway;
    this.#upstream = upstream;
    this.#authority = authority;
    // However long a body takes, it is a program's matter.
    this.#server = createServer({ requestTimeout: 0 });
    this.#server.maxHeadersCount = 0; // as the bytes are bounded; of more Node would drop some, as what a body is read by
    this.#server.on('request', (request, response) => {
      if (!this.#isWithinBounds(request.socket, response)) return void request.socket.destroy();
      const destination = this.#destinations.get(request.socket);
      void this.#request({ ...ofHttp1(request), destination }, onHttp1(request, response));
    });
    this.#server.on('connect', (request, program: Duplex, head) => void this.#connect(request, program, head));
    this.#server.on('upgrade', (request, program: Duplex, head) => void this.#upgrade(request, program, head));
    this.#server.on('clientError', (_error, program: Duplex) => {
      if (program.writable) program.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      else program.destroy();
    });
    this.#http2 = createHttp2Server({ settings: { maxConcurrentStreams: mostRequests } });
    this.#http2.on('stream', (stream, headers) => {
      const destination = stream.session && this.#destinations.get(stream.session);
      void this.#request({ ...ofHttp2(stream, headers), destination }, onHttp2(stream));
    });
    this.#http2.on('sessionError', () => {}); // it is destroyed, with its streams
  }

  /** As a proxy. */
  serve(program: Duplex): void {
    this.#server.emit('connection', program);
  }

  /** In place of the server there, by TLS if the program begins with that. */
  async serveFor(program: Duplex, { host, port }: { host: string; port: number }): Promise<void> {
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    const first = await firstByte(program);
    if (first === undefined) return;
    if (first !== 0x16) {
      this.#destinations.set(program, { host, port, isSecure: false });
      this.#server.emit('connection', program);
      return;
    }
    const certificate = await (await this.#authority()).certificateFor(host);
    // One for each, as which one it shows is the connection's matter, not that of the name in the handshake.
    // HTTP/2 is for who offers nothing else: git and others with libcurl 7.88 (Debian 12) at times stand still in HTTP/2
    // when what they send is more than a window.
    const server = createTlsServer({ ...certificate, ALPNProtocols: ['http/1.1', 'http/1.0', 'h2'] });
    server.once('tlsClientError', () => program.destroy()); // it does not trust us, say
    server.once('secureConnection', (socket) => {
      socket.on('error', () => program.destroy());
      const destination = { host, port, isSecure: true };
      if (socket.alpnProtocol === 'h2') {
        const set = (session: ServerHttp2Session) => this.#destinations.set(session, destination);
        socket.allowHalfOpen = false; // as of the program's connection: a session does not end with its side
        this.#http2.once('session', set); // which is told of at once
        this.#http2.emit('connection', socket);
      } else {
        this.#destinations.set(socket, destination);
        this.#server.emit('connection', socket);
      }
    });
    server.emit('connection', program);
  }

  async #connect({ url = '', socket }: IncomingMessage, program: Duplex, head: Buffer): Promise<void> {
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    const [, host, port] = /^(.+):(\d{1,5})$/.exec(url) ?? [];
    try {
      if (host === undefined || this.#destinations.has(socket)) {
        throw new Refusal(`CONNECT is for a proxy, and needs a host and a port, not ${JSON.stringify(url)}`);
      }
      await this.#gateway.tunnel(program, { host, port: Number(port) }, () => {
        program.write('HTTP/1.1 200 Connection established\r\n\r\n');
        if (head.length > 0) program.unshift(head);
      });
    } catch (error) {
      program.end(rawAnswer(answerTo(error)));
    }
  }

  async #request(incoming: Incoming, outgoing: Outgoing): Promise<void> {
    let cut = () => {};
    try {
      const asked = askedBy(incoming);
      const { exchange, forms } = await this.#exchange(asked, incoming, outgoing.destroy);
      cut = exchange.cut;
      outgoing.onClose(cut);
      if (incoming.body) sendBody(incoming.body, exchange.outgoing);
      else exchange.outgoing.end();
      const { answer, through } = passOn(await exchange.answer, asked.method, forms);
      if (answer.status === 101) throw new Refusal('the server changed the protocol unasked', '', { isFailure: true });
      pipe([answer.body, ...through, outgoing.respond(answer)], cut);
    } catch (error) {
      cut();
      outgoing.refuse(answerTo(error));
    }
  }

  /** A WebSocket: when the server has agreed, what both sides send is passed on as it is. */
  async #upgrade(request: IncomingMessage, program: Duplex, head: Buffer): Promise<void> {
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    const { body, ...incoming } = { ...ofHttp1(request), destination: this.#destinations.get(request.socket) };
    if (request.method !== 'GET' || request.headers.upgrade?.toLowerCase() !== 'websocket' || body) {
      // Of other protocols nobody knows what would be asked in them, and a server may do without.
      program.unshift(Buffer.concat([headWithoutUpgrade(request), head]));
      this.#server.emit('connection', program);
      return;
    }
    let cut = () => {};
    try {
      const asked = askedBy(incoming);
      const upgrade = { connection: 'upgrade', upgrade: 'websocket' };
      Object.assign(asked.headers, upgrade);
      const { exchange, forms } = await this.#exchange(asked, incoming, () => program.destroy());
      cut = exchange.cut;
      program.once('close', cut);
      exchange.outgoing.end();
      const { answer, through } = passOn(await exchange.answer, asked.method, forms);
      const isAgreed = answer.status === 101;
      // One that says so, and goes on to speak HTTP, could be asked for anything.
      if (isAgreed && answer.headers['sec-websocket-accept'] !== acceptOf(request)) {
        throw new Refusal('the server changed to something else than WebSocket', '', { isFailure: true });
      }
      const headers = { ...answer.headers, ...(isAgreed ? upgrade : { connection: 'close' }) };
      const lines = Object.entries(headers).flatMap(([name, value]) =>
        [value ?? []].flat().map((one) => `${name}: ${one}`),
      );
      program.write([`HTTP/1.1 ${answer.status} ${answer.reason}`, ...lines, '', ''].join('\r\n'), 'latin1');
      if (isAgreed && head.length > 0) program.unshift(head);
      program.setMaxListeners(0); // it stands at both ends, and has been a server's
      if (isAgreed)
        relay(program, answer.body as Duplex, through); // of a 101 it is the connection
      else pipe([answer.body, ...through, program], cut);
    } catch (error) {
      cut();
      program.end(rawAnswer(answerTo(error)));
    }
  }

  /** One that is asked for more and more before it has answered would have to keep all of that. */
  #isWithinBounds(connection: object, response: ServerResponse): boolean {
    const open = (this.#open.get(connection) ?? 0) + 1;
    this.#open.set(connection, open);
    response.once('close', () => this.#open.set(connection, (this.#open.get(connection) ?? 1) - 1));
    return open <= mostRequests;
  }

  /** Decides, puts secrets in, and sends the head. */
  async #exchange(
    { target, isSecure, ...asked }: Asked,
    { body, isHttp2 }: Pick<Incoming, 'body' | 'isHttp2'>,
    onCut: () => void,
  ): Promise<{ exchange: Exchange; forms: Buffer[] }> {
    for (const other of otherTargets(target, asked.headers)) await this.#gateway.allow(other);
    const allowed = await this.#gateway.allow(target);
    const { host, addresses } = allowed;
    const { port } = target;
    const filled = this.#gateway.secrets?.fill({ host, port }, asked);
    const head = { ...asked, ...filled, hasBody: body !== undefined };
    const forms = filled?.forms ?? [];
    if (forms.length > 0) {
      // An answer that is masked has to be read, and whole: of two parts neither may be one.
      head.headers['accept-encoding'] = 'identity';
      delete head.headers.range;
      delete head.headers['sec-websocket-extensions'];
    }
    let exchange: Exchange;
    try {
      exchange = await this.#upstream.exchange({ host, port, isSecure, addresses }, head, { isHttp2 });
    } catch (error) {
      this.#gateway.failed(allowed, error as Error); // of a connection
      throw error;
    }
    const { address, bytes, closed } = exchange;
    const cut = () => {
      exchange.cut();
      onCut();
    };
    const end = this.#gateway.begin(allowed, { address, bytes, cut, secrets: filled?.used ?? [] });
    void closed.then(end);
    return { exchange, forms };
  }
}

/** @throws {Refusal} it is no request that is to be made here */
function askedBy({ method, url, authority, headers: given, destination }: Incoming): Asked {
  const headers = withoutHops(given);
  if (!destination) {
    if (!/^http:\/\//i.test(url) || !URL.canParse(url)) {
      throw new Refusal('this is a proxy: ask it for a whole URL that begins with http://, or by CONNECT');
    }
    const { hostname, port, pathname, host } = new URL(url);
    // The host of the URL is the one that is decided on, whatever the header says.
    headers.host = host;
    const target = { host: hostname, port: Number(port || 80), request: { method, path: pathname } };
    return { target, isSecure: false, method, path: pathname + queryOf(url), headers };
  }
  const { host, port, isSecure } = destination;
  if (authority !== undefined && !isFor(authority, destination)) {
    const reason = `this connection is to ${host}:${port}: a request for ${authority.slice(0, 256)} needs another one`;
    throw new Refusal(reason, '', { isMisdirected: true });
  }
  const isOfAll = method === 'OPTIONS' && url === '*'; // of the server, and of no path (RFC 9110, section 9.3.7)
  if (!isOfAll && !url.startsWith('/')) throw new Refusal(`${JSON.stringify(url.slice(0, 256))} is no path`);
  const pathname = isOfAll ? url : pathOf(url);
  headers.host = authority ?? host;
  return {
    target: { host, port, request: { method, path: pathname } },
    isSecure,
    method,
    path: pathname + queryOf(url),
    headers,
  };
}

/** As a server would take it: what is decided on is what is sent. */
function pathOf(url: string): string {
  return new URL(`http://path.invalid/${url.split(/[?#]/)[0]}`.replace('invalid//', 'invalid/')).pathname;
}

/** What a request could be taken for besides: all of that has to be allowed, too. */
function otherTargets(target: Target, headers: IncomingHttpHeaders): Target[] {
  const { request } = target;
  if (!request) return [];
  const given = (names: string[]) =>
    Object.entries(headers)
      .filter(([name]) => names.includes(name.replaceAll('_', '-'))) // which many servers take for the same
      .map(([, value]) => String(value));
  const requests = [
    ...given(methodFields).map((method) => ({ ...request, method: method.toUpperCase() })),
    ...given(pathFields).map((url) => ({ ...request, path: pathOf(url) })),
  ];
  return requests.map((other) => ({ ...target, request: other }));
}

function isFor(authority: string, { host, port, isSecure }: Destination): boolean {
  const text = `${isSecure ? 'https' : 'http'}://${authority}`;
  if (!URL.canParse(text)) return false;
  const named = new URL(text);
  // libgit2, of cargo, leaves out the port also where it is not the usual one.
  const isSamePort = !/:\d+$/.test(authority) || Number(named.port || (isSecure ? 443 : 80)) === port;
  return normalHost(named.hostname) === host && isSamePort;
}

function ofHttp1(request: IncomingMessage): Omit<Incoming, 'destination'> {
  const { method = 'GET', url = '', headers } = request;
  return { method, url, headers, authority: headers.host, isHttp2: false, ...(hasBody(request) && { body: request }) };
}

/** As it came, without the offer of another protocol. */
function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'upgrade') lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  }
  return Buffer.from([...lines, '', ''].join('\r\n'), 'latin1');
}

/** What a server that speaks WebSocket answers (RFC 6455, section 4.2.2). */
function acceptOf({ headers }: IncomingMessage): string {
  const key = `${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  return createHash('sha1').update(key).digest('base64');
}

function ofHttp2(stream: ServerHttp2Stream, given: IncomingHttp2Headers): Omit<Incoming, 'destination'> {
  const { ':method': method = 'GET', ':path': url = '', ':authority': named, ...headers } = given;
  const authority = named ?? headers.host;
  return { method, url, headers, authority, isHttp2: true, ...(!stream.endAfterHeaders && { body: stream }) };
}

function onHttp1({ socket }: IncomingMessage, response: ServerResponse): Outgoing {
  response.on('error', () => {}); // who asked is gone
  return {
    respond: ({ status, reason, headers, trailers, body }) => {
      response.writeHead(status, reason, headers);
      // Before the end of the body is passed on.
      body.once('end', () => response.addTrailers(trailers()));
      return response;
    },
    refuse: ({ status, reason, body }) => {
      if (response.headersSent) return void response.destroy();
      response.writeHead(status, reason, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(body);
    },
    onClose: (listener) => {
      if (response.closed || socket.destroyed) return listener();
      // Of an answer that others stand before Node does not tell that its connection has ended.
      socket.setMaxListeners(0).once('close', listener);
      response.once('close', () => {
        socket.off('close', listener);
        listener();
      });
    },
    destroy: () => response.destroy(),
  };
}

function onHttp2(stream: ServerHttp2Stream): Outgoing {
  stream.on('error', () => {}); // who asked is gone
  return {
    respond: ({ status, headers, trailers }) => {
      stream.respond({ ...headers, ':status': status }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers(trailers()));
      return stream;
    },
    refuse: ({ status, body }) => {
      if (stream.headersSent || stream.closed || stream.destroyed) return void stream.destroy();
      stream.respond({ ':status': status, 'content-type': 'text/plain; charset=utf-8' });
      stream.end(body);
    },
    onClose: (listener) => (stream.closed ? listener() : stream.once('close', listener)),
    destroy: () => stream.destroy(),
  };
}

/** From the first to the last; each is destroyed when one of them fails. */
function pipe(streams: readonly (Readable | Writable | Duplex)[], onFailure: () => void): void {
  pipeline(streams as [Readable, Duplex, Writable], (error) => {
    if (error) onFailure();
  });
}

/** What is passed on of an answer, and what its body goes through first. */
function passOn(given: Answer, method: string, forms: readonly Buffer[]): { answer: Answer; through: Duplex[] } {
  const { status, body } = given;
  const headers = maskedFields(withoutHops(given.headers), forms);
  const trailers = () => maskedFields(withoutHops(given.trailers()), forms);
  const answer = { status, reason: masked(given.reason, forms), headers, trailers, body };
  // Also where it says that this is of one connection only.
  const { 'content-encoding': encoding = 'identity', 'transfer-encoding': transfer = 'chunked' } = given.headers;
  const hasNoBody = method === 'HEAD' || status === 204 || status === 304;
  if (forms.length === 0 || hasNoBody) return { answer, through: [] };
  const decoder = decoders[encoding.toLowerCase()];
  const isChunked = transfer.toLowerCase() === 'chunked';
  if (isChunked && encoding.toLowerCase() === 'identity') return { answer, through: [new Mask(forms)] };
  if (!decoder || !isChunked) {
    const reason = `the server answered in ${isChunked ? encoding : transfer}, which can't be looked into for secrets`;
    throw new Refusal(masked(reason, forms), '', { isFailure: true });
  }
  delete headers['content-encoding'];
  delete headers['content-length'];
  return { answer, through: [decoder(), new Mask(forms)] };
}

function maskedFields(headers: IncomingHttpHeaders, forms: readonly Buffer[]): IncomingHttpHeaders {
  if (forms.length === 0) return headers;
  // Names have become lower case.
  const ofNames = forms.map((form) => Buffer.from(form.toString('latin1').toLowerCase(), 'latin1'));
  const fields = Object.entries(headers).map(([name, value]) => [
    masked(name, ofNames),
    typeof value === 'string' ? masked(value, forms) : value?.map((one) => masked(one, forms)),
  ]);
  return Object.fromEntries(fields);
}

const decoders: Record<string, () => Duplex> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** As it was written, with its question mark. */
function queryOf(url: string): string {
  const [withoutFragment = ''] = url.split('#');
  const at = withoutFragment.indexOf('?');
  return at === -1 ? '' : withoutFragment.slice(at);
}

function withoutHops(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const isHop = hopsOf(headers.connection);
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':') && !isHop(name)));
}

function answerTo(error: unknown): { status: number; reason: string; body: string } {
  const { message = 'it failed', hint = '', isFailure = true, isMisdirected } = error as Partial<Refusal>;
  const status = isMisdirected ? 421 : isFailure ? 502 : 403;
  // Of a refused CONNECT most programs show this and not the body.
  const reason = `berth: ${message}${hint === '' ? '' : `; ${hint}`}`.slice(0, mostOfReason).replace(/[^ -~]/g, '?');
  return { status, reason, body: `berth: ${message}.\n${hint === '' ? '' : `${hint}.\n`}` };
}
