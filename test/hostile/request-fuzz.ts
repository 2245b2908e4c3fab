import { once } from 'node:events';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as pass } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { inspect } from 'node:util';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { NetworkPolicy } from '../../src/sandbox/index.ts';
import { listening, type WayOut } from '../support/way-out.ts';
import { assertFor, type FuzzOptions } from './fuzz.ts';

const secret = 'a-secret-of-the-fuzz';
/** After this, nobody says anything more. */
const quietMs = 40;
/** How long an honest request may take, with all that is still under way. */
const honestMs = 30_000;

type Pieces = Record<string, Buffer>;

const text = (...lines: string[]) => Buffer.from(lines.join('\r\n'), 'latin1');
const number = (value: number, size: number) => {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
};
const type = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  more: 9,
};

/** Of HTTP/2 (RFC 9113, section 4.1). */
function frame(kind: keyof typeof type, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([number(payload.length, 3), Buffer.of(type[kind], flags), number(stream, 4), payload]);
}

/** Literal, without an index (RFC 7541, section 6.2.2). */
function fields(...all: [name: string, value: string][]): Buffer {
  const string = (value: string) => {
    const bytes = Buffer.from(value, 'latin1');
    if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
    const rest = bytes.length - 127;
    return Buffer.concat([Buffer.of(127, (rest & 127) | 128, rest >> 7), bytes]);
  };
  return Buffer.concat(all.flatMap(([name, value]) => [Buffer.of(0), string(name), string(value)]));
}

const streams = [1, 3, 5, 7];
const many = (piece: Buffer, times: number) => Buffer.concat(Array.from({ length: times }, () => piece));

/** What a program knows: where it wants to, and the placeholder that it has. */
interface Known {
  place: string;
  key: string;
}

const ofProgramInHttp1 = ({ place, key }: Known, origin = ''): Pieces => ({
  get: text(`GET ${origin}/x HTTP/1.1`, `Host: ${place}`, `X-Key: ${key}`, '', ''),
  head: text(`HEAD ${origin}/x HTTP/1.1`, `Host: ${place}`, '', ''),
  old: text(`GET ${origin}/x HTTP/1.0`, '', ''),
  post: text(`POST ${origin}/x HTTP/1.1`, `Host: ${place}`, 'Content-Length: 5', '', 'hello'),
  short: text(`POST ${origin}/x HTTP/1.1`, `Host: ${place}`, 'Content-Length: 50', '', 'hello'),
  chunked: text(
    `POST ${origin}/x HTTP/1.1`,
    `Host: ${place}`,
    'Transfer-Encoding: chunked',
    '',
    '5',
    'hello',
    '0',
    'X-T: 1',
    '',
    '',
  ),
  badChunk: text(`POST ${origin}/x HTTP/1.1`, `Host: ${place}`, 'Transfer-Encoding: chunked', '', 'zz', 'hello'),
  both: text(
    `POST ${origin}/x HTTP/1.1`,
    `Host: ${place}`,
    'Content-Length: 5',
    'Transfer-Encoding: chunked',
    '',
    '0',
    '',
    '',
  ),
  expect: text(`PUT ${origin}/x HTTP/1.1`, `Host: ${place}`, 'Expect: 100-continue', 'Content-Length: 5', '', 'hello'),
  upgrade: text(`GET ${origin}/x HTTP/1.1`, `Host: ${place}`, 'Connection: upgrade', 'Upgrade: websocket', '', ''),
  h2c: text(
    `GET ${origin}/x HTTP/1.1`,
    `Host: ${place}`,
    'Connection: upgrade',
    'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABk',
    '',
    '',
  ),
  connect: text(`CONNECT ${place} HTTP/1.1`, `Host: ${place}`, '', ''),
  other: text(`GET ${origin}/x HTTP/1.1`, 'Host: other.test', '', ''),
  fold: text(`GET ${origin}/x HTTP/1.1`, `Host: ${place}`, 'X-A: 1', ' 2', '', ''),
  wide: text(`GET ${origin}/x HTTP/1.1`, `Host: ${place}`, `X-A: ${'\u00e9'.repeat(100)}`, '', ''),
  noColon: text(`GET ${origin}/x HTTP/1.1`, 'Host', '', ''),
  endless: text(`GET ${origin}/x HTTP/1.1`, `X-A: ${'a'.repeat(30_000)}`),
  hops: text(
    `GET ${origin}/x HTTP/1.1`,
    `Host: ${place}`,
    'Connection: host, content-length, x-key',
    '__proto__: 1',
    '',
    '',
  ),
  large: Buffer.alloc(100_000, 'x'),
  garbage: Buffer.from('16030100ff000102030405060708090a', 'hex'),
  pipelined: many(text(`GET ${origin}/x HTTP/1.1`, `Host: ${place}`, '', ''), 60),
});
const prefaceText = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const ofProgramInHttp2 = ({ place, key }: Known): Pieces => {
  const ask = (method: string, path: string, ...more: [string, string][]) =>
    fields([':method', method], [':scheme', 'https'], [':path', path], [':authority', place], ...more);
  return {
    preface: Buffer.from(prefaceText),
    start: Buffer.concat([Buffer.from(prefaceText), frame('settings', 0, 0)]),
    acknowledged: frame('settings', 1, 0),
    noWindow: frame('settings', 0, 0, Buffer.concat([number(4, 2), number(0, 4)])),
    badSettings: frame('settings', 0, 0, Buffer.alloc(5)),
    settings: many(frame('settings', 0, 0), 2_000),
    pings: many(frame('ping', 0, 0, Buffer.alloc(8)), 2_000),
    window: frame('window', 0, 0, number(2 ** 31 - 1, 4)),
    noIncrement: frame('window', 0, 1, number(0, 4)),
    goaway: frame('goaway', 0, 0, Buffer.alloc(8)),
    push: frame('push', 4, 1, Buffer.alloc(8)),
    large: Buffer.concat([number(2 ** 24 - 1, 3), Buffer.of(0, 0, 0, 0, 0, 1)]),
    ...Object.fromEntries(
      streams.flatMap((stream) => [
        [`get ${stream}`, frame('headers', 5, stream, ask('GET', '/x', ['x-key', key]))],
        [`post ${stream}`, frame('headers', 4, stream, ask('POST', '/x'))],
        [`wrong length ${stream}`, frame('headers', 5, stream, ask('POST', '/x', ['content-length', '50']))],
        [`connect ${stream}`, frame('headers', 4, stream, fields([':method', 'CONNECT'], [':authority', `${place}`]))],
        [`other ${stream}`, frame('headers', 5, stream, ask('GET', 'http://other.test/'))],
        [`odd ${stream}`, frame('headers', 5, stream, ask('get', '/\\..\\x y', ['te', 'gzip'], ['__proto__', 'x']))],
        [`upper ${stream}`, frame('headers', 5, stream, fields(['X-A', '1']))],
        [`open ${stream}`, frame('headers', 0, stream, ask('GET', '/x'))],
        [`continued ${stream}`, many(frame('more', 0, stream, fields(['x-a', 'a'.repeat(100)])), 200)],
        [`data ${stream}`, frame('data', 0, stream, Buffer.alloc(1_000))],
        [`last ${stream}`, frame('data', 1, stream)],
        [`trailers ${stream}`, frame('headers', 5, stream, fields(['x-t', '1']))],
        [`reset ${stream}`, frame('reset', 0, stream, number(8, 4))],
        [
          `rapid ${stream}`,
          Buffer.concat(
            Array.from({ length: 60 }, (_, i) => 101 + stream * 1_000 + 2 * i).flatMap((one) => [
              frame('headers', 5, one, ask('GET', '/x')),
              frame('reset', 0, one, number(8, 4)),
            ]),
          ),
        ],
      ]),
    ),
  };
};
const ok = text('HTTP/1.1 200 OK', 'Content-Length: 2', '', 'ok');
const ofServerInHttp1: Pieces = {
  ok,
  echo: text('HTTP/1.1 200 OK', `X-Echo: ${secret}`, 'Content-Length: 20', '', secret),
  chunked: text('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', '', '2', 'ok', '0', 'X-T: 1', 'te: x', '', ''),
  badTrailers: text(
    'HTTP/1.1 200 OK',
    'Transfer-Encoding: chunked',
    '',
    '2',
    'ok',
    '0',
    ':status: 1',
    'x y: \x7f',
    '',
    '',
  ),
  badChunk: text('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', '', 'zz', 'ok'),
  coded: text('HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked', '', '2', 'ok', '0', '', ''),
  untilClose: text('HTTP/1.1 200 OK', '', 'some'),
  short: text('HTTP/1.1 200 OK', 'Content-Length: 50', '', 'ok'),
  empty: text('HTTP/1.1 204 No Content', '', ''),
  notModified: text('HTTP/1.1 304 Not Modified', 'Content-Length: 50', '', ''),
  reset: text('HTTP/1.1 205 Reset', 'Content-Length: 2', '', 'ok'),
  early: many(text('HTTP/1.1 103 Early Hints', 'Link: </x>', '', ''), 1_000),
  switched: text('HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: websocket', '', 'bytes'),
  odd: text(
    'HTTP/1.1 999 \x80\xff',
    'Set-Cookie: a',
    'Set-Cookie: b',
    'Connection: set-cookie',
    '__proto__: 1',
    '',
    'x',
  ),
  status0: text('HTTP/1.1 099 Low', 'Content-Length: 0', '', ''),
  wide: text('HTTP/1.1 200 OK', `X-A: \xe9\xff`, 'Content-Length: 0', '', ''),
  hop: text('HTTP/1.1 200 OK', 'Connection: close', 'Keep-Alive: x', 'Proxy-Connection: x', 'Upgrade: x', '', 'x'),
  gzip: Buffer.concat([text('HTTP/1.1 200 OK', 'Content-Encoding: gzip', '', ''), gzipSync(secret)]),
  bomb: Buffer.concat([text('HTTP/1.1 200 OK', 'Content-Encoding: gzip', '', ''), gzipSync(Buffer.alloc(2 ** 24))]),
  badGzip: text('HTTP/1.1 200 OK', 'Content-Encoding: gzip', '', 'no gzip'),
  badBrotli: text('HTTP/1.1 200 OK', 'Content-Encoding: br', 'Content-Length: 9', '', 'no brotli'),
  unknown: text('HTTP/1.1 200 OK', 'Content-Encoding: constructor', 'Content-Length: 2', '', 'ok'),
  endless: text('HTTP/1.1 200 OK', `X-A: ${'a'.repeat(30_000)}`),
  garbage: Buffer.from('no http at all\r\n\r\n'),
  large: Buffer.alloc(1_000_000, 'y'),
};
const ofServerInHttp2: Pieces = {
  start: frame('settings', 0, 0),
  acknowledged: frame('settings', 1, 0),
  none: frame('settings', 0, 0, Buffer.concat([number(3, 2), number(0, 4)])),
  noWindow: frame('settings', 0, 0, Buffer.concat([number(4, 2), number(0, 4)])),
  settings: many(frame('settings', 0, 0), 2_000),
  pings: many(frame('ping', 0, 0, Buffer.alloc(8)), 2_000),
  window: frame('window', 0, 0, number(2 ** 31 - 1, 4)),
  away: frame('goaway', 0, 0, Buffer.alloc(8)),
  awayLater: frame('goaway', 0, 0, Buffer.concat([number(2 ** 31 - 1, 4), number(0, 4)])),
  awayFailed: frame('goaway', 0, 0, Buffer.concat([number(1, 4), number(2, 4)])),
  garbage: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
  ...Object.fromEntries(
    streams.flatMap((stream) => [
      [`ok ${stream}`, frame('headers', 4, stream, Buffer.of(0x88))],
      [`empty ${stream}`, frame('headers', 5, stream, fields([':status', '204']))],
      [`early ${stream}`, many(frame('headers', 4, stream, fields([':status', '103'], ['link', 'x'])), 100)],
      [`switched ${stream}`, frame('headers', 4, stream, fields([':status', '101']))],
      [`odd ${stream}`, frame('headers', 4, stream, fields([':status', '999'], ['x-a', '\xe9'], ['__proto__', 'x']))],
      [`echo ${stream}`, frame('headers', 4, stream, fields([':status', '200'], ['x-echo', secret]))],
      [`gzip ${stream}`, frame('headers', 4, stream, fields([':status', '200'], ['content-encoding', 'gzip']))],
      [`continued ${stream}`, many(frame('more', 0, stream, fields(['x-a', 'a'.repeat(100)])), 200)],
      [`data ${stream}`, frame('data', 0, stream, Buffer.alloc(10_000, 'z'))],
      [`last ${stream}`, frame('data', 1, stream, Buffer.from(secret))],
      [`trailers ${stream}`, frame('headers', 5, stream, fields(['grpc-status', '0'], ['te', 'x'], ['x-t', '\xe9']))],
      [`reset ${stream}`, frame('reset', 0, stream, number(7, 4))],
      [
        `push ${stream}`,
        frame('push', 4, stream, Buffer.concat([number(2, 4), fields([':method', 'GET'], [':path', '/y'])])),
      ],
      [`noIncrement ${stream}`, frame('window', 0, stream, number(0, 4))],
    ]),
  ),
};

/** What one side does: says pieces, and leaves in some way. */
function side(pieces: Pieces, usual: string) {
  const piece = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...Object.keys(pieces)) },
    { weight: 2, arbitrary: fc.constant(usual) },
  );
  return fc.record({
    pieces: fc.array(piece, { maxLength: 6 }),
    /** Where the bytes are cut, so that they come one after the other. */
    cut: fc.option(fc.nat({ max: 200 }), { nil: 0 }),
    end: fc.constantFrom('stay', 'end', 'destroy'),
    reads: fc.boolean(),
  });
}
type Side = { pieces: string[]; cut: number; end: string; reads: boolean };

/** Names are the same whatever is known. */
const nowhere = { place: '', key: '' };
const programs = fc.oneof(
  ...(['h1 secure', 'h1', 'proxy'] as const).map((way) =>
    side(ofProgramInHttp1(nowhere), 'get').map((side) => ({ way: way as string, alpn: ['http/1.1'], side })),
  ),
  side(ofProgramInHttp2(nowhere), 'start').map((side) => ({
    way: 'h2',
    alpn: ['h2'],
    side: { ...side, pieces: ['start', ...side.pieces] },
  })),
  side(ofProgramInHttp1(nowhere), 'garbage').map((side) => ({ way: 'tunnel', alpn: ['unknown'], side })),
);
const servers = fc.record({
  speaks: fc.constantFrom('http/1.1', 'h2'),
  http1: side(ofServerInHttp1, 'ok'),
  http2: side(ofServerInHttp2, 'ok 1').map((side) => ({ ...side, pieces: ['start', ...side.pieces] })),
});
const conversations = fc.record({
  programs: fc.array(programs, { minLength: 1, maxLength: 3 }),
  server: servers,
  meanwhile: fc.constantFrom('nothing', 'nothing', 'the same policy', 'another policy'),
});

/** Says in the sandbox what it is told to, line by line. */
const player = `
const { connect } = require('node:net');
const { connect: secureOf } = require('node:tls');
process.on('uncaughtException', () => {});
const play = ({ to, way, alpn, bytes, cut, end, reads }, done) => {
  const socket = connect(3128, '127.0.0.1');
  const open = new Set([socket]);
  let patience;
  const finish = () => { clearTimeout(patience); for (const one of open) one.destroy(); done(); done = () => {}; };
  const touch = () => { clearTimeout(patience); patience = setTimeout(finish, ${quietMs}); };
  const speak = (stream) => {
    stream.on('error', finish).on('close', finish);
    if (reads) stream.on('data', touch);
    const all = Buffer.from(bytes, 'base64');
    const parts = cut > 0 && cut < all.length ? [all.subarray(0, cut), all.subarray(cut)] : [all];
    const next = () => {
      touch();
      const part = parts.shift();
      if (part) return void stream.write(part, () => setImmediate(next));
      if (end === 'end') stream.end();
      if (end === 'destroy') finish();
    };
    next();
  };
  socket.on('error', finish).on('close', finish);
  touch();
  if (way === 'proxy') return speak(socket);
  socket.write('CONNECT ' + to + ' HTTP/1.1\\r\\n\\r\\n');
  socket.once('data', () => {
    if (way === 'h1' || way === 'tunnel') return speak(socket);
    patience.refresh();
    const secure = secureOf({ socket, rejectUnauthorized: false, ALPNProtocols: alpn });
    open.add(secure);
    secure.on('error', finish);
    clearTimeout(patience);
    patience = setTimeout(finish, 5_000);
    secure.once('secureConnect', () => speak(secure));
  });
};
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const all = JSON.parse(line);
  let left = all.length;
  for (const one of all) play(one, () => { if (--left === 0) console.log('done'); });
});`;

/**
 * Has programs of a sandbox and a server say anything to the host that looks into their requests, and throws with the
 * shortest conversation that it can find after which the host has an error that nobody caught, or serves nobody any more.
 */
export async function fuzzRequests({ host, authority }: WayOut, options: FuzzOptions): Promise<void> {
  let script: { speaks: string; http1: Side; http2: Side } | undefined;
  const open = new Set<Socket>();
  const certificate = await authority.certificateFor('api.test');
  const server = createTlsServer({
    ...certificate,
    ALPNCallback: ({ protocols }) => (protocols.includes(script?.speaks ?? '') ? script?.speaks : 'http/1.1'),
  });
  server.on('connection', (socket) => open.add(socket.once('close', () => open.delete(socket))));
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      if (!script) return void socket.end(ok);
      const isHttp2 = socket.alpnProtocol === 'h2';
      const { pieces, cut, end, reads } = isHttp2 ? script.http2 : script.http1;
      const all = bytesOf(isHttp2 ? ofServerInHttp2 : ofServerInHttp1, pieces);
      if (!reads) socket.pause();
      if (cut > 0) socket.write(all.subarray(0, cut));
      if (end === 'destroy') socket.write(all.subarray(cut), () => socket.destroy());
      else if (end === 'end') socket.end(all.subarray(cut));
      else socket.write(all.subarray(cut));
    });
  });
  server.on('tlsClientError', () => {});
  const port = await listening(server);
  const place = `api.test:${port}`;
  const policy: NetworkPolicy = {
    allow: [place, `127.0.0.1:${port}`],
    secrets: [{ name: 'KEY', value: secret, hosts: [place] }],
  };
  const sandbox = await host.create({ network: policy });
  const key = (await sandbox.exec('printf %s "$KEY"')).stdout;
  const known = { place, key };
  const inHttp2 = ofProgramInHttp2(known);
  const playing = await sandbox.spawn(['node', '-e', player]);
  const lines = createInterface({ input: playing.stdout })[Symbol.asyncIterator]();
  const stray: unknown[] = [];
  const onStray = (error: unknown) => void stray.push(error);
  process.on('unhandledRejection', onStray).on('uncaughtException', onStray);
  try {
    await assertFor(
      fc.asyncProperty(conversations, async ({ programs, server, meanwhile }) => {
        script = server;
        const told = programs.map(({ way, alpn, side: { pieces, ...side } }) => {
          const origin = way === 'proxy' ? `http://${place}` : '';
          const bytes = bytesOf(way === 'h2' ? inHttp2 : ofProgramInHttp1(known, origin), pieces);
          return { to: place, way, alpn, bytes: bytes.toString('base64'), ...side };
        });
        playing.stdin.write(`${JSON.stringify(told)}\n`);
        if (meanwhile !== 'nothing') {
          await pass(quietMs / 2);
          if (meanwhile === 'another policy') await sandbox.setNetwork({ allow: ['other.test'] });
          await sandbox.setNetwork(policy);
        }
        await lines.next();
        script = undefined;
        for (const socket of open) socket.destroy();
        const answer = await sandbox.exec(['curl', '-sS', `https://${place}/`], { timeout: honestMs });
        if (stray.length > 0) throw new Error(`nobody caught ${inspect(stray.splice(0))}`);
        if (answer.stdout !== 'ok') throw new Error(`an honest program got ${inspect(answer)}`);
      }),
      options,
    );
  } finally {
    process.off('unhandledRejection', onStray).off('uncaughtException', onStray);
    await sandbox.remove();
    for (const socket of open) socket.destroy();
    server.close();
    await once(server, 'close');
  }
}

function bytesOf(known: Pieces, names: readonly string[]): Buffer {
  return Buffer.concat(names.map((name) => known[name] ?? Buffer.alloc(0)));
}
