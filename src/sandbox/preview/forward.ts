import { type ClientRequest, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { hasBody, hopsOf } from '../network/http-fields.ts';
import { relay } from '../network/outgoing.ts';
import { sendBody } from '../network/send-body.ts';
import { type Asked, isTokenCookie, ownCookies, tokenHeader, tokenParameter } from './access.ts';

/** Of the head of a request or an answer; what is larger is refused. Node's own is 16 KiB, which cookies may fill. */
export const maxHeadBytes = 64 * 1024;

type Headers = Record<string, string | string[] | undefined>;

/** A server in a sandbox. */
export interface Upstream {
  port: number;
  dial: () => Promise<Duplex>;
  /**
   * What stands in front of the paths that the server knows, as in `/sandboxes/a/ports/80`. All servers with one share an
   * origin: they get no cookies, and a browser gives their pages no origin.
   */
  prefix: string;
}

/** What would be said for more than the one server: of its site, which others are part of, or of a connection that is not its own. */
const ofOthers = ['clear-site-data', 'strict-transport-security'];

/** Who asked, and for what, as a proxy says it: what a client says there is dropped. */
const forwarded = /^(x-forwarded-.*|forwarded|x-real-ip)$/;

/** What the server in the sandbox sent can't be passed on. */
export class BadAnswer extends Error {}

/**
 * Passes a request on, and its answer back, each as fast as it is taken. A connection to the sandbox serves one request:
 * another one costs a message, and nothing that a server sends there can come between a request and an answer of others.
 * @throws before anything was answered
 */
export async function forward(
  request: IncomingMessage,
  response: ServerResponse,
  asked: Asked,
  upstream: Upstream,
): Promise<void> {
  const connection = await dialFor(response, upstream);
  const sent = send(request, asked, upstream, connection, {});
  if (hasBody(request)) sent.flushHeaders(); // the server may answer before there is a body
  sendBody(request, sent);
  const answer = await answerTo(sent);
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer, upstream));
  response.flushHeaders(); // events may be long in coming
  pipeline(answer, response, () => {}); // what breaks off here does so there
}

/** As `forward`, for a request without a body for another protocol, as WebSocket: then both sides say what they want. */
export async function forwardUpgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  asked: Asked,
  upstream: Upstream,
): Promise<void> {
  const connection = await dialFor(socket, upstream);
  const sent = send(request, asked, upstream, connection, { connection: 'Upgrade', upgrade: request.headers.upgrade });
  const upgraded = new Promise<{ answer: IncomingMessage; first: Buffer }>((resolve) => {
    sent.once('upgrade', (answer, _duplex, first) => resolve({ answer, first }));
  });
  sent.end();
  const unwatch = whenEnded(socket, () => socket.destroy());
  const answer = await Promise.race([answerTo(sent), upgraded]).finally(unwatch);
  if ('first' in answer) {
    const { upgrade } = answer.answer.headers;
    socket.write(headOf(answer.answer, upstream, { connection: 'Upgrade', upgrade }), 'latin1');
    if (answer.first.length > 0) connection.unshift(answer.first);
    if (head.length > 0) socket.unshift(head);
    relay(socket, connection);
    return;
  }
  // Its end is that of the connection: what follows on it is no request that was let in.
  socket.write(headOf(answer, upstream, { connection: 'close' }), 'latin1');
  pipeline(answer, socket, () => {}); // as above
  socket.resume();
}

/** Connects for a client, and ends that with it, whatever is still under way: a server that does not close its side keeps nothing. */
async function dialFor(client: ServerResponse | Duplex, { dial }: Upstream): Promise<Duplex> {
  const connection = await dial();
  if (client.destroyed) {
    connection.destroy();
    throw new Error('who asked is gone');
  }
  client.once('close', () => connection.destroy());
  return connection;
}

/**
 * Notices that the client has closed its side while nothing is read of it: what it says before it is answered is kept.
 * @returns ends that
 */
function whenEnded(client: Duplex, onEnd: () => void): () => void {
  const look = () => {
    if (client.readableLength === 0) client.read();
  };
  client.on('readable', look).once('end', onEnd);
  return () => client.off('readable', look).off('end', onEnd);
}

function send(
  request: IncomingMessage,
  { host, target }: Asked,
  { prefix }: Upstream,
  connection: Duplex,
  more: Headers,
): ClientRequest {
  const { remoteAddress, localPort } = request.socket;
  const sent = httpRequest({
    createConnection: () => connection as Socket, // of a socket's own methods Node calls none where it keeps no connection
    method: request.method,
    path: target.slice(prefix.length),
    maxHeaderSize: maxHeadBytes,
    setHost: false,
    headers: {
      ...requestHeaders(request, prefix),
      // As the browser has it, so that it fits its `Origin`, and redirects and cookies lead back here. Development servers
      // (Vite, webpack, Next.js, Django, Rails) take names below localhost and addresses without being told.
      host,
      'x-forwarded-for': remoteAddress,
      'x-forwarded-host': host,
      'x-forwarded-proto': 'http',
      'x-forwarded-port': String(localPort),
      ...(prefix !== '' && { 'x-forwarded-prefix': prefix }),
      connection: 'close',
      ...(request.headers['transfer-encoding'] !== undefined && { 'transfer-encoding': 'chunked' }),
      ...more,
    },
  });
  connection.once('close', () => sent.destroy());
  sent.maxHeadersCount = 0; // as of requests
  sent.on('error', () => {}); // told by `answerTo`; later on it is the answer that breaks off
  return sent;
}

function answerTo(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once('response', (answer) => {
      if ((answer.statusCode ?? 0) < 200) reject(new BadAnswer('its status is none'));
      resolve(answer);
    });
    // Without a listener Node would take it for an answer.
    if (sent.listenerCount('upgrade') === 0) {
      sent.once('upgrade', () => reject(new BadAnswer('it speaks another protocol than was asked for')));
    }
    sent.once('error', (cause) => reject(new BadAnswer(`it gave no answer in HTTP: ${cause.message}`, { cause })));
    sent.once('close', () => reject(new BadAnswer('it closed the connection')));
  });
}

function requestHeaders(request: IncomingMessage, prefix: string): Headers {
  const headers = endToEnd(request);
  for (const name of Object.keys(headers)) if (forwarded.test(name)) delete headers[name];
  delete headers[tokenHeader];
  const cookie = prefix === '' ? ownCookies(request.headers.cookie ?? '') : '';
  delete headers.cookie;
  if (cookie !== '') headers.cookie = cookie;
  if (request.headers.referer?.includes(`${tokenParameter}=`)) delete headers.referer;
  return headers;
}

function answerHeaders(answer: IncomingMessage, { prefix }: Upstream): Headers {
  const headers = endToEnd(answer);
  const { 'set-cookie': cookies, location } = answer.headers;
  for (const name of ['set-cookie', ...ofOthers]) delete headers[name];
  if (prefix === '') {
    // One for a domain would be one for other sandboxes, too; one in place of the token's would lock out who has that.
    const own = cookies?.filter((cookie) => !isTokenCookie(cookie));
    if (own) headers['set-cookie'] = own.map((cookie) => cookie.replace(/;\s*domain\s*=[^;]*/gi, ''));
    return headers;
  }
  if (location?.startsWith('/') && !location.startsWith('//') && !location.startsWith(`${prefix}/`)) {
    headers.location = prefix + location;
  }
  const policy = 'sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads';
  headers['content-security-policy'] = [headers['content-security-policy'] ?? [], policy].flat().map(String);
  return headers;
}

function endToEnd({ headersDistinct, headers }: IncomingMessage): Headers {
  const isHop = hopsOf(headers.connection);
  const kept = Object.entries(headersDistinct).filter(([name]) => !isHop(name));
  return Object.fromEntries(kept.map(([name, values = []]) => [name, values.length === 1 ? values[0] : values]));
}

/** For a connection that no server of Node answers on. */
function headOf(answer: IncomingMessage, upstream: Upstream, more: Headers): string {
  const headers = { ...answerHeaders(answer, upstream), ...more };
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    [value ?? []].flat().map((one) => `${name}: ${one}`),
  );
  return `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines.join('\r\n')}\r\n\r\n`;
}
