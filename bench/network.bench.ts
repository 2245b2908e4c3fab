// What the way out of a sandbox costs: the same program, in a sandbox and on this machine, asks the same server.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SandboxHost } from 'berth/sandbox';
import { execa } from 'execa';
import { compare } from './compare.ts';

const MiB = 1024 * 1024;
const chunk = Buffer.alloc(MiB);
const chunks = 256;
const server = createServer((request, response) => {
  if (request.url === '/small') return response.end('ok');
  let left = chunks;
  const write = () => {
    while (left-- > 0) if (!response.write(chunk)) return response.once('drain', write);
    return response.end();
  };
  write();
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address() as AddressInfo;

/** Prints milliseconds: of the whole body, and of the middle one of many small requests on one connection. */
const program = `
  const http = require('http');
  const [at, size, proxy] = process.argv.slice(1);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const get = (path) => new Promise((resolve, reject) => {
    const options = proxy ? { host: '127.0.0.1', port: 3128, path: 'http://' + at + path } : { host: '127.0.0.1', port: at.split(':')[1], path };
    const started = performance.now();
    http.get({ ...options, agent }, (answer) => {
      let bytes = 0;
      answer.on('data', ({ length }) => { bytes += length; });
      answer.on('end', () => resolve({ bytes, ms: performance.now() - started }));
    }).on('error', reject);
  });
  (async () => {
    if (size === 'large') return console.log((await get('/large')).ms);
    const times = [];
    for (let i = 0; i < 300; i++) times.push((await get('/small')).ms);
    console.log(times.sort((a, b) => a - b)[150]);
  })();`;

await using host = await SandboxHost.open();
await using sandbox = await host.create({ network: { allow: [`127.0.0.1:${port}`] } });
const inside = (size: string) => async () => {
  const { stdout, stderr } = await sandbox.exec(['node', '-e', program, `127.0.0.1:${port}`, size, 'proxy']);
  if (stderr !== '') throw new Error(stderr);
  return Number(stdout);
};
const outside = (size: string) => async () => {
  const { stdout } = await execa(process.execPath, ['-e', program, `127.0.0.1:${port}`, size]);
  return Number(stdout);
};

await compare(
  `${chunks} MiB to a program`,
  { direct: outside('large'), 'from a sandbox': inside('large') },
  { rounds: 10 },
);
await compare('a small request', { direct: outside('small'), 'from a sandbox': inside('small') }, { rounds: 10 });
server.close();
