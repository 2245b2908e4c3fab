// What the way out of a sandbox costs: the same program, in a sandbox and on this machine, asks the same servers.

import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { SandboxHost } from 'berth/sandbox';
import { execa } from 'execa';
import { testAuthority } from '../test/support/tls.ts';
import { compare } from './compare.ts';

const MiB = 1024 * 1024;
const chunk = Buffer.alloc(MiB);
const chunks = 256;
const listener: RequestListener = (request, response) => {
  if (request.url === '/small') return response.end('ok');
  let left = chunks;
  const write = () => {
    while (left-- > 0) if (!response.write(chunk)) return response.once('drain', write);
    return response.end();
  };
  write();
};
const authority = await testAuthority();
const plain = createServer(listener);
const secure = createTlsServer(await authority.certificateFor('127.0.0.1'), listener);
const [http, https] = await Promise.all([plain, secure].map(listening));

/** Prints milliseconds: of the whole body, and of the middle one of many small requests on one connection. */
const program = `
  const [how, scheme, at, size] = process.argv.slice(1);
  const { get: ask, Agent, request } = require(scheme);
  const [host, port] = at.split(':');
  const get = (agent, path) => new Promise((resolve, reject) => {
    const options = how === 'proxy' ? { host: '127.0.0.1', port: 3128, path: 'http://' + at + path } : { host, port, path };
    const started = performance.now();
    ask({ ...options, agent }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(performance.now() - started));
    }).on('error', reject);
  });
  const tunnel = () => new Promise((resolve, reject) => {
    require('http').request({ host: '127.0.0.1', port: 3128, method: 'CONNECT', path: at }).on('connect', (_, socket) => {
      resolve(scheme === 'http' ? socket : require('tls').connect({ socket, host }));
    }).on('error', reject).end();
  });
  (async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    if (how === 'tunnel') {
      const socket = await tunnel();
      agent.createConnection = () => socket;
    }
    if (size === 'large') return console.log(await get(agent, '/large'));
    const times = [];
    for (let i = 0; i < 300; i++) times.push(await get(agent, '/small'));
    console.log(times.sort((a, b) => a - b)[150]);
  })().catch((error) => { console.error(error); process.exit(1); }).then(() => process.exit());`;

await using host = await SandboxHost.open({ ca: [authority.ca] });
await using sandbox = await host.create({
  network: {
    allow: [`127.0.0.1:${http}`, { host: '127.0.0.1', ports: [https ?? 0], methods: ['GET'] }],
  },
});
/** @param how - `proxy`: whole URLs; `tunnel`: by CONNECT, what the host looks into where that is over TLS */
const inside = (how: 'proxy' | 'tunnel', scheme: 'http' | 'https', size: string) => async () => {
  const at = `127.0.0.1:${scheme === 'http' ? http : https}`;
  // As its variables say, Node would go by the proxy itself.
  const command = ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', program, how, scheme, at, size];
  const { stdout, stderr } = await sandbox.exec(command);
  if (stderr !== '') throw new Error(stderr);
  return Number(stdout);
};
const outside = (scheme: 'http' | 'https', size: string) => async () => {
  const at = `127.0.0.1:${scheme === 'http' ? http : https}`;
  const env = { NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_NO_WARNINGS: '1' }; // whom it trusts costs nothing here
  const { stdout } = await execa(process.execPath, ['-e', program, 'direct', scheme, at, size], { env });
  return Number(stdout);
};

const sizes = { large: `${chunks} MiB to a program`, small: 'a small request' };
for (const [size, what] of Object.entries(sizes)) {
  const ways = {
    direct: outside('http', size),
    'from a sandbox, by its proxy': inside('proxy', 'http', size),
    'from a sandbox, by a tunnel': inside('tunnel', 'http', size),
  };
  await compare(what, ways, { rounds: 10 });
  const secured = {
    direct: outside('https', size),
    'from a sandbox, looked into by the host': inside('tunnel', 'https', size),
  };
  await compare(`${what}, over TLS`, secured, { rounds: 10 });
}
for (const server of [plain, secure]) server.close();

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
