import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa, type Options } from 'execa';
import { describe, expect, onTestFinished, test } from 'vitest';

const checkout = join(import.meta.dirname, '../..');
const isRoot = process.getuid?.() === 0;

async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bt-place-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Runs a program with `host` and `sandbox` in another process; `before` is a command in front of it. */
async function runElsewhere(
  { stateDir, create = {}, before = [] }: { stateDir: string; create?: object; before?: string[] },
  body: string,
  options: Options = {},
): Promise<unknown> {
  const script = `
    import { createRequire } from 'node:module';
    const { SandboxHost } = await import('${checkout}/src/sandbox/host.ts');
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(stateDir)} });
    const sandbox = await host.create(${JSON.stringify(create)});
    try {
      const result = await (async () => { ${body} })();
      console.log(JSON.stringify(result));
    } finally {
      await sandbox.remove();
      await host.close();
    }`;
  const [file = '', ...args] = [...before, 'node', '--import', `${checkout}/node_modules/tsx/dist/loader.mjs`];
  const { stdout } = await execa(file, [...args, '--input-type=module', '-e', script], { cwd: checkout, ...options });
  return JSON.parse(String(stdout));
}

describe.skipIf(!isRoot)('a host whose directories the engine does not see', () => {
  const look = `
    const Docker = createRequire('${checkout}/package.json')('dockerode');
    const { Config, Mounts } = await new Docker().getContainer('berth-' + sandbox.id).inspect();
    const { stdout } = await sandbox.exec('cat', { stdin: 'over the stream' });
    const other = await host.create({ id: 'next' });
    const next = (await new Docker().getContainer('berth-next').inspect()).Config.Labels['berth.wire'];
    await other.remove();
    return { label: Config.Labels['berth.wire'], binds: Mounts.filter(({ Type }) => Type === 'bind').length, stdout, next };`;
  /** A view of the file system of its own, in which another directory is at this path. */
  const before = (path: string) => ['unshare', '-m', 'sh', '-c', `mount -t tmpfs tmpfs ${path}; exec "$0" "$@"`];

  test('takes the stream of the engine when the engine does not have the directory', async () => {
    const parent = await temporary();
    const result = await runElsewhere({ stateDir: join(parent, 'state'), before: before(parent) }, look);
    expect(result).toEqual({ label: 'exec', binds: 0, stdout: 'over the stream', next: 'exec' });
  });

  test('takes the stream of the engine when the socket appears somewhere else, and for the next one at once', async () => {
    const parent = await temporary();
    await mkdir(join(parent, 'state/wire/first'), { recursive: true, mode: 0o777 });
    const place = { stateDir: join(parent, 'state'), create: { id: 'first' }, before: before(parent) };
    expect(await runElsewhere(place, look)).toEqual({
      label: 'unix',
      binds: 1,
      stdout: 'over the stream',
      next: 'exec',
    });
  });
});

describe('a host that is no root', () => {
  const uid = 47_110;
  // A checkout below a home directory may be closed to others.
  const mayRead = spawnSync('test', ['-r', join(checkout, 'dist/sandbox-agent.cjs')], { uid, gid: uid }).status === 0;

  test.skipIf(!isRoot || !mayRead)('works with a directory of its user, whose the files in it are', async () => {
    const home = await temporary();
    const workspace = join(home, 'workspace');
    await mkdir(workspace);
    for (const path of [home, workspace]) await chown(path, uid, uid);
    await using socket = await openEngineSocket(join(await temporary(), 'docker.sock'), uid);

    const result = await runElsewhere(
      { stateDir: join(home, 'state'), create: { workspace: { bind: workspace } } },
      `await sandbox.fs.writeFile('by-the-host', 'one');
       const { stdout } = await sandbox.exec('id -u; echo two > by-a-command; cat by-the-host');
       return { uid: process.getuid(), stdout };`,
      { uid, gid: uid, env: { HOME: home, TMPDIR: home, DOCKER_HOST: `unix://${socket.path}` } },
    );
    expect(result).toEqual({ uid, stdout: `${uid}\none` });
    for (const [name, content] of Object.entries({ 'by-the-host': 'one', 'by-a-command': 'two\n' })) {
      expect(await readFile(join(workspace, name), 'utf8')).toBe(content);
      expect(await stat(join(workspace, name))).toMatchObject({ uid, gid: uid });
    }
  });
});

/** The engine, at a socket that this user may open. */
async function openEngineSocket(path: string, uid: number): Promise<{ path: string } & AsyncDisposable> {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const engine = createConnection({ path: '/var/run/docker.sock', allowHalfOpen: true });
    client.pipe(engine).pipe(client);
    client.on('error', () => engine.destroy());
    engine.on('error', () => client.destroy());
  });
  server.listen(path);
  await once(server, 'listening');
  await chown(path, uid, uid);
  await chmod(join(path, '..'), 0o711);
  return {
    path,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}
