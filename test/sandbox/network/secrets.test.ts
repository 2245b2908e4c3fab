import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { createServer as createHttpServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type { NetworkDecision, NetworkPolicy, Sandbox, SandboxHost } from '../../../src/sandbox/index.ts';
import { SandboxHost as Host } from '../../../src/sandbox/index.ts';
import { http2Client } from '../../support/http2-client.ts';
import { type NameServer, openNameServer } from '../../support/name-server.ts';
import { type TestAuthority, testAuthority } from '../../support/tls.ts';

const value = 's3cr3t/Value+with="quotes"&more';
const names: Record<string, string[]> = { 'api.test': ['127.0.0.1'], 'other.test': ['127.0.0.1'] };

let nameServer: NameServer;
let authority: TestAuthority;
let host: SandboxHost;
let stateDir: string;

beforeAll(async () => {
  nameServer = await openNameServer(names);
  authority = await testAuthority();
  stateDir = await mkdtemp(join(tmpdir(), 'berth-test-secrets-'));
  host = await Host.open({ stateDir, dns: [nameServer.address], ca: [authority.ca] });
});

afterAll(async () => {
  for (const { id } of await host.list()) await host.remove(id);
  await host.close();
  await rm(stateDir, { recursive: true, force: true });
  await nameServer[Symbol.asyncDispose]();
});

async function listening(server: Server & { closeAllConnections?: () => void }): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections?.();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Answers with what it was asked, and keeps it. */
function echo(): { seen: { url: string; headers: IncomingHttpHeaders }[]; listener: RequestListener } {
  const seen: { url: string; headers: IncomingHttpHeaders }[] = [];
  const listener: RequestListener = (request, response) => {
    seen.push({ url: request.url ?? '', headers: { ...request.headers } });
    response.setHeader('x-echo', String(request.headers['x-key'] ?? request.headers.authorization ?? ''));
    response.end(JSON.stringify({ url: request.url, headers: request.headers }));
  };
  return { seen, listener };
}

async function serveTls(listener: RequestListener, ...hosts: string[]): Promise<number> {
  const certificate = await authority.certificateFor(...(hosts.length > 0 ? hosts : ['api.test', 'other.test']));
  return listening(createHttpsServer(certificate, listener));
}

/** With both versions of HTTP. */
async function serveHttp2(
  listener: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
): Promise<number> {
  const certificate = await authority.certificateFor('api.test', 'other.test');
  const server = createSecureServer({ ...certificate, allowHTTP1: true }, listener);
  const sessions = new Set<{ destroy: () => void }>();
  server.on('session', (session) => sessions.add(session));
  onTestFinished(() => {
    for (const session of sessions) session.destroy();
  });
  return listening(server as never);
}

async function sandboxWith(network: NetworkPolicy): Promise<{ sandbox: Sandbox; decisions: NetworkDecision[] }> {
  const sandbox = await host.create({ network });
  onTestFinished(() => sandbox.remove());
  const decisions: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => decisions.push(decision));
  return { sandbox, decisions };
}

function policyFor(port: number, secret: object = {}): NetworkPolicy {
  return {
    allow: [`api.test:${port}`, `other.test:${port}`, `127.0.0.1:${port}`],
    secrets: [{ name: 'API_KEY', value, hosts: [`api.test:${port}`], ...secret }],
  };
}

describe('a secret', () => {
  test('is put into the header of requests to its host, and into nothing else; inside there is a placeholder only', async () => {
    const { seen, listener } = echo();
    const port = await serveTls(listener);
    const { sandbox, decisions } = await sandboxWith(policyFor(port));
    const placeholder = (await sandbox.exec('printf %s "$API_KEY"')).stdout;
    expect(placeholder).toMatch(/^berth-[0-9a-f]{40}$/);
    const curl = (url: string) => sandbox.exec(`curl -sS -i -H "X-Key: key $API_KEY" '${url}'`);
    const bound = await curl(`https://api.test:${port}/a?key=1`);
    expect([bound.stderr, seen.at(-1)?.headers['x-key']]).toEqual(['', `key ${value}`]);
    // The echo of it is masked, in headers and in the body, as JSON writes it.
    expect(bound.stdout).toContain(`x-echo: key ${'*'.repeat(value.length)}`);
    expect(bound.stdout).not.toContain('s3cr3t');
    const other = await curl(`https://other.test:${port}/a`);
    expect(other.stderr).toContain('certificate'); // end to end: its authority is not known inside
    const trusting = await sandbox.exec(`curl -sS -k -H "X-Key: $API_KEY" https://other.test:${port}/a`);
    expect(trusting.stdout).toContain(placeholder);
    expect(seen.at(-1)?.headers['x-key']).toBe(placeholder);
    await expect.poll(() => decisions.length).toBe(3);
    expect(decisions[0]).toMatchObject({
      host: 'api.test',
      method: 'GET',
      path: '/a',
      allowed: true,
      secrets: ['API_KEY'],
    });
    expect(JSON.stringify(decisions)).not.toContain('s3cr3t');
  });

  test.each([
    ['by SOCKS', ['--proxy', 'socks5h://127.0.0.1:3128'], '1.1'],
    ['without a proxy', ['--noproxy', '*'], '1.1'],
    ['in HTTP/1.1', ['--http1.1'], '1.1'],
    ['in HTTP/1.1, for who offers HTTP/2 too', ['--http2'], '1.1'],
    ['in HTTP/1.0', ['--http1.0'], '1.1'], // as what is answered says
  ])('is put in %s', async (_way, options, version) => {
    const { seen, listener } = echo();
    const port = await serveHttp2(listener as never);
    const { sandbox } = await sandboxWith(policyFor(port));
    const { stdout, stderr } = await sandbox.exec(
      `curl -sS -w '%{http_version}' ${options.map((option) => `'${option}'`).join(' ')} -H "X-Key: $API_KEY" https://api.test:${port}/x`,
    );
    expect(stderr).toBe('');
    expect(stdout).toContain('"url":"/x"');
    expect(stdout.endsWith(`}${version}`)).toBe(true);
    expect(seen.at(-1)?.headers['x-key']).toBe(value);
  });

  test('is put in in HTTP/2, for who offers nothing else', async () => {
    const versions: string[] = [];
    const port = await serveHttp2((request, response) => {
      versions.push(request.httpVersion);
      response.end(request.headers['x-key'] === value ? 'it came' : 'it did not come');
    });
    const { sandbox } = await sandboxWith(policyFor(port));
    await sandbox.fs.writeFile('http2.mjs', http2Client);
    const { stdout } = await sandbox.exec(`node http2.mjs GET https://api.test:${port}/x "X-Key: $API_KEY"`);
    expect([stdout, versions]).toEqual(['it came', ['2.0']]);
  });

  test('is put into plain HTTP, into Basic credentials and into the query, where it says so', async () => {
    const { seen, listener } = echo();
    const port = await listening(createHttpServer(listener));
    const { sandbox } = await sandboxWith(policyFor(port, { query: 'key', basic: true }));
    const { stdout } = await sandbox.exec(
      `curl -sS -u "user:$API_KEY" -H "X-Key: $API_KEY" "http://api.test:${port}/p?other=$API_KEY&key=$API_KEY"`,
    );
    const placeholder = (await sandbox.exec('printf %s "$API_KEY"')).stdout;
    const basic = Buffer.from(`user:${value}`).toString('base64');
    expect(seen.at(-1)).toMatchObject({
      url: `/p?other=${placeholder}&key=${encodeURIComponent(value)}`,
      headers: { authorization: `Basic ${basic}`, 'x-key': placeholder },
    });
    expect(stdout).not.toContain(basic);
    expect(stdout).not.toContain(encodeURIComponent(value));
    expect(stdout).toContain(placeholder);
  });

  test('is put into the one header that it names only', async () => {
    const { seen, listener } = echo();
    const port = await serveTls(listener);
    const { sandbox } = await sandboxWith(policyFor(port, { header: 'X-Key' }));
    await sandbox.exec(
      `curl -sS -H "X-Key: $API_KEY" -H "X-Other: $API_KEY" -u "a:$API_KEY" https://api.test:${port}/`,
    );
    const headers: IncomingHttpHeaders = seen.at(-1)?.headers ?? {};
    expect(headers['x-key']).toBe(value);
    expect(headers['x-other']).toMatch(/^berth-/);
    expect(Buffer.from(String(headers.authorization).slice(6), 'base64').toString()).toMatch(/^a:berth-/);
  });

  test('does not follow a redirect to another host', async () => {
    const { seen, listener } = echo();
    const port = await serveTls((request, response) => {
      if (request.url !== '/from') return listener(request, response);
      response.writeHead(302, { location: `https://other.test:${port}/to` });
      response.end();
    });
    const { sandbox } = await sandboxWith(policyFor(port));
    await sandbox.exec(`curl -sS -kL -H "X-Key: $API_KEY" https://api.test:${port}/from`);
    expect(seen).toHaveLength(1);
    expect(seen[0]?.headers['x-key']).toMatch(/^berth-/);
  });

  test('is masked in an answer that comes in pieces, compressed, or as a WebSocket', async () => {
    const certificate = await authority.certificateFor('api.test');
    const server = createHttpsServer(certificate, async (request, response) => {
      if (request.url === '/gzip') {
        response.writeHead(200, { 'content-encoding': 'gzip' });
        return response.end(gzipSync(`before ${value} after`));
      }
      if (request.url === '/zstd') {
        response.writeHead(200, { 'content-encoding': 'zstd' });
        return response.end(`before ${value} after`);
      }
      response.writeHead(200, { 'content-type': 'text/plain' });
      for (const character of `before ${value} after`) {
        response.write(character);
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end(value.slice(0, 9));
    });
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, request) => {
      socket.send(`key ${request.headers['x-key']}`);
      socket.on('message', (data) => socket.send(`echo ${data}`));
    });
    onTestFinished(() => {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
    });
    const port = await listening(server);
    const { sandbox } = await sandboxWith(policyFor(port));
    const masked = `before ${'*'.repeat(value.length)} after`;
    const get = (path: string) => sandbox.exec(`curl -sS --compressed https://api.test:${port}${path}`);
    expect((await get('/pieces')).stdout).toBe(`${masked}${value.slice(0, 9)}`);
    expect((await get('/gzip')).stdout).toBe(masked);
    expect((await get('/zstd')).stdout).toContain("can't be looked into");
    // Node's own WebSocket has no headers.
    const script = `
      const { request } = require('node:https');
      const headers = { 'x-key': process.env.API_KEY, connection: 'upgrade', upgrade: 'websocket',
        'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' };
      request('https://api.test:${port}/ws', { headers, agent: undefined }).on('upgrade', (answer, socket, head) => {
        let text = head.toString('latin1');
        const look = () => {
          if (text.includes('echo hi')) { console.log(text.replace(/[^ -~]/g, '')); process.exit(); }
        };
        socket.on('data', (data) => { text += data.toString('latin1'); look(); });
        socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
        look();
      }).on('error', (error) => { console.log(error); process.exit(1); }).end();`;
    const { stdout, stderr } = await sandbox.exec(['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', script], {
      timeout: 10_000,
    });
    expect([stderr, stdout]).toEqual(['', expect.stringContaining(`key ${'*'.repeat(value.length)}`)]);
  });
});

describe('where requests are looked into', () => {
  test('methods and paths are held to, over TLS in both versions of HTTP, and nothing gets around them', async () => {
    const seen: string[] = [];
    const port = await serveHttp2((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      request.resume();
      response.end('ok');
    });
    const rule = { host: 'api.test', ports: [port], methods: ['GET'], paths: ['/repos/'] };
    const { sandbox, decisions } = await sandboxWith({ allow: [rule, `127.0.0.1:${port}`] });
    const curl = async (...options: string[]) => (await sandbox.exec(['curl', '-sS', ...options])).stdout;
    const url = `https://api.test:${port}`;
    expect(await curl(`${url}/repos/x?y=1`)).toBe('ok');
    expect(await curl('--http1.1', `${url}/repos/x`)).toBe('ok');
    const refused = `berth: no rule allows api.test:${port} for`;
    expect(await curl('-X', 'POST', `${url}/repos/x`)).toContain(`${refused} POST /repos/x`);
    expect(await curl(`${url}/users`)).toContain(`${refused} GET /users`);
    expect(await curl('--path-as-is', `${url}/repos/../users`)).toContain(`${refused} GET /users`);
    expect(await curl('--path-as-is', `${url}/repos/%2e%2e/users`)).toContain(`${refused} GET /users`);
    expect(await curl('--path-as-is', `${url}/repos/..%2fusers`)).toContain(refused);
    expect(await curl('--path-as-is', `${url}/repos/..%252fusers`)).toContain(refused);
    expect(await curl('--path-as-is', `${url}/repos/..%25252fusers`)).toContain(refused);
    expect(await curl('--path-as-is', `${url}/repos/%c0%ae%C0%AE/users`)).toContain(refused);
    // Nor what some servers take for the method or the path.
    expect(await curl('-H', 'X_HTTP_Method_Override: PUT', `${url}/repos/x`)).toContain(`${refused} PUT /repos/x`);
    expect(await curl('-H', 'X-HTTP-Method-Override: delete', `${url}/repos/x`)).toContain(
      `${refused} DELETE /repos/x`,
    );
    expect(await curl('-H', 'X-Original-URL: /users', `${url}/repos/x`)).toContain(`${refused} GET /users`);
    expect(await curl('-H', 'Host: other.test', `${url}/repos/x`)).toContain('this connection is to api.test');
    // A body of a GET is that, and no second request.
    const smuggled = 'POST /users HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n';
    const smuggle = [
      '--http1.1',
      '-X',
      'GET',
      '-H',
      'Transfer-Encoding: chunked',
      '-H',
      'Content-Length:',
      '--data-binary',
      smuggled,
    ];
    expect(await curl(...smuggle, `${url}/repos/z`)).toBe('ok');
    // Nor does an upgrade that the server ignores open a way past it.
    const upgrade = `
      const { request } = require('node:https');
      const headers = { connection: 'upgrade', upgrade: 'websocket' };
      request('${url}/repos/u', { headers }).on('response', (answer) => {
        answer.socket.write('POST /users HTTP/1.1\\r\\nHost: api.test:${port}\\r\\nContent-Length: 0\\r\\n\\r\\n');
        answer.on('data', (data) => console.log(String(data)));
      }).on('error', console.log).end();`;
    const plain = ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', upgrade];
    expect((await sandbox.exec(plain, { timeout: 10_000 })).stdout.trim()).toBe('ok');
    expect(seen).toEqual(['GET /repos/x?y=1', 'GET /repos/x', 'GET /repos/z', 'GET /repos/u']);
    await expect.poll(() => decisions.filter(({ allowed }) => allowed).length).toBe(4);
  });

  test('a server that is not whom it should be is not talked to, and a program is told why', async () => {
    const { seen, listener } = echo();
    const port = await serveTls(listener, 'wrong.test');
    const { sandbox, decisions } = await sandboxWith(policyFor(port));
    const { stdout } = await sandbox.exec(`curl -sS -H "X-Key: $API_KEY" https://api.test:${port}/`);
    expect(stdout).toMatch(/^berth: no TLS with api.test:\d+: .*altnames/);
    expect(seen).toEqual([]);
    expect(decisions[0]).toMatchObject({ allowed: true, reason: expect.stringContaining('no TLS') });
  });

  test('streams of events come as they are sent, with trailers, and a large body passes without being held', async () => {
    const port = await serveHttp2((request, response) => {
      if (request.url === '/events') {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write('data: first\n\n');
        const timer = setInterval(() => response.write('data: more\n\n'), 50);
        response.on('close', () => clearInterval(timer));
        return;
      }
      response.addTrailers({ 'grpc-status': '0' });
      let length = 0;
      request.on('data', (chunk: Buffer) => {
        length += chunk.length;
      });
      request.on('end', () => response.end(String(length)));
    });
    const { sandbox } = await sandboxWith(policyFor(port));
    await sandbox.fs.writeFile('http2.mjs', http2Client);
    const url = `https://api.test:${port}`;
    const clients = [
      { version: '1.1', get: `curl -sSN ${url}/events`, put: `curl -sS -T - ${url}/` },
      { version: '2', get: `node http2.mjs GET ${url}/events`, put: `node http2.mjs PUT ${url}/` },
    ];
    for (const { version, get, put } of clients) {
      const events = await sandbox.exec(`${get} | head -n 3`);
      expect([version, events.stdout]).toEqual([version, 'data: first\n\ndata: more\n']);
      const size = 100 * 1024 * 1024;
      const { stdout, stderr } = await sandbox.exec(`head -c ${size} /dev/zero | ${put}`);
      expect([version, stdout]).toEqual([version, `${size}`]);
      if (version === '2') expect(stderr).toBe('{"grpc-status":"0"}\n');
    }
  });

  test('a connection ends with the program’s, in either version', async () => {
    const { listener } = echo();
    const port = await serveHttp2(listener as never);
    const { sandbox } = await sandboxWith(policyFor(port));
    await sandbox.fs.writeFile('http2.mjs', http2Client);
    for (const client of ['curl -sS', 'curl -sS --noproxy "*"', 'node http2.mjs GET']) {
      const { stdout } = await sandbox.exec(`${client} https://api.test:${port}/x`);
      expect(stdout).toContain('"url":"/x"');
    }
    // CLOSE_WAIT is a connection that the other side has closed (Linux, include/net/tcp_states.h).
    const halfClosed = async () => {
      const { stdout } = await sandbox.exec(`awk '$4 == "08"' /proc/net/tcp`);
      return stdout;
    };
    await expect.poll(halfClosed, { timeout: 10_000 }).toBe('');
  });

  test('programs trust it by the system’s certificates and by their variables, in login shells too', async () => {
    const { listener } = echo();
    const port = await serveTls(listener);
    const { sandbox } = await sandboxWith(policyFor(port));
    const url = `https://api.test:${port}/`;
    const connect = `socket.create_connection(('api.test', ${port}))`;
    const python = `import ssl, socket; ssl.create_default_context().wrap_socket(${connect}, server_hostname='api.test'); print(200)`;
    const ways: Record<string, string> = {
      curl: `curl -sS -o /dev/null -w '%{http_code}' ${url}`,
      'curl without variables': `env -i curl -sS -o /dev/null -w '%{http_code}' ${url}`,
      'a login shell': `env -i bash -lc 'curl -sS -o /dev/null -w "%{http_code}" ${url}; node -e "fetch(\\"${url}\\").then((r) => console.log(r.status))"'`,
      node: `node -e "fetch('${url}').then((r) => console.log(r.status), console.log)"`,
      git: `git ls-remote ${url} && echo 200`, // of an empty repository
      'python without variables': `env -i python3 -c "${python}"`,
    };
    for (const [way, command] of Object.entries(ways)) {
      const { stdout, stderr } = await sandbox.exec(command);
      expect([way, stdout, stderr]).toEqual([way, expect.stringMatching(/^(200\s*)+$/), '']);
    }
  });
});

test('nothing in the sandbox has the secret: no environment, no memory, no file, and nothing on its loopback', async () => {
  const { listener } = echo();
  const secure = await serveTls(listener);
  const plain = await listening(createHttpServer(listener));
  const allow = [secure, plain].flatMap((port) => [`api.test:${port}`, `127.0.0.1:${port}`]);
  const hosts = [`api.test:${secure}`, `api.test:${plain}`];
  const { sandbox } = await sandboxWith({ allow, secrets: [{ name: 'API_KEY', value, hosts }] });
  const container = `berth-${sandbox.id}`;
  const { stdout: found } = await execa('docker', [
    'inspect',
    '-f',
    '{{.State.Pid}} {{range .Mounts}}{{.Source}} {{end}}',
    container,
  ]);
  const [init = '', ...mounts] = found.trim().split(' ');
  // In the sandbox's network, from outside: nothing inside may do that.
  const sniff =
    'socket(my $s, 17, 3, 768) or die $!; $| = 1; print "ready"; while (sysread($s, my $b, 65536)) { print $b }';
  const sniffer = execa('nsenter', ['-t', init, '-n', 'perl', '-e', sniff], {
    buffer: false,
    reject: false,
    encoding: 'buffer',
  });
  const sniffed: Buffer[] = [];
  sniffer.stdout.on('data', (chunk: Buffer) => sniffed.push(chunk));
  onTestFinished(() => void sniffer.kill());
  await once(sniffer.stdout, 'data');
  const script = `
    curl -sS -H "X-Key: $API_KEY" https://api.test:${secure}/ -o https.json
    curl -sS -u "me:$API_KEY" http://api.test:${plain}/ -o http.json
    node -e 'const get = () => fetch("https://api.test:${secure}/", { headers: { "x-key": process.env.API_KEY } }).then((r) => r.text());
      get().then((text) => { globalThis.kept = text; console.log("done"); setInterval(get, 200); })'`;
  const client = await sandbox.spawn(script);
  await once(client.stdout, 'data');
  const forms = [
    value,
    JSON.stringify(value).slice(1, -1),
    Buffer.from(`me:${value}`).toString('base64'),
    encodeURIComponent(value),
  ];
  const holds = (bytes: Buffer) => forms.some((form) => bytes.includes(form));
  // That it would be found: what stands in its place is.
  const placeholder = (await sandbox.exec('printf %s "$API_KEY"')).stdout;
  let seen = 0;
  for (const pid of await processesBeside(init)) {
    const environment = await readFile(`/proc/${pid}/environ`).catch(() => Buffer.alloc(0)); // it may have ended
    expect(holds(environment)).toBe(false);
    for (const region of await memoryOf(pid)) {
      expect(holds(region)).toBe(false);
      if (region.includes(placeholder)) seen++;
    }
  }
  expect(seen).toBeGreaterThan(0);
  const files = execa('docker', ['export', container], { buffer: false, encoding: 'buffer' });
  let rest = Buffer.alloc(0);
  let hasPlaceholder = false;
  for await (const chunk of files.stdout) {
    const bytes = Buffer.concat([rest, chunk as Buffer]);
    expect(holds(bytes)).toBe(false);
    hasPlaceholder ||= bytes.includes(placeholder);
    rest = bytes.subarray(-200);
  }
  expect(hasPlaceholder).toBe(true); // in /etc/profile.d
  for (const mount of mounts.filter((path) => path.startsWith('/var/lib/docker'))) {
    for (const form of forms)
      expect((await execa('grep', ['-rqF', '--', form, mount], { reject: false })).exitCode).toBe(1);
  }
  const traffic = Buffer.concat(sniffed);
  expect(holds(traffic)).toBe(false);
  expect(traffic.includes(Buffer.from(`me:${placeholder}`).toString('base64'))).toBe(true);
});

/** All in the sandbox of this one. */
async function processesBeside(init: string): Promise<string[]> {
  const namespaceOf = (pid: string) => readlink(`/proc/${pid}/ns/pid`).catch(() => undefined); // it may have ended
  const own = await namespaceOf(init);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const namespaces = await Promise.all(pids.map(namespaceOf));
  return pids.filter((_, i) => namespaces[i] === own);
}

/** What a process has in its memory, region by region; nothing of one that has ended meanwhile. */
async function memoryOf(pid: string): Promise<Buffer[]> {
  const maps = (await readFile(`/proc/${pid}/maps`, 'latin1').catch(() => '')).split('\n');
  await using memory = await open(`/proc/${pid}/mem`).catch(() => undefined);
  if (!memory) return [];
  const regions: Buffer[] = [];
  for (const line of maps) {
    const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
    const start = Number.parseInt(from, 16);
    const length = Number.parseInt(to, 16) - start;
    if (!(length > 0 && length < 1 << 28)) continue;
    const region = Buffer.alloc(length);
    // What is not there, as that of the kernel, can't be read.
    const read = await memory.read(region, 0, length, start).catch(() => undefined);
    if (read) regions.push(region.subarray(0, read.bytesRead));
  }
  return regions;
}

describe('what is refused', () => {
  const secret = { name: 'KEY', value: 'long-enough', hosts: ['api.test'] };
  test.each([
    [
      'a host that no rule allows',
      { ...secret, hosts: ['lost.test'] },
      /secret KEY for lost\.test, which no rule allows/,
    ],
    ['a port that no rule allows', { ...secret, hosts: ['api.test:8443'] }, /no rule allows/],
    ['a short value', { ...secret, value: 'short' }, /fewer than 8/],
    ['a line break', { ...secret, value: 'long\r\nX-Evil: 1' }, /no header can have/],
    ['no name of a variable', { ...secret, name: 'A-B' }, /no name of a variable/],
    ['no host', { ...secret, hosts: [] }, /hosts/],
    ['a host that is none', { ...secret, hosts: ['https://api.test'] }, /leave out scheme/],
    ['a field that it does not have', { ...secret, body: true }, /body/],
  ])('%s', async (_what, given, message) => {
    const created = host.create({ id: 'never', network: { allow: ['api.test'], secrets: [given] } });
    await expect(created).rejects.toMatchObject({
      name: 'InvalidOptionsError',
      message: expect.stringMatching(message),
    });
    await expect(created).rejects.not.toMatchObject({ message: expect.stringContaining(given.value) });
  });
  test('a name twice', async () => {
    const network = { allow: ['api.test'], secrets: [secret, secret] };
    await expect(host.create({ network })).rejects.toThrow(/KEY twice/);
  });
});
