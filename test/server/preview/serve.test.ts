import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import type { Sandbox, SandboxHost } from '../../../src/sandbox/index.ts';
import type { PreviewServer } from '../../../src/sandbox/preview/server.ts';
import { servePreviews } from '../../../src/server/preview/serve.ts';
import { listenInside } from '../../support/listen-inside.ts';
import { openHost, test } from '../../support/sandbox-fixture.ts';

const token = 'a-token.of_this~test';

async function serve(host: SandboxHost, options: { token?: string; address?: string } = {}): Promise<PreviewServer> {
  const server = await servePreviews(host, { address: '127.0.0.1', port: 0, ...options });
  onTestFinished(() => server.close());
  return server;
}

/** @param host - as the browser has it; its port is that of the server */
async function ask(
  server: PreviewServer,
  host: string,
  path = '/',
  headers: Record<string, string> = {},
): Promise<{ status: number | undefined; headers: IncomingMessage['headers']; body: string }> {
  const { port } = server;
  const asked = httpRequest({ host: '127.0.0.1', port, path, headers: { host: `${host}:${port}`, ...headers } }).end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]; // of node:http
  return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
}

const mirror = `http.createServer((request, answer) => {
  answer.setHeader('set-cookie', 'a=1');
  if (request.url === '/moved') answer.setHeader('location', '/there');
  answer.end(JSON.stringify({ url: request.url, headers: request.headers }));
})`;
const here = (sandbox: Sandbox, port: number) => `${port}-${sandbox.id}.localhost`;

test('each port of each sandbox has a name and a path', async ({ host, shared: sandbox }) => {
  await using other = await host.create({ id: 'preview.other' });
  await Promise.all([listenInside(sandbox, 3000, mirror), listenInside(other, 3000, mirror)]);
  const server = await serve(host);
  for (const one of [sandbox, other]) {
    const name = here(one, 3000);
    const { status, headers, body } = await ask(server, name, '/a?b', { cookie: 'c=d' });
    expect([status, headers['set-cookie'], headers['content-security-policy']]).toEqual([200, ['a=1'], undefined]);
    expect(JSON.parse(body)).toMatchObject({ url: '/a?b', headers: { host: `${name}:${server.port}`, cookie: 'c=d' } });
  }
  // What has a path has the origin of all others that have one: no cookies, and no origin in a browser.
  const prefix = `/sandboxes/${sandbox.id}/ports/3000`;
  const inPath = await ask(server, '127.0.0.1', `${prefix}/a?b`, { cookie: 'c=d' });
  expect(inPath.headers['set-cookie']).toBeUndefined();
  expect(inPath.headers['content-security-policy']).toMatch(/^sandbox /);
  const seen = JSON.parse(inPath.body);
  expect(seen).toMatchObject({ url: '/a?b', headers: { 'x-forwarded-prefix': prefix } });
  expect(seen.headers.cookie).toBeUndefined();
  expect(await ask(server, 'localhost', `${prefix}/moved`)).toMatchObject({ headers: { location: `${prefix}/there` } });
  expect(await ask(server, 'localhost', `${prefix}?x`)).toMatchObject({
    status: 308,
    headers: { location: `${prefix}/?x` },
  });

  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/`, { headers: { host: `9-${sandbox.id}.localhost` } });
  const [error] = (await once(socket, 'error')) as [Error];
  expect(error.message).toContain('502');
});

test('what is not there, or does not run, is said', async ({ host, sandbox }) => {
  const server = await serve(host);
  const said = async (name: string, path?: string) => {
    const { status, body } = await ask(server, name, path);
    return [status, body];
  };
  expect(await said('80-no-such.localhost')).toEqual([404, expect.stringContaining('There is no sandbox no-such')]);
  expect(await said(`0-${sandbox.id}.localhost`)).toEqual([400, expect.stringContaining('0 is no port')]);
  expect(await said(`70000-${sandbox.id}.localhost`)).toEqual([400, expect.stringContaining('70000 is no port')]);
  expect(await said('something.localhost')).toEqual([404, expect.stringContaining('there is nothing here')]);
  expect(await said('localhost', '/sandboxes')).toEqual([404, expect.stringContaining('there is nothing here')]);
  expect(await said('evil.example')).toEqual([421, expect.stringContaining('another host')]);
  expect(await said(`80-${sandbox.id}.localhost.evil.example`)).toEqual([421, expect.anything()]);
  await listenInside(sandbox, 3000, mirror);
  const nothing = await ask(server, here(sandbox, 80), '/', { accept: 'text/html' });
  expect(nothing.status).toBe(502);
  expect(nothing.body).toContain(`<a href="http://${here(sandbox, 3000)}:${server.port}/">port 3000</a>`);

  await sandbox.stop();
  expect(await said(here(sandbox, 3000))).toEqual([503, expect.stringContaining(`berth sandbox start ${sandbox.id}`)]);
  await sandbox.start();
  await listenInside(sandbox, 3000, mirror);
  expect((await ask(server, here(sandbox, 3000))).status).toBe(200);

  await sandbox.pause();
  const paused = await ask(await serve(host), here(sandbox, 3000));
  expect([paused.status, paused.body]).toEqual([503, expect.stringContaining(`berth sandbox resume ${sandbox.id}`)]);
  await sandbox.resume();
  expect((await ask(server, here(sandbox, 3000))).status).toBe(200);
});

test.each(['unix', 'exec'] as const)(
  'a sandbox that is removed and made again with its id is the new one, over %s',
  async (transport) => {
    await using opened = await openHost(transport);
    const { host } = opened;
    const server = await serve(host);
    const id = 'preview-again';
    for (const said of ['first', 'second']) {
      await using sandbox = await host.create({ id });
      await listenInside(sandbox, 3000, `http.createServer((_, answer) => answer.end('${said}'))`);
      const asked = Array.from({ length: 20 }, () => ask(server, here(sandbox, 3000)));
      expect((await Promise.all(asked)).map(({ body }) => body)).toEqual(asked.map(() => said));
    }
    expect((await ask(server, `3000-${id}.localhost`)).status).toBe(404);
  },
);

test('the index has the sandboxes that run, with their ports', async ({ host, shared: sandbox }) => {
  await using stopped = await host.create({ id: 'preview-stopped' });
  await stopped.stop();
  await using quiet = await host.create({ id: 'preview-quiet' });
  await listenInside(sandbox, 3000, mirror);
  const server = await serve(host, { token });
  const headers = { 'x-berth-token': token };
  const index = await ask(server, 'localhost', '/', { ...headers, accept: 'text/html' });
  expect(index.headers['x-frame-options']).toBe('DENY');
  const url = `http://${here(sandbox, 3000)}:${server.port}/?berth_token=${token}`;
  expect(index.body).toContain(`<h2>${sandbox.id}</h2><ul><li><a href="${url}">port 3000</a></li></ul>`);
  expect(index.body).toContain(`<h2>${quiet.id}</h2><ul><li>no server listens</li></ul>`);
  expect(index.body).not.toContain(stopped.id);
  expect((await ask(server, '192.168.1.1', '/', headers)).body).toContain(
    `  /sandboxes/${sandbox.id}/ports/3000/?berth_`,
  );
  expect((await ask(server, 'localhost')).status).toBe(401);
  // A page of a sandbox may be read by that.
  const nothing = await ask(server, here(sandbox, 80), '/', headers);
  expect(nothing.body).toContain('port 3000'.replace('port ', ''));
  expect(nothing.body).not.toContain(token);
});

test('pages of one sandbox reach its other ports, and none of another one', async ({ host, shared: sandbox }) => {
  await listenInside(sandbox, 3000, mirror);
  const server = await serve(host);
  const from = async (origin: string) =>
    (await ask(server, here(sandbox, 3000), '/', { origin, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }))
      .status;
  expect(await from(`http://${here(sandbox, 5173)}:${server.port}`)).toBe(200);
  expect(await from(`http://${here(sandbox, 5173)}:${server.port + 1}`)).toBe(403);
  expect(await from(`http://3000-another.localhost:${server.port}`)).toBe(403);
  expect(await from(`http://localhost:${server.port}`)).toBe(403);
  expect(await from('https://evil.example')).toBe(403);
  // A page that has a path has no origin.
  expect(await from('null')).toBe(403);
});

test('by a name of this machine it is asked for by that and by names below it', async ({ host, shared: sandbox }) => {
  await listenInside(sandbox, 3000, mirror);
  const name = hostname().toLowerCase();
  const { port } = await serve(host, { address: name });
  const status = async (asked: string) => {
    const socket = connect(port, name);
    socket.write(`GET / HTTP/1.1\r\nHost: ${asked}\r\nConnection: close\r\n\r\n`);
    return (await text(socket)).split(' ')[1];
  };
  expect(await status(`3000-${sandbox.id}.${name}:${port}`)).toBe('200');
  expect(await status(`3000-${sandbox.id}.${name}.example`)).toBe('421');
  expect(await status(name)).toBe('200');
});

test('many at once are served, and an end waits for those that are under way', async ({ host, shared: sandbox }) => {
  await listenInside(
    sandbox,
    3000,
    `http.createServer((request, answer) => {
      if (request.url !== '/slow') return answer.end(request.url);
      answer.write('so far');
      setTimeout(() => answer.end(', and the end'), 300);
    })`,
  );
  const server = await serve(host);
  const many = Array.from({ length: 200 }, (_, i) => ask(server, here(sandbox, 3000), `/${i}`));
  expect((await Promise.all(many)).map(({ body }) => body)).toEqual(many.map((_, i) => `/${i}`));
  const asked = httpRequest({
    port: server.port,
    host: '127.0.0.1',
    path: '/slow',
    headers: { host: here(sandbox, 3000) },
  }).end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]; // of node:http
  const [closed, body] = await Promise.all([server.close(30_000), text(answer)]);
  expect([closed, body]).toEqual([undefined, 'so far, and the end']);
  await expect(ask(server, 'localhost')).rejects.toThrow();
});
