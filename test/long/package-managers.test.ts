import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { unpackNpmPackage } from '../../src/engine/docker/npm-package.ts';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { bring, installing, npmRegistry, type PackageManager, packageManagers } from '../support/npm-registry.ts';
import { listening, openWayOut, type WayOut } from '../support/way-out.ts';

// A program of its own, not of Node: its HTTP and TLS are those of other programs in Rust, uv among them.
const folder = await mkdtemp(join(tmpdir(), 'berth-test-managers-'));
const native = {
  name: `@pnpm/exe.linux-${process.arch}@12.21.0`,
  from: join(folder, 'pnpm'),
  command: 'pnpm_config_fetch_retries=0 /tmp/manager/pnpm add --registry $REGISTRY greeting',
};
const integrity: Record<string, string> = {
  x64: 'sha512-8eufCjHXspKbNS/kh8q4Q0gqJoOuvC4Q5pgos6XS8By/nAMtP+jf8F1Cw9er840kfAX+PJ/ts+A9qnLE91rvXQ==',
  arm64: 'sha512-4Oj/iF2TDCe2lcH0n4TupPR5sSdrNLclJB6xBElLMPCUOAvBhdf2rRlSaO5M4erJ6g4Fyy7YTXTpcmfFsKyxEA==',
};

/** What each says of a name that no rule allows: of what the proxy says yarn and the native pnpm leave out the reason. */
const managers: Record<string, PackageManager & { refused: RegExp }> = {
  'yarn 1': { ...packageManagers['yarn 1'], refused: /https:\/\/other\.test\/greeting: .*403/ },
  'yarn 4': { ...packageManagers['yarn 4'], refused: /Bad response: 403/ },
  'pnpm 10': {
    ...packageManagers['pnpm 10'],
    refused: /other\.test\/greeting: berth: no rule allows other\.test:443; to allow it, add/,
  },
  'pnpm 12': { ...native, refused: /other\.test\/greeting: .*tunnel/s },
};

let out: WayOut;
let url: string;
let port: number;
let server: ReturnType<typeof createServer>;

beforeAll(async () => {
  await unpackNpmPackage(native.name, integrity[process.arch] ?? '', native.from);
  out = await openWayOut();
  server = createServer(await out.authority.certificateFor('api.test'), await npmRegistry(() => url));
  port = await listening(server);
  url = `https://api.test:${port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await out[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Where the host passes on what is said, and where it reads it, for a secret. */
describe.each(['passed on', 'read by the host'])('over HTTPS, %s', (how) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    const isRead = how === 'read by the host';
    const secrets = [{ name: 'TOKEN', value: 'the-secret-value', hosts: [`api.test:${port}`] }];
    sandbox = await out.host.create({
      network: { allow: [`api.test:${port}`, `127.0.0.1:${port}`], ...(isRead && { secrets }) },
      env: {
        REGISTRY: url,
        ...(!isRead && { NODE_EXTRA_CA_CERTS: '/tmp/ca.pem', SSL_CERT_FILE: '/tmp/ca.pem' }),
      },
    });
    await sandbox.fs.writeFile('/tmp/ca.pem', out.authority.ca);
  });

  for (const [name, manager] of Object.entries(managers)) {
    test(`${name} installs a package, by the proxy and without, and says which host is refused`, async () => {
      await bring(sandbox, manager);
      for (const way of ['', 'unset $(env | cut -d= -f1 | grep -i proxy); ']) {
        const { stdout, stderr } = await sandbox.exec(way + installing(manager));
        expect([way, stdout], stderr).toEqual([way, expect.stringMatching(/installed\n$/)]);
      }
      const env = { REGISTRY: 'https://other.test' };
      const { stdout, stderr, exitCode } = await sandbox.exec(installing(manager), { env });
      expect([exitCode, stdout + stderr]).toEqual([1, expect.stringMatching(manager.refused)]);
    });
  }
});
