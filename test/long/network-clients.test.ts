import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type NetworkDecision, type Sandbox, SandboxHost } from '../../src/sandbox/index.ts';
import { gitBackend } from '../support/git-backend.ts';
import { type NameServer, openNameServer } from '../support/name-server.ts';
import { testAuthority } from '../support/tls.ts';
import { install, reasonToSkip } from './engines/second-engine.ts';

const packages = ['ca-certificates', 'cargo', 'git', 'golang-go', 'openjdk-17-jdk-headless', 'python3-pip', 'wget'];
/** It takes minutes to make, and is left for the next time. */
const image = `berth-test-clients:${createHash('sha256').update(packages.join()).digest('hex').slice(0, 12)}`;

const java = `
  import java.net.*;
  import java.net.http.*;
  class Ask {
    public static void main(String[] urls) throws Exception {
      var request = HttpRequest.newBuilder(URI.create(urls[0])).build();
      System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
      System.out.println(new String(new URL(urls[0]).openStream().readAllBytes()));
    }
  }`;

/** Makes what the servers have: a wheel, and a Go module. */
const archives = `
import zipfile
with zipfile.ZipFile('wheel', 'w') as wheel:
  wheel.writestr('greeting.py', '')
  wheel.writestr('greeting-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n')
  wheel.writestr('greeting-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
  wheel.writestr('greeting-1.0.dist-info/RECORD', '')
with zipfile.ZipFile('module', 'w') as module:
  module.writestr('web.test/greeting@v1.0.0/go.mod', 'module web.test/greeting\\n')
  module.writestr('web.test/greeting@v1.0.0/greeting.go', 'package greeting\\n')
`;

/** What each runs, and what that prints at its end. */
const clients: Record<string, { command: string; printed: string; byNames?: string }> = {
  wget: { command: 'wget -nv -O- $URL/hello', printed: 'hello' },
  'urllib of Python': {
    command: `python3 -c "import urllib.request as u; print(u.urlopen('$URL/hello').read().decode())"`,
    printed: 'hello',
  },
  pip: {
    command: 'rm -rf wheels; pip download -q --no-cache-dir -d wheels --index-url $URL/simple greeting && ls wheels',
    printed: 'greeting-1.0-py3-none-any.whl',
  },
  java: {
    command: 'java Ask.java $URL/hello',
    printed: 'hello\nhello',
    // It has the proxy from JAVA_TOOL_OPTIONS, which also say whom it trusts.
    byNames: 'java -Dhttps.proxyHost= Ask.java $URL/hello',
  },
  go: {
    command:
      'go clean -modcache; cd module-user && GOSUMDB=off GOPROXY=$URL/modules go mod download web.test/greeting@v1.0.0 && ls $(go env GOMODCACHE)/web.test',
    printed: 'greeting@v1.0.0',
  },
  cargo: {
    command: 'rm -rf ~/.cargo crate/Cargo.lock; cd crate && cargo -q fetch && grep -c greeting Cargo.lock',
    printed: '3',
  },
  git: { command: 'rm -rf clone; git clone -q $URL/greeting.git clone && ls clone', printed: 'Cargo.toml\nsrc' },
};

let folder: string;
let nameServer: NameServer;
let host: SandboxHost;
let server: Server;
let port: number;
let ca: string;
const files: Record<string, Uint8Array | string> = {};

beforeAll(async () => {
  if (reasonToSkip) return;
  folder = await mkdtemp(join(tmpdir(), 'berth-test-clients-'));
  await makeImage();
  await makeRepository(join(folder, 'git/greeting.git'));
  nameServer = await openNameServer({ 'web.test': ['127.0.0.1'] });
  const authority = await testAuthority();
  ca = authority.ca;
  const git = gitBackend(join(folder, 'git'));
  server = createServer(await authority.certificateFor('web.test'), (request, response) => {
    const found = files[request.url ?? ''];
    if (request.url?.startsWith('/greeting.git/')) git(request, response);
    else if (found === undefined) response.writeHead(404).end();
    else
      response
        .setHeader('content-type', request.url?.endsWith('/') ? 'text/html' : 'application/octet-stream')
        .end(found);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
  host = await SandboxHost.open({ stateDir: join(folder, 'state'), dns: [nameServer.address], ca: [ca] });
}, 1_200_000);

afterAll(async () => {
  if (reasonToSkip) return;
  for (const { id } of await host.list()) await host.remove(id);
  await host.close();
  server.closeAllConnections();
  server.close();
  await nameServer[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function makeImage(): Promise<void> {
  const docker = new Docker();
  const isThere = await docker
    .getImage(image)
    .inspect()
    .then(
      () => true,
      () => false,
    );
  if (isThere) return;
  await install({ mmdebstrap: 'mmdebstrap' });
  const make =
    'mmdebstrap --variant=minbase --format=tar --include="$1" --dpkgopt="path-exclude=/usr/share/doc/*" bookworm -';
  const path = 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  await execa('bash', [
    '-o',
    'pipefail',
    '-c',
    `${make} | docker import -c "$3" - "$2"`,
    '-',
    packages.join(),
    image,
    path,
  ]);
}

async function makeRepository(bare: string): Promise<void> {
  const work = join(folder, 'work');
  await mkdir(join(work, 'src'), { recursive: true });
  await writeFile(join(work, 'Cargo.toml'), '[package]\nname = "greeting"\nversion = "1.0.0"\n');
  await writeFile(join(work, 'src/lib.rs'), '');
  const git = (...args: string[]) =>
    execa('git', ['-c', 'user.name=a', '-c', 'user.email=a@a.test', ...args], { cwd: work });
  await git('init', '-q', '--initial-branch=master');
  await git('add', '.');
  await git('commit', '-qm', 'first');
  await git('clone', '-q', '--bare', work, bare);
}

/** A sandbox with all that the clients need. */
async function prepared(isLookedInto: boolean): Promise<{ sandbox: Sandbox; decisions: NetworkDecision[] }> {
  const secret = { name: 'TOKEN', value: 'not a secret'.replaceAll(' ', '-'), hosts: [`web.test:${port}`] };
  const sandbox = await host.create({
    image,
    network: { allow: [`web.test:${port}`, `127.0.0.1:${port}`], ...(isLookedInto && { secrets: [secret] }) },
    env: { URL: `https://web.test:${port}` },
  });
  const decisions: NetworkDecision[] = [];
  sandbox.observeNetwork((decision) => decisions.push(decision));
  if (!isLookedInto) {
    await sandbox.fs.writeFile('/usr/local/share/ca-certificates/test.crt', ca);
    const { exitCode, stderr } = await sandbox.exec('update-ca-certificates');
    expect(exitCode, stderr).toBe(0);
  }
  await sandbox.fs.writeFile('Ask.java', java);
  await sandbox.fs.writeFile('archives.py', archives);
  expect((await sandbox.exec('python3 archives.py')).exitCode).toBe(0);
  const wheel = await sandbox.fs.readFileBuffer('wheel');
  const digest = createHash('sha256').update(wheel).digest('hex');
  const name = 'greeting-1.0-py3-none-any.whl';
  Object.assign(files, {
    '/hello': 'hello',
    '/simple/greeting/': `<!DOCTYPE html><html><body><a href="/${name}#sha256=${digest}">${name}</a></body></html>`,
    [`/${name}`]: wheel,
    '/modules/web.test/greeting/@v/v1.0.0.info': '{"Version":"v1.0.0"}',
    '/modules/web.test/greeting/@v/v1.0.0.mod': 'module web.test/greeting\n',
    '/modules/web.test/greeting/@v/v1.0.0.zip': await sandbox.fs.readFileBuffer('module'),
  });
  await sandbox.fs.mkdir('module-user');
  await sandbox.fs.writeFile('module-user/go.mod', 'module web.test/user\n');
  await sandbox.fs.mkdir('crate/src', { recursive: true });
  const dependency = `greeting = { git = "https://web.test:${port}/greeting.git" }`;
  await sandbox.fs.writeFile(
    'crate/Cargo.toml',
    `[package]\nname = "user"\nversion = "1.0.0"\n[dependencies]\n${dependency}\n`,
  );
  await sandbox.fs.writeFile('crate/src/lib.rs', '');
  return { sandbox, decisions };
}

for (const [how, isLookedInto] of [
  ['where the host passes on what is said', false],
  ['where the host reads what is said, for a secret', true],
] as const) {
  describe.skipIf(reasonToSkip)(`over HTTPS, ${how}`, () => {
    let sandbox: Sandbox;
    let decisions: NetworkDecision[];
    beforeAll(async () => {
      ({ sandbox, decisions } = await prepared(isLookedInto));
    });
    for (const [name, { command, printed, byNames = command }] of Object.entries(clients)) {
      test(`${name} reaches a name that is allowed, by the proxy and without`, async () => {
        for (const run of [command, `unset $(env | cut -d= -f1 | grep -i proxy); ${byNames}`]) {
          decisions.length = 0;
          const { stdout, stderr } = await sandbox.exec(run);
          expect([run, stdout.trim()], stderr).toEqual([run, printed]);
          await expect.poll(() => decisions.length).toBeGreaterThan(0);
          for (const { allowed, path } of decisions)
            expect([allowed, path !== undefined]).toEqual([true, isLookedInto]);
        }
      });
    }

    test('of a name that no rule allows each says that it is refused, and most which rule is missing', async () => {
      const told = /no rule allows refused\.test:443; to allow it, add 'refused\.test:443'/;
      // These show of what the proxy says the number only.
      const short: Record<string, RegExp> = { cargo: /refused\.test.*403/s, git: /refused\.test.*403/ };
      const env = { URL: 'https://refused.test' };
      await sandbox.exec(`sed -i "s,https://web.test:[0-9]*,$URL," crate/Cargo.toml`, { env });
      const javaOld = `sed -i '/HttpClient.newHttpClient/d' Ask.java; ${clients.java?.command}`; // the new one has the number only
      for (const [name, { command }] of Object.entries(clients)) {
        const { stdout, stderr, exitCode } = await sandbox.exec(name === 'java' ? javaOld : command, { env });
        expect([name, exitCode, stdout + stderr]).toEqual([
          name,
          expect.not.toBeOneOf([0]),
          expect.stringMatching(short[name] ?? told),
        ]);
      }
    });
  });
}
