import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Sandbox, SandboxHost } from '../../../src/sandbox/index.ts';
import { type NameServer, openNameServer } from '../../support/name-server.ts';
import { type TestAuthority, testAuthority } from '../../support/tls.ts';

let nameServer: NameServer;
let authority: TestAuthority;
let host: SandboxHost;
let stateDir: string;

beforeAll(async () => {
  nameServer = await openNameServer({ 'web.test': ['127.0.0.1'] });
  authority = await testAuthority();
  stateDir = await mkdtemp(join(tmpdir(), 'berth-test-clients-'));
  host = await SandboxHost.open({ stateDir, dns: [nameServer.address] });
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

/** Reaches that server, and trusts it. */
async function sandboxFor(port: number): Promise<Sandbox> {
  const ca = '/tmp/ca.pem';
  const sandbox = await host.create({
    network: { allow: [`web.test:${port}`, `127.0.0.1:${port}`] },
    env: { CURL_CA_BUNDLE: ca, GIT_SSL_CAINFO: ca, NODE_EXTRA_CA_CERTS: ca, SSL_CERT_FILE: ca },
  });
  onTestFinished(() => sandbox.remove());
  await sandbox.fs.writeFile(ca, authority.ca);
  return sandbox;
}

test('curl and fetch of Node reach a server over HTTPS, with a proxy and without one', async () => {
  const { port, url } = await serve((request, response) => void response.end(`hello ${request.url}`));
  const sandbox = await sandboxFor(port);
  const fetch = `fetch('${url}/x').then(async (answer) => console.log(await answer.text()))`;
  for (const command of [
    ['curl', '-sS', `${url}/x`],
    ['curl', '-sS', '--noproxy', '*', `${url}/x`],
    ['node', '-e', fetch],
    ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', fetch],
  ]) {
    const { stdout, stderr } = await sandbox.exec(command);
    expect([command, stdout.trim(), stderr]).toEqual([command, 'hello /x', '']);
  }
});
