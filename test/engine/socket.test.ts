import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { engineCommands, engineProblem, type MachineSystem } from '../../src/engine/remedy.ts';
import { type EngineAttempt, EngineUnreachableError, findEngine } from '../../src/engine/socket.ts';

let home: string;
const servers: Server[] = [];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'home-'));
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => once(server.close(), 'close')));
  await rm(home, { recursive: true });
});

/** What of an engine's API a search for one asks. */
async function listen(at: string | number): Promise<AddressInfo | string | null> {
  const server = createServer((request, response) => {
    const version = { Version: '27.0.0', ApiVersion: '1.46', Arch: 'arm64' };
    response.end(request.url === '/version' ? JSON.stringify(version) : 'OK');
  });
  servers.push(server);
  if (typeof at === 'string') await mkdir(dirname(at), { recursive: true });
  await once(server.listen(at), 'listening');
  return server.address();
}

async function writeContext(name: string, url: string): Promise<void> {
  const id = createHash('sha256').update(name).digest('hex');
  const folder = join(home, '.docker/contexts/meta', id);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'meta.json'), JSON.stringify({ Name: name, Endpoints: { docker: { Host: url } } }));
}

async function failure(env: NodeJS.ProcessEnv): Promise<EngineUnreachableError> {
  const error = await findEngine({ env }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EngineUnreachableError)) throw new Error(`unexpected: ${error}`);
  return error;
}

describe('finds an engine', () => {
  test('at the socket that DOCKER_HOST names, and says its version and processor', async () => {
    const socketPath = join(home, 'engine.sock');
    await listen(socketPath);
    expect(await findEngine({ env: { HOME: home, DOCKER_HOST: `unix://${socketPath}` } })).toEqual({
      address: { socketPath },
      url: `unix://${socketPath}`,
      source: 'DOCKER_HOST',
      version: '27.0.0',
      apiVersion: '1.46',
      arch: 'arm64',
    });
  });

  test('over TCP', async () => {
    const address = await listen(0);
    const port = typeof address === 'object' ? address?.port : undefined;
    const found = await findEngine({ env: { HOME: home, DOCKER_HOST: `tcp://127.0.0.1:${port}` } });
    expect(found.address).toEqual({ protocol: 'http', host: '127.0.0.1', port });
  });

  test("in the docker command's current context, before the default socket", async () => {
    const socketPath = join(home, '.colima/default/docker.sock');
    await listen(socketPath);
    await writeContext('colima', `unix://${socketPath}`);
    await writeFile(join(home, '.docker/config.json'), JSON.stringify({ currentContext: 'colima' }));
    expect(await findEngine({ env: { HOME: home } })).toMatchObject({
      address: { socketPath },
      source: 'docker context colima',
    });
  });

  test('in the context that DOCKER_CONTEXT names, whatever the current one is', async () => {
    const socketPath = join(home, 'chosen.sock');
    await listen(socketPath);
    await writeContext('chosen', `unix://${socketPath}`);
    await writeContext('current', 'unix:///nowhere.sock');
    await writeFile(join(home, '.docker/config.json'), JSON.stringify({ currentContext: 'current' }));
    const found = await findEngine({ env: { HOME: home, DOCKER_CONTEXT: 'chosen' } });
    expect(found).toMatchObject({ address: { socketPath }, source: 'DOCKER_CONTEXT' });
  });
});

describe('when no engine answers', () => {
  test('asks no other than the one that DOCKER_HOST names', async () => {
    const { meta } = await failure({ HOME: home, DOCKER_HOST: `unix://${home}/none.sock` });
    expect(meta).toMatchObject({ tried: [{ source: 'DOCKER_HOST', reason: 'absent' }], commands: [] });
  });

  test('asks no other than the one that DOCKER_CONTEXT names', async () => {
    const { meta } = await failure({ HOME: home, DOCKER_CONTEXT: 'unknown' });
    expect(meta).toMatchObject({ tried: [{ source: 'DOCKER_CONTEXT', reason: 'unsupported' }], commands: [] });
  });

  test('tells a socket where nobody listens from one that is not there', async () => {
    const server = createTcpServer();
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo; // it listens on a port
    await once(server.close(), 'close');
    const { meta } = await failure({ HOME: home, DOCKER_HOST: `tcp://127.0.0.1:${port}` });
    expect(meta.tried).toMatchObject([{ reason: 'refused' }]);
  });

  test.skipIf(process.getuid?.() === 0)('says that this user may not open the socket', async () => {
    const socketPath = join(home, 'engine.sock');
    await listen(socketPath);
    await chmod(socketPath, 0);
    const { meta } = await failure({ HOME: home, DOCKER_HOST: `unix://${socketPath}` });
    expect(meta.tried).toMatchObject([{ reason: 'forbidden' }]);
  });

  test('says what to do instead of a connection over ssh', async () => {
    const { message, meta } = await failure({ HOME: home, DOCKER_HOST: 'ssh://me@engine' });
    expect(meta.tried).toMatchObject([{ reason: 'unsupported' }]);
    expect(message).toContain('ssh -nNT -L');
  });

  test.each(['nonsense', 'tcp://', 'fd://3', 'tcp://a b:1'])('takes DOCKER_HOST=%s for no address', async (url) => {
    expect((await failure({ HOME: home, DOCKER_HOST: url })).meta.tried).toMatchObject([{ reason: 'unsupported' }]);
  });

  test('names the certificate that can not be read', async () => {
    const env = { HOME: home, DOCKER_HOST: 'tcp://127.0.0.1:2376', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: home };
    const { meta } = await failure(env);
    expect(meta.tried).toMatchObject([{ reason: 'failed', detail: expect.stringContaining('ca.pem') }]);
  });

  test('takes something else that answers for no engine', async () => {
    const server = createServer((_request, response) => response.writeHead(404).end('no'));
    servers.push(server);
    const socketPath = join(home, 'web.sock');
    await once(server.listen(socketPath), 'listening');
    const { meta } = await failure({ HOME: home, DOCKER_HOST: `unix://${socketPath}` });
    expect(meta.tried).toMatchObject([{ reason: 'failed', detail: 'GET /_ping answers 404: no' }]);
  });
});

test('stops asking when it is aborted', async () => {
  const server = createServer(() => {}); // never answers
  servers.push(server);
  const socketPath = join(home, 'silent.sock');
  await once(server.listen(socketPath), 'listening');
  const abort = new AbortController();
  const asked = once(server, 'request');
  const found = findEngine({ env: { HOME: home, DOCKER_HOST: `unix://${socketPath}` }, signal: abort.signal });
  await asked;
  abort.abort();
  await expect(found).rejects.toMatchObject({ name: 'AbortError' });
});

describe('the commands that mend it', () => {
  const attempt = (
    reason: EngineAttempt['reason'],
    source = 'default socket',
    url = 'unix:///var/run/docker.sock',
  ): EngineAttempt => ({
    url,
    source,
    reason,
    detail: 'why',
  });
  const linux = (distribution: string[], more: Partial<MachineSystem> = {}): MachineSystem => ({
    platform: 'linux',
    distribution,
    isRoot: false,
    user: 'ann',
    runsSystemd: true,
    ...more,
  });
  test.each<[string, EngineAttempt, MachineSystem, string[]]>([
    [
      'Debian',
      attempt('absent'),
      linux(['debian']),
      ['sudo apt-get update', 'sudo apt-get install -y docker.io', 'sudo usermod -aG docker ann'],
    ],
    [
      'Ubuntu as root',
      attempt('absent'),
      linux(['ubuntu', 'debian'], { isRoot: true }),
      ['apt-get update', 'apt-get install -y docker.io'],
    ],
    [
      'Debian with a stopped dockerd',
      attempt('refused'),
      linux(['debian'], { isRoot: true, dockerd: '/usr/sbin/dockerd', runsSystemd: false }),
      ['service docker start'],
    ],
    [
      'Fedora',
      attempt('absent'),
      linux(['fedora']),
      ['sudo dnf install -y moby-engine', 'sudo systemctl enable --now docker', 'sudo usermod -aG docker ann'],
    ],
    [
      'Rocky',
      attempt('absent'),
      linux(['rocky', 'rhel', 'centos', 'fedora']),
      ['sudo dnf install -y podman', 'systemctl --user enable --now podman.socket'],
    ],
    [
      'Arch',
      attempt('absent'),
      linux(['arch']),
      ['sudo pacman -S --needed docker', 'sudo systemctl enable --now docker', 'sudo usermod -aG docker ann'],
    ],
    [
      'Alpine',
      attempt('absent'),
      linux(['alpine'], { isRoot: true, runsSystemd: false }),
      ['apk add docker', 'rc-service docker start'],
    ],
    [
      'openSUSE',
      attempt('absent'),
      linux(['opensuse-leap', 'suse', 'opensuse']),
      ['sudo zypper install -y docker', 'sudo systemctl enable --now docker', 'sudo usermod -aG docker ann'],
    ],
    ['macOS', attempt('absent'), linux([], { platform: 'darwin' }), ['brew install colima docker', 'colima start']],
    [
      'a socket without permission',
      attempt('forbidden'),
      linux(['debian'], { dockerd: '/usr/sbin/dockerd' }),
      ['sudo usermod -aG docker ann'],
    ],
    ['an engine that somebody chose', attempt('refused', 'DOCKER_HOST'), linux(['debian']), []],
    [
      'Docker that was in use',
      attempt('absent', 'in use'),
      linux(['debian'], { isRoot: true, dockerd: '/usr/sbin/dockerd' }),
      ['systemctl enable --now docker'],
    ],
    ['Docker that was in use from a container', attempt('absent', 'in use'), linux(['debian']), []],
    [
      'another engine that was in use',
      attempt('absent', 'in use', 'unix:///run/user/1000/docker.sock'),
      linux(['debian'], { dockerd: '/usr/sbin/dockerd' }),
      [],
    ],
    ['macOS with an engine that was in use', attempt('absent', 'in use'), linux([], { platform: 'darwin' }), []],
    [
      'rootless Docker that is stopped',
      attempt('refused', 'rootless Docker', 'unix:///run/user/1000/docker.sock'),
      linux(['debian'], { dockerd: '/usr/sbin/dockerd' }),
      ['systemctl --user start docker'],
    ],
    [
      'Podman of root only',
      attempt('forbidden', 'Podman', 'unix:///run/podman/podman.sock'),
      linux(['debian']),
      ['systemctl --user enable --now podman.socket'],
    ],
    ['an unknown system', attempt('absent'), linux(['plan9']), []],
  ])('on %s', (_name, tried, system, commands) => {
    expect(engineCommands([tried], system)).toEqual(commands);
    const problem = engineProblem([tried], commands);
    expect(problem).not.toContain('\n');
    expect(problem).toContain(commands.join(' && '));
  });

  test('an engine that was chosen or used is to be started, not to be installed', () => {
    const problem = (...its: Parameters<typeof attempt>) => engineProblem([attempt(...its)], []);
    expect(problem('refused', 'DOCKER_HOST')).toMatch(/^The container engine of DOCKER_HOST .*: why\. Start it\.$/);
    expect(problem('absent', 'in use', 'unix:///a.sock')).toBe(
      "The container engine at unix:///a.sock can't be used: why. Start it.",
    );
    expect(problem('failed', 'in use')).toContain('See whether it runs and can be reached.');
    expect(problem('unsupported', 'DOCKER_CONTEXT')).toMatch(/: why\.$/);
    expect(problem('refused', 'Colima')).toMatch(/Start it\.$/);
    expect(problem('absent')).toContain('Install one');
  });
});
