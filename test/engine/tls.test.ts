import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import Docker from 'dockerode';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { EngineUnreachableError, findEngine } from '../../src/engine/socket.ts';
import { openHost } from '../support/sandbox-fixture.ts';

/** Two authorities; `mine` made the server's certificate and one for a client, `foreign` only one for a client. */
const certificates = `set -e
for name in mine foreign; do
  mkdir $name
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name -keyout $name/ca-key.pem -out $name/ca.pem
done
sign() {
  openssl req -newkey rsa:2048 -nodes -subj /CN=$2 -keyout $1/$3key.pem -out $1/$3.csr
  printf "$4" > $1/$3.ext
  openssl x509 -req -days 2 -in $1/$3.csr -CA $1/ca.pem -CAkey $1/ca-key.pem -CAcreateserial -extfile $1/$3.ext -out $1/$3cert.pem
}
sign mine localhost server- 'subjectAltName=IP:127.0.0.1'
sign mine client '' 'extendedKeyUsage=clientAuth'
sign foreign client '' 'extendedKeyUsage=clientAuth'`;

let folder: string;
let port: number;
let close: () => void;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-test-tls-'));
  await execa('sh', ['-c', certificates], { cwd: folder });
  const [ca, cert, key] = await Promise.all(
    ['ca.pem', 'server-cert.pem', 'server-key.pem'].map((name) => readFile(join(folder, 'mine', name))),
  );
  // What dockerd does with --tlsverify, in front of its socket.
  const server = createServer(
    { ca, cert, key, requestCert: true, rejectUnauthorized: true, allowHalfOpen: true },
    (client) => {
      const engine = createConnection({ path: '/var/run/docker.sock', allowHalfOpen: true });
      client.pipe(engine).pipe(client);
      client.on('error', () => engine.destroy());
      engine.on('error', () => client.destroy());
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo); // it listens on TCP
  close = () => server.close();
});
afterEach(() => {
  vi.unstubAllEnvs();
});
afterAll(async () => {
  close();
  await rm(folder, { recursive: true, force: true });
});

function use(certificates: string): NodeJS.ProcessEnv {
  vi.stubEnv('DOCKER_HOST', `tcp://127.0.0.1:${port}`);
  vi.stubEnv('DOCKER_TLS_VERIFY', '1');
  vi.stubEnv('DOCKER_CERT_PATH', join(folder, certificates));
  return process.env;
}

test('a sandbox works over TLS: commands, files and input go over the stream of the engine', async () => {
  use('mine');
  await using opened = await openHost();
  await using sandbox = await opened.host.create();
  vi.unstubAllEnvs();
  const { Config, Mounts } = await new Docker().getContainer(`berth-${sandbox.id}`).inspect();
  expect(Config.Labels['berth.wire']).toBe('exec');
  expect(Mounts.map(({ Type }) => Type)).not.toContain('bind');

  expect((await sandbox.exec('cat; echo done', { stdin: 'input ' })).stdout).toBe('input done\n');
  const bytes = Buffer.alloc(4_000_000, 'over TLS ');
  await sandbox.fs.writeFile('file', bytes);
  expect(bytes.equals(await sandbox.fs.readFileBuffer('file'))).toBe(true);
});

test('an engine that takes the certificate of another authority is not talked to, and says which it was', async () => {
  const finding = findEngine({ env: use('foreign') });
  await expect(finding).rejects.toBeInstanceOf(EngineUnreachableError);
  await expect(finding).rejects.toThrow(`DOCKER_HOST (tcp://127.0.0.1:${port})`);
  const missing = findEngine({ env: use('nowhere') });
  await expect(missing).rejects.toThrow("certificates can't be read");
});
