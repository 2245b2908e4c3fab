import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { authorityFiles } from '../../../src/protocol/network.ts';
import { type NetworkDecision, type Sandbox, SandboxHost } from '../../../src/sandbox/index.ts';
import { gitBackend } from '../../support/git-backend.ts';
import { type NameServer, openNameServer } from '../../support/name-server.ts';
import { bring, installing, npmRegistry, packageManagers } from '../../support/npm-registry.ts';
import { type TestAuthority, testAuthority } from '../../support/tls.ts';

let nameServer: NameServer;
let authority: TestAuthority;
let host: SandboxHost;
let stateDir: string;

beforeAll(async () => {
  nameServer = await openNameServer({ 'web.test': ['127.0.0.1'] });
  authority = await testAuthority();
  stateDir = await mkdtemp(join(tmpdir(), 'berth-test-clients-'));
  host = await SandboxHost.open({ stateDir, dns: [nameServer.address], ca: [authority.ca] });
});

afterAll(async () => {
  for (const { id } of await host.list()) await host.remove(id);
  await host.close();
  await rm(stateDir, { recursive: true, force: true });
  await nameServer[Symbol.asyncDispose]();
});

/** A server for HTTPS on this machine's loopback. */
async function serve(listener: RequestListener): Promise<{ server: Server; port: number; url: string }> {
  const server = createServer(await authority.certificateFor('web.test'), listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `https://web.test:${port}` };
}

/** What the host does with what programs say to a server: pass it on as it is, or read it, as for a secret. */
const kinds = [
  { kind: 'passed on', caFile: '/tmp/ca.pem' },
  { kind: 'read by the host', caFile: authorityFiles.bundle },
] as const;
type Kind = (typeof kinds)[number];

/** Reaches that server, and trusts it. */
async function sandboxFor(port: number, { kind, caFile }: Kind): Promise<Sandbox> {
  const allow = [`web.test:${port}`, `127.0.0.1:${port}`];
  const secrets = [{ name: 'TOKEN', value: 'the-secret-value', hosts: [`web.test:${port}`] }];
  const isRead = kind === 'read by the host';
  const names = ['CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'NODE_EXTRA_CA_CERTS'];
  const sandbox = await host.create({
    network: { allow, ...(isRead && { secrets }) },
    // Of the host's own authority the sandbox knows already.
    ...(!isRead && { env: Object.fromEntries(names.map((name) => [name, caFile])) }),
  });
  const others: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => {
    if (!decision.allowed || (decision.path !== undefined) !== isRead) others.push(decision);
  });
  onTestFinished(async () => {
    await sandbox.remove();
    expect(others).toEqual([]);
  });
  if (!isRead) await sandbox.fs.writeFile(caFile, authority.ca);
  return sandbox;
}

/** A command for each way out: by the proxy that the variables name, and by the names alone. */
const ways = (command: string): [way: string, command: string][] => [
  ['by the proxy', command],
  ['by names', `unset $(env | cut -d= -f1 | grep -i proxy); ${command}`],
];

test.each(kinds)('curl and fetch of Node reach a server over HTTPS, $kind', async (kind) => {
  const { port, url } = await serve((request, response) => void response.end(`hello ${request.url}`));
  const sandbox = await sandboxFor(port, kind);
  const fetch = `fetch('${url}/x').then(async (answer) => console.log(await answer.text()))`;
  // As libgit2 does, which leaves out the port.
  const withoutPort = `curl -sS -H 'Host: web.test' ${url}/x`;
  for (const [way, command] of [`curl -sS ${url}/x`, withoutPort, `node -e "${fetch}"`].flatMap(ways)) {
    const { stdout, stderr } = await sandbox.exec(command);
    expect([way, stdout.trim(), stderr]).toEqual([way, 'hello /x', '']);
  }
});

test.each(kinds)(
  'git clones from a server over HTTPS, and pushes to it, also more than it sends at once, $kind',
  async (kind) => {
    const { port, url } = await serve(gitBackend(join(stateDir, 'git', kind.kind)));
    const repository = join(stateDir, `git/${kind.kind}/project.git`);
    await execa('git', ['init', '--quiet', '--bare', '--initial-branch=main', repository]);
    await execa('git', ['-C', repository, 'config', 'http.receivepack', 'true']);
    const sandbox = await sandboxFor(port, kind);
    await sandbox.fs.writeFile('large', randomBytes(3 * 1024 * 1024));
    const commit = (name: string) =>
      `git -C ${name} add . && git -C ${name} -c user.name=a -c user.email=a@a.test commit -qm ${name} && git -C ${name} push -q origin HEAD:main`;
    const steps = [
      // As http.postBuffer is 1 MiB, this is sent in chunks.
      `git clone -q ${url}/project.git first; cp large first && ${commit('first')}`,
      `git clone -q ${url}/project.git second && cmp large second/large && echo more > second/more && ${commit('second')}`,
      `git -C first pull -q origin main && cat first/more`,
    ];
    for (const [way, command] of ways(`rm -rf first second; ${steps.join(' && ')}`)) {
      const { stdout, stderr, exitCode } = await sandbox.exec(command);
      expect([way, stdout, stderr.replace(/^warning: You appear .*\n/, ''), exitCode]).toEqual([way, 'more\n', '', 0]);
      await execa('git', ['-C', repository, 'update-ref', '-d', 'refs/heads/main']);
    }
  },
);

test.each(kinds)('npm installs from a registry over HTTPS, $kind', async (kind) => {
  const registry = await npmRegistry(() => url);
  const { port, url } = await serve(registry);
  const sandbox = await sandboxFor(port, kind);
  const install = `rm -rf node_modules package*.json ~/.npm && npm install --silent --registry ${url} greeting`;
  for (const [way, command] of ways(`${install} && node -p "require('greeting')"`)) {
    const { stdout, stderr } = await sandbox.exec(command);
    expect([way, stdout.trim(), stderr]).toEqual([way, 'installed', '']);
  }
});

test('yarn and pnpm install from a registry over HTTPS, read by the host', async () => {
  const registry = await npmRegistry(() => url);
  const { port, url } = await serve(registry);
  const sandbox = await sandboxFor(port, kinds[1]);
  for (const [name, manager] of Object.entries(packageManagers)) {
    await bring(sandbox, manager);
    const { stdout, stderr, exitCode } = await sandbox.exec(installing(manager), { env: { REGISTRY: url } });
    expect([name, exitCode, stdout], stderr).toEqual([name, 0, expect.stringMatching(/installed\n$/)]);
  }
});

test.each(kinds)('apt reads a package list over HTTPS, and downloads from there, $kind', async (kind) => {
  let deb: Uint8Array = new Uint8Array();
  const { port, url } = await serve((request, response) => {
    const control = `Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n`;
    const digest = createHash('sha256').update(deb).digest('hex');
    if (request.url?.endsWith('/Packages')) {
      response.end(`${control}Filename: greeting.deb\nSize: ${deb.length}\nSHA256: ${digest}\n`);
    } else if (request.url === '/greeting.deb') response.end(deb);
    else response.writeHead(404).end();
  });
  const sandbox = await sandboxFor(port, kind);
  const control = 'Package: greeting\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: a\\n';
  const build = `mkdir -p deb/DEBIAN && printf '${control}' > deb/DEBIAN/control && dpkg-deb -b deb built.deb`;
  expect((await sandbox.exec(build)).exitCode).toBe(0);
  deb = await sandbox.fs.readFileBuffer('built.deb');
  const options = [
    ...['Dir::State=/tmp/apt/state', 'Dir::Cache=/tmp/apt/cache', 'Dir::Etc::SourceParts=/none'],
    ...['Dir::Etc::SourceList=/tmp/apt/list', `Acquire::https::CAInfo=${kind.caFile}`],
  ];
  const apt = `apt-get -q ${options.map((option) => `-o ${option}`).join(' ')}`;
  const prepare = `rm -rf /tmp/apt *_all.deb; mkdir -p /tmp/apt/state/lists/partial /tmp/apt/cache/archives/partial && echo 'deb [trusted=yes] ${url} ./' > /tmp/apt/list`;
  for (const [way, command] of ways(
    `${prepare} && ${apt} update && ${apt} download greeting && cmp built.deb greeting_1_all.deb`,
  )) {
    const { stdout, stderr, exitCode } = await sandbox.exec(command);
    expect([way, exitCode, `${stdout}${stderr}`]).toEqual([way, 0, expect.stringContaining('Get:')]);
  }
});

test.each(kinds)(
  'a stream of events over HTTPS comes as it is sent, and ends when the client wants no more, $kind',
  async (kind) => {
    let ended = 0;
    const { port, url } = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 0\n\n');
      let count = 0;
      const timer = setInterval(() => response.write(`data: ${++count}\n\n`), 20);
      response.on('close', () => {
        ended++;
        clearInterval(timer);
      });
    });
    const sandbox = await sandboxFor(port, kind);
    const read = `
    const answer = await fetch('${url}');
    let text = '';
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) if ((text += chunk).includes('data: 3')) break;
    console.log(text.split('\\n\\n').slice(0, 4).join(' '));`;
    await sandbox.fs.writeFile('read.mjs', read);
    const commands = [...ways('node read.mjs'), ...ways(`curl -sSN ${url} | grep -m 4 data | tr '\\n' ' '`)];
    for (const [way, command] of commands) {
      const { stdout, stderr } = await sandbox.exec(command);
      expect([way, stdout.trim(), stderr]).toEqual([
        way,
        'data: 0 data: 1 data: 2 data: 3',
        expect.not.stringContaining('rror'),
      ]);
    }
    await expect.poll(() => ended).toBe(commands.length);
  },
);

test.each(kinds)(
  'a WebSocket over TLS carries messages both ways, also large ones, and its end, $kind',
  async (kind) => {
    const { port, server, url } = await serve((_, response) => void response.writeHead(404).end());
    const sockets = new WebSocketServer({ server });
    onTestFinished(() => sockets.close());
    const codes: number[] = [];
    sockets.on('connection', (socket) => {
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
      socket.on('close', (code) => codes.push(code));
    });
    const sandbox = await sandboxFor(port, kind);
    const script = `
    const socket = new WebSocket('${url.replace('https', 'wss')}/');
    const large = 'x'.repeat(1_000_000);
    const wanted = ['one', large, 'two'];
    socket.onopen = () => { for (const text of wanted) socket.send(text); };
    socket.onmessage = ({ data }) => {
      if (data !== wanted.shift()) throw new Error('another one came');
      if (wanted.length === 0) socket.close(4000);
    };
    socket.onclose = ({ code }) => console.log(code);`;
    for (const [way, command] of ways(`node -e "${script.replaceAll('$', '\\$')}"`)) {
      const { stdout, stderr } = await sandbox.exec(command);
      expect([way, stdout.trim(), stderr]).toEqual([way, '4000', '']);
    }
    await expect.poll(() => codes).toEqual([4000, 4000]);
  },
);

test.each(kinds)(
  'all that a server sent over a WebSocket before it closed comes to a program that is slow to read, $kind',
  async (kind) => {
    const { port, server, url } = await serve((_, response) => void response.writeHead(404).end());
    const sockets = new WebSocketServer({ server });
    onTestFinished(() => sockets.close());
    const messages = 24;
    sockets.on('connection', (socket, request) => {
      for (let i = 0; i < messages; i++) socket.send(Buffer.alloc(1_000_000));
      socket.close(4000);
      request.socket.destroySoon(); // when it is sent, whatever the program says
    });
    const sandbox = await sandboxFor(port, kind);
    const script = `
    const socket = new WebSocket('${url.replace('https', 'wss')}/');
    let messages = 0;
    socket.onmessage = () => {
      messages++;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    };
    socket.onclose = ({ code }) => console.log(messages, code);`;
    for (const [way, command] of ways(`node -e "${script}"`)) {
      const { stdout, stderr } = await sandbox.exec(command);
      expect([way, stdout.trim(), stderr]).toEqual([way, `${messages} 4000`, '']);
    }
  },
);
