import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { expect } from 'vitest';
import { WebSocket } from 'ws';
import { WireClosedError } from '../../../src/sandbox/errors.ts';
import { listenInside } from '../../support/listen-inside.ts';
import { test } from '../../support/sandbox-fixture.ts';

test('a server on the loopback of a sandbox is reached from this machine, with bodies of any size both ways', async ({
  shared: sandbox,
}) => {
  await listenInside(
    sandbox,
    8080,
    `require('http').createServer((request, response) => {
      if (request.method === 'GET') return response.end('hello ' + request.url + ' ' + request.headers.host);
      const hash = require('crypto').createHash('sha256');
      request.on('data', (chunk) => { hash.update(chunk); response.write(chunk); });
      request.on('end', () => response.end('|' + hash.digest('hex')));
    })`,
  );
  await using exposed = await sandbox.expose(8080);
  expect(exposed.url).toBe(`http://127.0.0.1:${exposed.port}`);
  expect(await (await fetch(`${exposed.url}/path?x`)).text()).toBe(`hello /path?x 127.0.0.1:${exposed.port}`);
  const body = randomBytes(8 * 1024 * 1024);
  const answer = Buffer.from(await (await fetch(exposed.url, { method: 'POST', body })).arrayBuffer());
  expect(answer.subarray(0, body.length).equals(body)).toBe(true);
  expect(answer.toString('latin1', body.length)).toBe(`|${createHash('sha256').update(body).digest('hex')}`);
  const many = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => (await fetch(`${exposed.url}/${i}`)).text()),
  );
  expect(many.map((text) => text.split(' ')[1])).toEqual(Array.from({ length: 50 }, (_, i) => `/${i}`));
});

test('events come as they are sent, and a WebSocket goes both ways', async ({ shared: sandbox }) => {
  await listenInside(
    sandbox,
    8080,
    `require('http').createServer((request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\\n\\n');
    }).on('upgrade', (request, socket) => {
      const key = require('crypto').createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\n');
      socket.write(Buffer.from([0x81, 2, 0x68, 0x69])); // the text hi
      socket.on('data', () => socket.end(Buffer.from([0x88, 0]))); // closes it
    })`,
  );
  await using exposed = await sandbox.expose(8080);
  const events = await fetch(exposed.url);
  const reader = events.body?.getReader();
  expect(Buffer.from((await reader?.read())?.value ?? '').toString()).toBe('data: first\n\n');
  await reader?.cancel();
  const socket = new WebSocket(exposed.url.replace('http', 'ws'));
  const [message] = await once(socket, 'message');
  expect(String(message)).toBe('hi');
  socket.send('bye');
  await once(socket, 'close');
});

test('where nothing listens, a page says so; a server that comes later is reached, also after a stop and a start', async ({
  sandbox,
}) => {
  await using exposed = await sandbox.expose(8080);
  const nothing = await fetch(exposed.url);
  expect([nothing.status, await nothing.text()]).toEqual([
    502,
    'berth: nothing listens at port 8080 in the sandbox. Start a server there, and ask again.\n',
  ]);
  const code = `require('http').createServer((_, response) => response.end('here'))`;
  await listenInside(sandbox, 8080, code);
  expect(await (await fetch(exposed.url)).text()).toBe('here');
  await sandbox.stop();
  expect((await fetch(exposed.url)).status).toBe(503);
  await sandbox.start();
  await listenInside(sandbox, 8080, code);
  expect(await (await fetch(exposed.url)).text()).toBe('here');
});

test('what was answered that nothing listens takes no place of others', async ({ shared: sandbox }) => {
  await using exposed = await sandbox.expose(8080);
  for (let i = 0; i < 30; i++) {
    const answers = await Promise.all(Array.from({ length: 10 }, () => fetch(exposed.url)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 502));
    await Promise.all(answers.map((answer) => answer.text()));
  }
});

test('what is closed is not reached any more, nor what is exposed of a sandbox that is let go; no port is refused', async ({
  host,
}) => {
  const sandbox = await host.create();
  await listenInside(sandbox, 8080, `require('net').createServer((socket) => socket.write('hi'))`);
  const [closed, left] = [await sandbox.expose(8080), await sandbox.expose(8080)];
  const socket = connect(closed.port, '127.0.0.1');
  await once(socket, 'data');
  await closed.close();
  await once(socket, 'close');
  await expect(fetch(closed.url)).rejects.toThrow();
  await sandbox.remove();
  await expect(fetch(left.url)).rejects.toThrow();
  for (const port of [0, 65_536, 1.5, '80' as never]) {
    await expect(sandbox.expose(port)).rejects.toMatchObject({ name: 'InvalidOptionsError' });
  }
});

test('what breaks off inside does so outside, and does not look like an end', async ({ shared: sandbox }) => {
  await listenInside(
    sandbox,
    8080,
    `require('net').createServer((socket) => {
      socket.on('error', () => {});
      socket.write('a part of it');
      socket.once('data', (text) => String(text) === 'end' ? socket.end() : socket.resetAndDestroy());
    })`,
  );
  await using exposed = await sandbox.expose(8080);
  const askedFor = async (what: string) => {
    const socket = connect(exposed.port, '127.0.0.1');
    const [text] = await once(socket, 'data');
    expect(String(text)).toBe('a part of it');
    socket.write(what);
    return once(socket, 'end');
  };
  expect(await askedFor('end')).toEqual([]);
  await expect(askedFor('reset')).rejects.toMatchObject({ code: 'ECONNRESET' });
});

test('a port is not left open by a sandbox that is let go while it is exposed', async ({ host, shared: sandbox }) => {
  const other = await host.connect(sandbox.id);
  const exposing = other.expose(80);
  await Promise.all([expect(exposing).rejects.toBeInstanceOf(WireClosedError), other.close()]);
});
