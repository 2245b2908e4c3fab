import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream';
import type { Target } from './decide.ts';
import { Refusal, relay } from './outgoing.ts';
import { rawAnswer } from './raw-answer.ts';

type Open = (target: Target) => Promise<Socket>;

/** Of one connection only (RFC 9110, section 7.6.1), and what is meant for a proxy. */
const hopByHop = new Set(
  'connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade'.split(
    ' ',
  ),
);

/** Speaks HTTP with programs: tunnels by CONNECT, and requests for whole URLs. */
export class HttpProxy {
  readonly #server: Server;
  readonly #open: Open;

  constructor(open: Open) {
    this.#open = open;
    this.#server = createServer();
    this.#server.on('request', (request, response) => void this.#request(request, response));
    this.#server.on('connect', (request, program: Duplex, head) => void this.#connect(request, program, head));
    this.#server.on('upgrade', (request, program: Duplex, head) => void this.#upgrade(request, program, head));
    this.#server.on('clientError', (_error, program: Duplex) => {
      if (program.writable) program.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      else program.destroy();
    });
  }

  serve(program: Duplex): void {
    this.#server.emit('connection', program);
  }

  async #connect({ url = '' }: IncomingMessage, program: Duplex, head: Buffer): Promise<void> {
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    const [, host, port] = /^(.+):(\d{1,5})$/.exec(url) ?? [];
    try {
      if (host === undefined) throw new Refusal(`CONNECT needs a host and a port, not ${JSON.stringify(url)}`);
      const socket = await this.#open({ host, port: Number(port) });
      program.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (head.length > 0) program.unshift(head);
      relay(program, socket);
    } catch (error) {
      program.end(rawAnswer(answerTo(error)));
    }
  }

  async #request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let socket: Socket | undefined;
    try {
      const url = urlOf(request);
      socket = await this.#open(targetOf(url, request));
      const upstream = httpRequest({
        createConnection: () => socket,
        method: request.method,
        path: `${url.pathname}${url.search}`,
        headers: passedOn(request, url),
        setHost: false,
      });
      upstream.on('upgrade', () => upstream.destroy()); // nobody asked for it
      upstream.on('response', (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.statusMessage, withoutHops(answer));
        pipeline(answer, response, () => upstream.destroy());
      });
      upstream.on('error', (error) => {
        if (response.headersSent) response.destroy();
        else refuse(response, new Refusal(`the connection broke: ${error.message}`, '', { isFailure: true }));
      });
      response.on('close', () => upstream.destroy());
      pipeline(request, upstream, () => {}); // what went wrong is told by `upstream`
    } catch (error) {
      socket?.destroy();
      refuse(response, error);
    }
  }

  /** A WebSocket, say: the request is passed on as it is, and then what both sides send. */
  async #upgrade(request: IncomingMessage, program: Duplex, head: Buffer): Promise<void> {
    program.on('error', () => {}); // it is destroyed, which whoever works on it notices
    try {
      const url = urlOf(request);
      const socket = await this.#open(targetOf(url, request));
      const headers = Object.entries({
        ...passedOn(request, url),
        connection: 'upgrade',
        upgrade: request.headers.upgrade,
      });
      const lines = headers.flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}: ${one}`));
      socket.write(
        [`${request.method} ${url.pathname}${url.search} HTTP/1.1`, ...lines, '', ''].join('\r\n'),
        'latin1',
      );
      if (head.length > 0) program.unshift(head);
      relay(program, socket);
    } catch (error) {
      program.end(rawAnswer(answerTo(error)));
    }
  }
}

/** @throws {Refusal} it is no request to a proxy */
function urlOf({ url = '' }: IncomingMessage): URL {
  if (/^http:\/\//i.test(url) && URL.canParse(url)) return new URL(url);
  throw new Refusal('this is a proxy: ask it for a whole URL that begins with http://, or by CONNECT');
}

function targetOf({ hostname, port, pathname }: URL, { method = 'GET' }: IncomingMessage): Target {
  return { host: hostname, port: Number(port || 80), request: { method, path: pathname } };
}

/** The host of the URL is the one that was decided on, whatever the header says. */
function passedOn(request: IncomingMessage, { host }: URL): Record<string, string | string[] | undefined> {
  return { ...withoutHops(request), host };
}

function withoutHops({ headers }: IncomingMessage): Record<string, string | string[] | undefined> {
  const named = new Set((headers.connection ?? '').toLowerCase().split(/\s*,\s*/));
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !hopByHop.has(name) && !named.has(name)));
}

function refuse(response: ServerResponse, error: unknown): void {
  const { status, body } = answerTo(error);
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
  response.end(body);
}

function answerTo(error: unknown): { status: number; reason: string; body: string } {
  const { message, hint = '', isFailure = true } = error as Partial<Refusal>;
  const body = `berth: ${message ?? 'it failed'}.\n${hint === '' ? '' : `${hint}.\n`}`;
  return isFailure
    ? { status: 502, reason: 'Bad Gateway', body }
    : { status: 403, reason: 'Forbidden by policy', body };
}
