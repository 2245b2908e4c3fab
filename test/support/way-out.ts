import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { SandboxHost } from '../../src/sandbox/index.ts';
import { openNameServer } from './name-server.ts';
import { type TestAuthority, testAuthority } from './tls.ts';

export interface WayOut extends AsyncDisposable {
  host: SandboxHost;
  /** Whose certificates the host trusts. */
  authority: TestAuthority;
}

/** A host for which `api.test` and `other.test` are on this machine's loopback. */
export async function openWayOut(): Promise<WayOut> {
  const nameServer = await openNameServer({ 'api.test': ['127.0.0.1'], 'other.test': ['127.0.0.1'] });
  const authority = await testAuthority();
  const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-out-'));
  const host = await SandboxHost.open({ stateDir, dns: [nameServer.address], ca: [authority.ca] });
  return {
    host,
    authority,
    async [Symbol.asyncDispose]() {
      for (const { id } of await host.list()) await host.remove(id);
      await host.close();
      await rm(stateDir, { recursive: true, force: true });
      await nameServer[Symbol.asyncDispose]();
    },
  };
}

/** Has it listen on loopback. @returns its port */
export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port; // of TCP
}

export interface Said {
  /** Where CONNECT leads, as `api.test:443`. */
  to: string;
  /** Sent as it is, in Latin-1, when TLS is there. */
  say: string;
  /** Of what comes back, when that is enough. Default: when the connection has ended */
  until?: string;
}

const program = `
const { connect } = require('node:net');
const [to, until] = process.argv.slice(1);
const say = require('node:fs').readFileSync(0);
const socket = connect(3128, '127.0.0.1', () => socket.write('CONNECT ' + to + ' HTTP/1.1\\r\\n\\r\\n'));
socket.on('error', () => {});
socket.once('data', () => {
  const secure = require('node:tls').connect({ socket, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
  let text = '';
  const end = () => process.stdout.write(Buffer.from(text, 'latin1'), () => process.exit());
  secure.on('secureConnect', () => secure.write(say));
  secure.on('data', (chunk) => {
    text += chunk.toString('latin1');
    if (until && text.includes(until)) end();
  });
  secure.on('error', () => {});
  secure.on('close', end);
});`;

/** A program in the sandbox that says anything over TLS, by the proxy. @returns what it got */
export async function say(sandbox: Sandbox, { to, say: text, until = '' }: Said): Promise<string> {
  const { stdout, timedOut } = await sandbox.exec(['node', '-e', program, to, until], {
    stdin: Buffer.from(text, 'latin1'),
    timeout: 30_000,
  });
  if (timedOut) throw new Error(`the connection to ${to} did not end`);
  return stdout;
}
