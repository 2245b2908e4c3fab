import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { expect, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import type { Exposed, Sandbox } from '../../../src/sandbox/index.ts';
import { listenInside } from '../../support/listen-inside.ts';
import { test } from '../../support/sandbox-fixture.ts';

const token = 'a-token.of_this~test';
const MiB = 1024 * 1024;

async function expose(sandbox: Sandbox): Promise<Exposed> {
  const exposed = await sandbox.expose(8080, { token });
  onTestFinished(() => exposed.close());
  return exposed;
}

/** As `fetch`, which does not let every header be set, nor says all of them. */
async function ask({ port }: Exposed, path: string, options: RequestOptions & { body?: string } = {}) {
  const { body, ...rest } = options;
  const asked = httpRequest({ host: '127.0.0.1', port, path, ...rest });
  asked.end(body);
  asked.on('error', () => {}); // told by `once`; with the end of a test that of a body that nobody reads
  const [answer]: [IncomingMessage] = (await once(asked, 'response')) as [IncomingMessage]; // of node:http
  return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
}

const withToken = { 'x-berth-token': token };
/** Answers with what it was asked. */
const mirror = `http.createServer((request, answer) => {
  answer.setHeader('set-cookie', ['a=1; Domain=localhost; Path=/', 'b=2']);
  let body = '';
  request.on('data', (chunk) => { body += chunk; });
  request.on('end', () => answer.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, body })));
})`;
interface Mirrored {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}
const seen = async (answer: Promise<{ body: string }>): Promise<Mirrored> => JSON.parse((await answer).body);

test('a token lets in, by a header, in the URL and by the cookie that a browser has of it; none of them is passed on', async ({
  shared: sandbox,
}) => {
  await listenInside(sandbox, 8080, mirror);
  const exposed = await expose(sandbox);
  expect(exposed.token).toBe(token);
  const html = { accept: 'text/html,*/*' };
  for (const [path, headers] of [
    ['/', {}],
    ['/?berth_token=wrong-token-wrong-token', {}],
    ['/', { 'x-berth-token': 'wrong' }],
    ['/', { cookie: `berth_${exposed.port}=${token}` }],
  ] as const) {
    const refused = await ask(exposed, path, { headers });
    expect([refused.status, refused.body]).toEqual([401, expect.stringContaining('berth: a token is needed')]);
  }
  expect((await ask(exposed, '/', { headers: html })).body).toMatch(/^<!doctype html>.*<h1>A token is needed<\/h1>/s);

  const byHeader = await seen(ask(exposed, '/a?b=c', { headers: withToken }));
  expect(byHeader.url).toBe('/a?b=c');
  const byUrl = await seen(
    ask(exposed, `/a?x=%20&berth_token=${token}&y`, { headers: { referer: `/?berth_token=${token}` } }),
  );
  expect(byUrl.url).toBe('/a?x=%20&y');
  expect(JSON.stringify([byHeader, byUrl])).not.toContain(token);

  const inBrowser = await ask(exposed, `//evil.example/\\?berth_token=${token}&q=1`, { headers: html });
  expect(inBrowser).toMatchObject({ status: 303, headers: { location: '/evil.example/\\?q=1' } });
  const [cookie = ''] = inBrowser.headers['set-cookie'] ?? [];
  expect(cookie).toMatch(new RegExp(`^berth_${exposed.port}=[\\w-]{43}; Path=/; HttpOnly; SameSite=Lax$`));
  const [pair = ''] = cookie.split(';');
  const byCookie = await seen(
    ask(exposed, '/', { headers: { ...html, cookie: `own=1; ${pair}; berth_1=x; other=2` } }),
  );
  expect(byCookie.headers.cookie).toBe('own=1; other=2');
  // It is that of one host and port.
  const elsewhere = await ask(exposed, '/', { headers: { host: `a.localhost:${exposed.port}`, cookie: pair } });
  expect(elsewhere.status).toBe(401);
  for (const given of ['short', `${token}/`, 5 as never]) {
    await expect(sandbox.expose(8080, { token: given })).rejects.toMatchObject({ name: 'InvalidOptionsError' });
  }
  await using own = await sandbox.expose(8080, { token: true });
  expect(own.token).toMatch(/^[\w-]{32}$/);
  expect((await ask(own, '/', { headers: { 'x-berth-token': own.token } })).status).toBe(200);
});

test('the server sees who asked and by which host, and nothing that the client says of that or of its connection', async ({
  shared: sandbox,
}) => {
  await listenInside(sandbox, 8080, mirror);
  const exposed = await expose(sandbox);
  const host = `Some.localhost:${exposed.port}`;
  const answer = await ask(exposed, '/', {
    method: 'POST',
    headers: {
      ...withToken,
      host,
      'x-forwarded-for': '8.8.8.8',
      'x-forwarded-user': 'root',
      forwarded: 'for=8.8.8.8',
      'x-real-ip': '8.8.8.8',
      connection: 'keep-alive, x-hop',
      'x-hop': 'gone',
      te: 'trailers',
      expect: '100-continue',
      'x-twice': ['one', 'two'],
      'transfer-encoding': 'chunked',
    },
    body: 'hello',
  });
  const { method, headers, body } = await seen(Promise.resolve(answer));
  expect({ method, body }).toEqual({ method: 'POST', body: 'hello' });
  expect(headers).toEqual({
    host: host.toLowerCase(),
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': host.toLowerCase(),
    'x-forwarded-proto': 'http',
    'x-forwarded-port': `${exposed.port}`,
    'x-twice': 'one, two',
    'transfer-encoding': 'chunked',
    connection: 'close',
  });
  // Not for the domain: that has other sandboxes, too.
  expect(answer.headers['set-cookie']).toEqual(['a=1; Path=/', 'b=2']);
});

test('who is not asked for by a name of this machine, or asks from another site, is refused', async ({
  shared: sandbox,
}) => {
  await listenInside(sandbox, 8080, mirror);
  const exposed = await expose(sandbox);
  const page = await ask(exposed, `/?berth_token=${token}`, { headers: { accept: 'text/html' } });
  const cookie = page.headers['set-cookie']?.[0]?.split(';')[0];
  const status = async (headers: Record<string, string>, method = 'GET') =>
    (await ask(exposed, '/', { method, headers: { ...(cookie && { cookie }), ...headers } })).status;
  for (const host of [
    'evil.example',
    `localhost.evil.example:${exposed.port}`,
    'evil@localhost',
    '127.0.0.1.evil.example',
    'localhost.',
    `0.0.0.0:${exposed.port}`,
    `[::]:${exposed.port}`,
    `[::ffff:7f00:1]:${exposed.port}`,
  ]) {
    expect(await status({ host, ...withToken })).toBe(421);
  }
  const origin = exposed.url;
  for (const allowed of [
    {},
    { origin },
    { 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' },
    // A link to it, or a frame.
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors', origin: 'https://evil.example', ...withToken },
  ]) {
    expect([allowed, await status(allowed)]).toEqual([allowed, 200]);
  }
  for (const refused of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: `http://127.0.0.1:${exposed.port + 1}` },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', referer: 'https://evil.example/' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors', origin: 'http://localhost:3000' },
  ]) {
    expect([refused, await status(refused)]).toEqual([refused, 403]);
  }
  expect(await status({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', origin: 'null' }, 'POST')).toBe(
    403,
  );
  const socket = new WebSocket(exposed.url.replace('http', 'ws'), {
    headers: { cookie: `${cookie}` },
    origin: 'https://evil.example',
  });
  const [error] = (await once(socket, 'error')) as [Error];
  expect(error.message).toContain('403');
  const absolute = connect(exposed.port, '127.0.0.1');
  absolute.end(`GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nX-Berth-Token: ${token}\r\n\r\n`);
  expect(await text(absolute)).toMatch(/^HTTP\/1\.1 400 /);
});

test('bodies of 256 MiB pass both ways with constant memory, and connections are kept for more requests', async ({
  shared: sandbox,
}) => {
  await listenInside(
    sandbox,
    8080,
    `http.createServer((request, answer) => {
      const hash = require('crypto').createHash('sha256');
      if (request.method === 'POST') {
        request.on('data', (chunk) => hash.update(chunk));
        request.on('end', () => answer.end(hash.digest('hex')));
        return;
      }
      const piece = require('crypto').randomBytes(1024 * 1024);
      const pieces = (function* () {
        for (let i = 0; i < 256; i++) { hash.update(piece); yield piece; }
      })();
      answer.writeHead(200, { 'content-length': 256 * piece.length, 'x-piece': require('crypto').createHash('sha256').update(piece).digest('hex') });
      require('stream').Readable.from(pieces).pipe(answer);
    })`,
  );
  const exposed = await expose(sandbox);
  const piece = randomBytes(MiB);
  const sent = createHash('sha256');
  const upload = function* () {
    for (let i = 0; i < 256; i++) {
      sent.update(piece);
      yield piece;
    }
  };
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers);
  }, 20);
  onTestFinished(() => clearInterval(watch));
  const asked = httpRequest({ port: exposed.port, host: '127.0.0.1', method: 'POST', headers: withToken });
  const answered = once(asked, 'response') as Promise<[IncomingMessage]>;
  await pipeline(Readable.from(upload()), asked);
  expect(await text((await answered)[0])).toBe(sent.digest('hex'));

  const [answer] = (await once(
    httpRequest({ port: exposed.port, host: '127.0.0.1', headers: withToken }).end(),
    'response',
  )) as [IncomingMessage];
  const received = createHash('sha256');
  let [bytes, pieces, isSame] = [0, createHash('sha256'), true];
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    for (let rest = chunk; rest.length > 0; ) {
      const part = rest.subarray(0, MiB - (bytes % MiB));
      pieces.update(part);
      bytes += part.length;
      if (bytes % MiB === 0) {
        isSame &&= pieces.digest('hex') === answer.headers['x-piece'];
        pieces = createHash('sha256');
      }
      rest = rest.subarray(part.length);
    }
    received.update(chunk);
  }
  expect([bytes, isSame]).toEqual([256 * MiB, true]);
  expect(most).toBeLessThan(128 * MiB);

  const socket = connect(exposed.port, '127.0.0.1');
  const once200 = async () => {
    socket.write(`POST / HTTP/1.1\r\nHost: localhost\r\nX-Berth-Token: ${token}\r\nContent-Length: 2\r\n\r\nhi`);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    return chunk.toString();
  };
  for (let i = 0; i < 3; i++) expect(await once200()).toMatch(/^HTTP\/1\.1 200 .*Connection: keep-alive/s);
  socket.destroy();
});

test('events come as they are sent, a WebSocket goes both ways, and an upgrade that is refused is an answer', async ({
  shared: sandbox,
}) => {
  await listenInside(
    sandbox,
    8080,
    `http.createServer((request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\\n\\n');
      request.on('close', () => process.exit());
    }).on('upgrade', (request, socket) => {
      if (request.url === '/no') return socket.end('HTTP/1.1 404 Not Found\\r\\nContent-Length: 4\\r\\nConnection: keep-alive\\r\\n\\r\\nnone');
      const key = require('crypto').createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\n');
      const say = (text) => socket.write(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
      say(request.url);
      socket.on('data', (data) => {
        if ((data[0] & 15) === 8) return socket.end(Buffer.from([0x88, 0]));
        say(Buffer.from(data.subarray(6).map((byte, i) => byte ^ data[2 + i % 4])).toString().toUpperCase());
      });
    })`,
  );
  const exposed = await expose(sandbox);
  const socket = new WebSocket(`${exposed.url.replace('http', 'ws')}/chat?berth_token=${token}&room=1`, {
    perMessageDeflate: false,
  });
  const next = async () => String((await once(socket, 'message'))[0]);
  expect(await next()).toBe('/chat?room=1');
  for (const said of ['one', 'two']) {
    socket.send(said);
    expect(await next()).toBe(said.toUpperCase());
  }
  socket.close();
  await once(socket, 'close');

  const refused = await ask(exposed, '/no', { headers: { ...withToken, connection: 'upgrade', upgrade: 'websocket' } });
  expect(refused).toMatchObject({ status: 404, body: 'none', headers: { connection: 'close' } });
  const withBody = await ask(exposed, '/', {
    method: 'POST',
    headers: { ...withToken, connection: 'upgrade', upgrade: 'h2c', 'content-length': 2 },
    body: 'hi',
  });
  expect(withBody.status).toBe(400);
  const events = await fetch(exposed.url, { headers: withToken });
  const reader = events.body?.getReader();
  expect(Buffer.from((await reader?.read())?.value ?? '').toString()).toBe('data: first\n\n');
  const closed = new Promise<void>((resolve) => {
    sandbox.observePorts(({ state }) => state === 'closed' && resolve());
  });
  await reader?.cancel();
  await closed; // the server has noticed that nobody listens any more
});

test('a hostile answer ends its request with 502, and no other', async ({ shared: sandbox }) => {
  await listenInside(
    sandbox,
    8080,
    `require('net').createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (data) => {
        const path = String(data).split(' ')[1];
        const flood = (text) => { const go = () => { while (socket.writable && socket.write(text)); socket.once('drain', go); }; go(); };
        if (path === '/no-http') socket.end('no HTTP at all\\r\\n\\r\\n');
        else if (path === '/nothing') socket.end();
        else if (path === '/reset') socket.resetAndDestroy();
        else if (path === '/endless-headers') { socket.write('HTTP/1.1 200 OK\\r\\n'); flood('x-header: ' + 'y'.repeat(1000) + '\\r\\n'); }
        else if (path === '/status') socket.end('HTTP/1.1 099 Low\\r\\n\\r\\n');
        else if (path === '/upgrade') socket.end('HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\n');
        else if (path === '/both') socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n');
        else if (path === '/split') socket.end('HTTP/1.1 200 OK\\r\\nx: a\\rset-cookie: b=c\\r\\nContent-Length: 0\\r\\n\\r\\n');
        else if (path === '/two') socket.write('HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\noneHTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\ntwo');
        else if (path === '/short') socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nshort');
        else if (path === '/early') socket.end('HTTP/1.1 413 Payload Too Large\\r\\nContent-Length: 3\\r\\n\\r\\nbig');
        else socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\ngood');
      });
    })`,
  );
  const exposed = await expose(sandbox);
  const bad = ['/no-http', '/nothing', '/reset', '/endless-headers', '/status', '/upgrade', '/both', '/split'];
  const answers = await Promise.all(bad.map((path) => ask(exposed, path, { headers: withToken })));
  expect(answers.map(({ status }, i) => [bad[i], status])).toEqual(bad.map((path) => [path, 502]));
  expect(answers[0]?.body).toMatch(/^berth: the server in the sandbox gave a bad answer\./);
  for (const path of bad.filter((one) => one !== '/upgrade')) {
    const headers = { ...withToken, connection: 'upgrade', upgrade: 'websocket' };
    expect([path, (await ask(exposed, path, { headers })).status]).toEqual([path, 502]);
  }
  // What comes behind an answer is no answer to anybody.
  const socket = connect(exposed.port, '127.0.0.1');
  const answer = async (path: string) => {
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-Berth-Token: ${token}\r\n\r\n`);
    return String((await once(socket, 'data'))[0]);
  };
  expect(await answer('/two')).toMatch(/\r\n\r\none$/);
  expect(await answer('/good')).toMatch(/\r\n\r\ngood$/);
  socket.destroy();
  await expect(ask(exposed, '/short', { headers: withToken })).rejects.toThrow();
  const early = await ask(exposed, '/early', { method: 'POST', headers: withToken, body: 'x'.repeat(8 * MiB) });
  expect(early).toMatchObject({ status: 413, body: 'big' });
  expect((await ask(exposed, '/', { headers: withToken })).body).toBe('good');
});

test('a client that goes before it is answered leaves no connection to the server, however it asked', async ({
  shared: sandbox,
}) => {
  const server = await listenInside(
    sandbox,
    8080,
    `require('net').createServer((socket) => {
      globalThis.open = (globalThis.open ?? 0) + 1;
      socket.on('error', () => {}).on('close', () => { open--; });
      socket.on('data', (data) => {
        if (!String(data).startsWith('GET /open ')) return console.log('asked');
        const body = String(open - 1);
        socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: ' + body.length + '\\r\\n\\r\\n' + body);
      });
    })`,
  );
  const exposed = await expose(sandbox);
  const head = `GET / HTTP/1.1\r\nHost: localhost\r\nX-Berth-Token: ${token}\r\n`;
  const open = async () => (await ask(exposed, '/open', { headers: withToken })).body;
  for (const asks of [
    `${head}\r\n`,
    `${head}\r\n`.repeat(3),
    `${head}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n`,
  ]) {
    const socket = connect(exposed.port, '127.0.0.1');
    socket.write(asks);
    await once(server.stdout, 'data');
    expect(await open()).toBe('1');
    socket.destroy();
    await expect.poll(open).toBe('0');
  }
  const atOnce = connect(exposed.port, '127.0.0.1').on('error', () => {});
  await once(atOnce, 'connect');
  atOnce.write(`${head}\r\n`, () => atOnce.destroy());
  // Nobody would take that many answers.
  const flood = connect(exposed.port, '127.0.0.1').on('error', () => {});
  flood.write(`${head}\r\n`.repeat(200));
  await once(flood, 'close');
  await expect.poll(open).toBe('0');
});

test('of a head with thousands of fields none is lost, and so no body is taken for a request', async ({
  shared: sandbox,
}) => {
  await listenInside(
    sandbox,
    8080,
    `require('net').createServer((socket) => {
      let seen = '';
      socket.on('error', () => {}).on('data', (data) => {
        seen += data;
        if (!seen.endsWith('the end')) return;
        const more = 'a: b\\r\\n'.repeat(2500) + 'X-Last: it\\r\\nContent-Length: ' + seen.length;
        socket.end('HTTP/1.1 200 OK\\r\\n' + more + '\\r\\n\\r\\n' + seen);
      });
    })`,
  );
  const { port } = await expose(sandbox);
  const socket = connect(port, '127.0.0.1');
  const body = 'GET / HTTP/1.1\r\n\r\nthe end';
  const fields = `${'a: b\r\n'.repeat(2500)}X-Last: it\r\nContent-Length: ${body.length}\r\nConnection: close`;
  socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nX-Berth-Token: ${token}\r\n${fields}\r\n\r\n${body}`);
  const [head = '', seen = '', ...rest] = (await text(socket)).split('\r\n\r\n');
  expect(head).toMatch(/\r\nx-last: it\r\n/);
  expect(seen).toMatch(/\r\nx-last: it\r\ncontent-length: 25\r\n/);
  expect(rest.join('\r\n\r\n')).toBe(body);
});

test('a server has no say over the token, nor over what other servers have in a browser', async ({
  shared: sandbox,
}) => {
  const cookie = `berth_' + request.headers.host.split(':')[1] + '=x`;
  await listenInside(
    sandbox,
    8080,
    `http.createServer((request, answer) => {
      answer.writeHead(200, {
        'set-cookie': ['a=1', '${cookie}; Path=/', ' ${cookie}'],
        'clear-site-data': '"*"',
        'strict-transport-security': 'max-age=31536000; includeSubDomains',
      }).end();
    })`,
  );
  const exposed = await expose(sandbox);
  const { headers } = await ask(exposed, '/', { headers: withToken });
  expect(headers['set-cookie']).toEqual(['a=1']);
  expect(Object.keys(headers)).not.toContain('clear-site-data');
  expect(Object.keys(headers)).not.toContain('strict-transport-security');
  // A page of another sandbox may have one sent beside it, before it or behind it.
  const page = await ask(exposed, `/?berth_token=${token}`, { headers: { accept: 'text/html' } });
  const [pair = ''] = page.headers['set-cookie']?.[0]?.split(';') ?? [];
  const [name] = pair.split('=');
  for (const sent of [`${name}=x; ${pair}`, `${pair}; ${name}=x`]) {
    expect((await ask(exposed, '/', { headers: { cookie: sent } })).status).toBe(200);
  }
});

test('where nothing listens, a page says so, with the ports at which servers do; a sandbox that is stopped has another one', async ({
  sandbox,
}) => {
  await listenInside(sandbox, 3000, mirror);
  await using raw = await sandbox.expose(8080);
  const exposed = await expose(sandbox);
  const said =
    'berth: nothing listens at port 8080 in the sandbox. Start a server there, and ask again.\nServers listen at:\n  port 3000\n';
  expect(await ask(raw, '/')).toMatchObject({ status: 502, body: said });
  expect(await ask(exposed, '/', { headers: withToken })).toMatchObject({ status: 502, body: said });
  const page = await ask(exposed, '/', { headers: { ...withToken, accept: 'text/html' } });
  expect(page.body).toMatch(/http-equiv="refresh".*<h1>Nothing listens at port 8080 .*<li>port 3000<\/li>/s);
  await listenInside(sandbox, 8080, mirror);
  expect((await ask(exposed, '/', { headers: withToken })).status).toBe(200);
  await sandbox.stop();
  for (const one of [raw, exposed]) {
    const stopped = await ask(one, '/', { headers: withToken });
    expect([stopped.status, stopped.body]).toEqual([503, expect.stringContaining(`berth sandbox start ${sandbox.id}`)]);
  }
  await sandbox.start();
  await listenInside(sandbox, 8080, mirror);
  const many = Array.from({ length: 60 }, (_, i) => seen(ask(exposed, `/${i}`, { headers: withToken })));
  expect((await Promise.all(many)).map(({ url }) => url)).toEqual(many.map((_, i) => `/${i}`));
});
