import { once } from 'node:events';
import { createServer as createHttpsServer } from 'node:https';
import type { Server, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type { NetworkDecision, NetworkPolicy, Sandbox } from '../../src/sandbox/index.ts';
import { listening, openWayOut, say, type WayOut } from '../support/way-out.ts';

// What programs and servers do to the host where it looks into requests.

let out: WayOut;
beforeAll(async () => {
  out = await openWayOut();
});
afterAll(() => out[Symbol.asyncDispose]());

async function serve(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return listening(server);
}

/** Over TLS, in bytes: calls back with all that one connection has said since it was last called. */
async function serveBytes(onBytes: (socket: Socket, said: string, connection: number) => void): Promise<number> {
  let connections = 0;
  const server = createTlsServer(await out.authority.certificateFor('api.test'), (socket) => {
    const connection = ++connections;
    socket.on('error', () => {});
    socket.on('data', (chunk) => onBytes(socket, chunk.toString('latin1'), connection));
  });
  return serve(server);
}

async function sandboxWith(policy: NetworkPolicy): Promise<{ sandbox: Sandbox; decisions: NetworkDecision[] }> {
  const sandbox = await out.host.create({ network: policy });
  onTestFinished(() => sandbox.remove());
  const decisions: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => decisions.push(decision));
  return { sandbox, decisions };
}

function readsOnly(port: number): NetworkPolicy {
  return { allow: [{ host: 'api.test', ports: [port], methods: ['GET'], paths: ['/repos/'] }, `127.0.0.1:${port}`] };
}

function anyMethod(port: number): NetworkPolicy {
  return { allow: [{ host: 'api.test', ports: [port], paths: ['/'] }, `127.0.0.1:${port}`] };
}

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

test('the connection to a server is kept, and one that the server has closed meanwhile is made anew', async () => {
  const seen: string[] = [];
  const port = await serveBytes((socket, said, connection) => {
    const path = said.split(' ')[1];
    seen.push(`${connection} ${path}`);
    if (path === '/repos/3' && connection === 1) socket.destroy();
    else if (path === '/repos/4') socket.end(ok);
    else socket.write(ok);
  });
  const { sandbox } = await sandboxWith(readsOnly(port));
  const url = `https://api.test:${port}/repos`;
  const { stdout } = await sandbox.exec(`curl -sS --http1.1 ${url}/1 ${url}/2 ${url}/3 ${url}/4 ${url}/5`);
  expect(stdout).toBe('ok'.repeat(5));
  expect(seen).toEqual(['1 /repos/1', '1 /repos/2', '1 /repos/3', '2 /repos/3', '2 /repos/4', '3 /repos/5']);
});

test('a server that agrees to a WebSocket and goes on to speak HTTP is not asked for anything else', async () => {
  const seen: string[] = [];
  const port = await serveBytes((socket, said) => {
    seen.push(said);
    socket.write(said.startsWith('GET') ? 'HTTP/1.1 101 Whatever was asked for\r\n\r\n' : ok);
  });
  const { sandbox } = await sandboxWith(readsOnly(port));
  const handshake = [
    ...['GET /repos/status/101 HTTP/1.1', `Host: api.test:${port}`, 'Connection: upgrade', 'Upgrade: websocket'],
    ...['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==', '', ''],
  ].join('\r\n');
  const text = `${handshake}POST /users HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n`;
  expect(await say(sandbox, { to: `api.test:${port}`, say: text })).toContain('something else than WebSocket');
  expect(seen.join('')).not.toContain('POST');
});

test('an offer of another protocol is left out, and the request with its body goes on as it is', async () => {
  const bodies: string[] = [];
  const server = createHttpsServer(await out.authority.certificateFor('api.test'), async (request, response) => {
    let body = `${request.method} ${request.headers.upgrade} `;
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    response.end('ok');
  });
  const port = await serve(server);
  const { sandbox } = await sandboxWith(anyMethod(port));
  const one = (upgrade: string, body: string) =>
    `POST / HTTP/1.1\r\nHost: api.test:${port}\r\nConnection: upgrade\r\nUpgrade: ${upgrade}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  // Two on one connection, as the first is not the end of it.
  const text = one('h2c', 'first') + one('websocket', 'last');
  await say(sandbox, { to: `api.test:${port}`, say: text, until: 'ok' });
  await expect.poll(() => bodies).toEqual(['POST undefined first', 'POST undefined last']);
});

test('a WebSocket is cut by a policy that does not allow it any more, and told of when it has ended', async () => {
  const server = createHttpsServer(await out.authority.certificateFor('api.test'));
  const sockets = new WebSocketServer({ server });
  const port = await serve(server);
  const { sandbox, decisions } = await sandboxWith(anyMethod(port));
  const connected = once(sockets, 'connection');
  const handshake = [
    ...['GET / HTTP/1.1', `Host: api.test:${port}`, 'Connection: upgrade', 'Upgrade: websocket'],
    ...['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==', '', ''],
  ].join('\r\n');
  const said = say(sandbox, { to: `api.test:${port}`, say: handshake });
  const [socket] = await connected;
  expect(decisions).toEqual([]);
  const closed = once(socket, 'close');
  await sandbox.setNetwork({ allow: ['other.test'] });
  await closed;
  await said;
  await expect.poll(() => decisions.length).toBe(1);
});

test('a program that asks for more and more without an answer is cut off', async () => {
  let asked = 0;
  const port = await serveBytes((_socket, said) => {
    asked += said.split('GET').length - 1;
  });
  const { sandbox } = await sandboxWith(readsOnly(port));
  const many = `GET /repos/x HTTP/1.1\r\nHost: api.test:${port}\r\n\r\n`.repeat(2_000);
  expect(await say(sandbox, { to: `api.test:${port}`, say: many })).toBe('');
  expect(asked).toBeLessThanOrEqual(100);
});

test('an answer that could hide a secret from the host is refused, and no part of one is asked for', async () => {
  const value = 'ghp_0123456789abcdef';
  const heads: Record<string, string> = {
    '/name': `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-${value}: 1\r\n\r\n`,
    '/coded': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    '/hop': `HTTP/1.1 200 OK\r\nConnection: content-encoding\r\nContent-Encoding: zstd\r\nContent-Length: 2\r\n\r\nok`,
    '/range': ok,
  };
  let seen = '';
  const port = await serveBytes((socket, said) => {
    seen += said;
    const [, path = ''] = said.split(' ');
    socket.write(heads[path] ?? ok);
  });
  const place = `api.test:${port}`;
  const secrets = [{ name: 'KEY', value, hosts: [place] }];
  const { sandbox } = await sandboxWith({ allow: [place, `127.0.0.1:${port}`], secrets });
  const get = async (path: string) =>
    (await sandbox.exec(`curl -sS -i -H "X-Key: $KEY" -H 'Range: bytes=3-9' https://${place}${path}`)).stdout;
  expect(await get('/name')).toContain(`x-${'*'.repeat(value.length)}: 1`);
  expect(await get('/coded')).toContain('the server answered in gzip, chunked');
  expect(await get('/hop')).toContain('the server answered in zstd');
  expect(await get('/range')).toContain(' 200');
  expect(seen).toContain(`x-key: ${value}`);
  expect(seen).not.toContain('range:');
});
