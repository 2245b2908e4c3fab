import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { servePreviews } from '../../src/server/preview/serve.ts';
import { test } from '../support/sandbox-fixture.ts';
import { install, reasonToSkip } from './engines/second-engine.ts';

/** Says by itself what works in it, to the server that it is from. */
const page = `<!doctype html><script type="module">
  import { imported } from '/module.js';
  const { id, other, port } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const attempt = (work) => Promise.resolve().then(work).catch((error) => error.name);
  const at = (port_, id_) => 'http://' + port_ + '-' + id_ + '.localhost:' + port;
  const found = {
    imported,
    origin: location.origin,
    search: location.search,
    cookies: await attempt(() => { document.cookie = 'mine=1'; return document.cookie; }),
    api: await attempt(async () => (await fetch('/api', { method: 'POST', body: 'x' })).text()),
    storage: await attempt(() => { localStorage.setItem('a', 'b'); return localStorage.getItem('a'); }),
    socket: await attempt(() => new Promise((resolve) => {
      const socket = new WebSocket('ws://' + location.host + '/socket');
      socket.onmessage = ({ data }) => resolve(data);
      socket.onerror = () => resolve('failed');
    })),
    events: await attempt(() => new Promise((resolve) => {
      const events = new EventSource('/events');
      events.onmessage = ({ data }) => { events.close(); resolve(data); };
      events.onerror = () => resolve('failed');
    })),
    ownPort: await attempt(async () => (await fetch(at(3001, id) + '/api')).status),
    otherSandbox: await attempt(async () => (await fetch(at(3000, other) + '/api')).status),
    otherSandboxUnread: await attempt(async () => (await fetch(at(3000, other) + '/hit', { mode: 'no-cors' })).type),
    index: await attempt(async () => (await fetch('http://localhost:' + port + '/')).status),
  };
  await fetch('/report', { method: 'POST', body: JSON.stringify(found) });
</script>`;

const program = `
  const handle = (request, answer) => {
    answer.setHeader('access-control-allow-origin', '*');
    if (request.url === '/hit') console.log(JSON.stringify({ hit: true }));
    if (request.url === '/module.js') return answer.setHeader('content-type', 'text/javascript').end('export const imported = true');
    if (request.url === '/events') return answer.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: an event\\n\\n');
    if (request.url === '/api') return answer.end('api: ' + request.headers.cookie);
    if (request.url === '/report') {
      let text = '';
      request.on('data', (chunk) => { text += chunk; }).on('end', () => { console.log(text); answer.end(); });
      return;
    }
    answer.setHeader('content-type', 'text/html').end(process.env.PAGE);
  };
  const upgrade = (request, socket) => {
    const key = require('crypto').createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\n');
    socket.write(Buffer.from([0x81, 2, 0x68, 0x69])); // the text hi
  };
  http.createServer(handle).on('upgrade', upgrade).listen(3000, () =>
    http.createServer(handle).listen(3001, () => console.log('ready')));`;

/** The lines that its server writes; the first of them says that it listens. */
async function startIn(sandbox: Sandbox): Promise<AsyncIterator<string>> {
  const { stdout } = await sandbox.spawn(['node', '-e', program], { env: { PAGE: page } });
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  return lines;
}

async function browse(url: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-browser-'));
  const options = ['--headless=new', '--no-sandbox', '--no-first-run', `--user-data-dir=${folder}`];
  const browser = execa('chromium', [...options, url], { reject: false, env: { TMPDIR: folder } });
  onTestFinished(async () => {
    browser.kill();
    await browser;
    await rm(folder, { recursive: true, force: true });
  });
}

for (const token of [undefined, 'a-token.of_this~test']) {
  const how = token === undefined ? 'without a token' : 'with a token, which it has a cookie of then';
  test.skipIf(reasonToSkip !== undefined)(
    `in a browser, a port of a sandbox is an origin of its own, ${how}`,
    async ({ host, sandbox }) => {
      await install({ chromium: 'chromium' });
      await using other = await host.create();
      const server = await servePreviews(host, { address: '127.0.0.1', port: 0, token });
      onTestFinished(() => server.close());
      const [lines, otherLines] = [await startIn(sandbox), await startIn(other)];
      const at = (id: string) => `http://3000-${id}.localhost:${server.port}`;
      const query = token === undefined ? '' : `&berth_token=${token}`;
      await browse(`${at(sandbox.id)}/?q=1${query}#id=${sandbox.id}&other=${other.id}&port=${server.port}`);
      expect(JSON.parse((await lines.next()).value)).toEqual({
        imported: true,
        origin: at(sandbox.id),
        search: '?q=1',
        cookies: 'mine=1',
        api: 'api: mine=1',
        storage: 'b',
        socket: 'hi',
        events: 'an event',
        // Each port has a cookie of its own, and gets none from another origin.
        ownPort: token === undefined ? 200 : 'TypeError',
        otherSandbox: 'TypeError',
        otherSandboxUnread: 'opaque',
        index: 'TypeError',
      });
      // What it could not read was not asked of the other one either.
      await other.exec(`node -e "fetch('http://127.0.0.1:3000/report', { method: 'POST', body: '{}' })"`);
      expect((await otherLines.next()).value).toBe('{}');
    },
  );
}
