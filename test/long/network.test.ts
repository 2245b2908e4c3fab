import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { expect, test } from 'vitest';
import { SandboxHost } from '../../src/sandbox/index.ts';
import { http2Client } from '../support/http2-client.ts';
import { openNameServer } from '../support/name-server.ts';
import { testAuthority } from '../support/tls.ts';

const pieceBytes = 1024 * 1024;
const pieces = 1024;

test.each([
  ['', 'curl'],
  [', read by the host for a secret, in HTTP/1.1', 'curl'],
  [', read by the host for a secret, in HTTP/2', 'node'],
])(
  '1 GiB comes in and goes out at the same time over HTTPS%s, exactly, and is never held as a whole',
  async (how, client) => {
    await using nameServer = await openNameServer({ 'web.test': ['127.0.0.1'] });
    const authority = await testAuthority();
    let sent = createHash('sha256');
    let received = '';
    const certificate = await authority.certificateFor('web.test');
    const server = createSecureServer({ ...certificate, allowHTTP1: true }, async (request, response) => {
      if (request.method === 'PUT') {
        const hash = createHash('sha256');
        await pipeline(request, hash);
        received = hash.digest('hex');
        return void response.end();
      }
      sent = createHash('sha256');
      const piece = randomBytes(pieceBytes);
      const body = function* () {
        for (let number = 0; number < pieces; number++) {
          // Another one each time: what is lost, doubled or in another order is seen.
          const next = Buffer.from(piece);
          next.writeUInt32BE(number);
          sent.update(next);
          yield next;
        }
      };
      await pipeline(Readable.from(body()), response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-large-'));
    const host = await SandboxHost.open({ stateDir, dns: [nameServer.address], ca: [authority.ca] });
    const before = process.memoryUsage().rss;
    let most = 0;
    const meter = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 100);
    try {
      const secrets = how === '' ? [] : [{ name: 'TOKEN', value: 'not-in-the-sandbox', hosts: [`web.test:${port}`] }];
      const allow = [`web.test:${port}`, `127.0.0.1:${port}`];
      await using sandbox = await host.create({ network: { allow, secrets } });
      await sandbox.fs.writeFile('ca.pem', authority.ca);
      const url = `https://web.test:${port}/`;
      await sandbox.fs.writeFile('http2.mjs', http2Client);
      const curl = `curl -sS --http1.1 ${how === '' ? '--cacert ca.pem' : ''}`;
      const command =
        client === 'curl'
          ? `${curl} ${url} | ${curl} -T - ${url}`
          : `node http2.mjs GET ${url} | node http2.mjs PUT ${url}`;
      const byNames = 'unset $(env | cut -d= -f1 | grep -i proxy); ';
      for (const way of how === '' ? ['', byNames] : ['']) {
        received = '';
        expect(await sandbox.exec(way + command)).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
        expect(received).toBe(sent.digest('hex'));
      }
      expect(most - before).toBeLessThan((pieces * pieceBytes) / 4);
    } finally {
      clearInterval(meter);
      await host.close();
      server.close();
      await rm(stateDir, { recursive: true, force: true });
    }
  },
);
