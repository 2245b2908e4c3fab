import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import Docker from 'dockerode';
import { execa } from 'execa';
import { baseImageTag } from '../../../src/engine/docker/base-image.ts';

/** Why these tests can't run here; `undefined` where they can. A skipped test shows it in its name. */
export const reasonToSkip: string | undefined = await (async () => {
  if (process.getuid?.() !== 0) return 'needs root';
  const isDebian = await readFile('/etc/debian_version').then(
    () => true,
    () => false,
  );
  return isDebian ? undefined : 'needs Debian, for its packages';
})();

/** As `reasonToSkip`, of engines that belong to a user. */
export const reasonToSkipRootless: string | undefined = await (async () => {
  const setting = (name: string) => readFile(`/proc/sys/${name}`, 'utf8').catch(() => '');
  const isForbidden =
    (await setting('user/max_user_namespaces')).trim() === '0' ||
    (await setting('kernel/unprivileged_userns_clone')).trim() === '0' ||
    (await setting('kernel/apparmor_restrict_unprivileged_userns')).trim() === '1';
  return reasonToSkip ?? (isForbidden ? 'needs a kernel that lets users make user namespaces' : undefined);
})();

/** Installs what is missing of Debian's packages, each known by a program of it. */
export async function install(programs: Readonly<Record<string, string>>): Promise<void> {
  const missing: string[] = [];
  for (const [program, name] of Object.entries(programs)) {
    const { exitCode } = await execa('sh', ['-c', `command -v ${program}`], { reject: false });
    if (exitCode !== 0) missing.push(name);
  }
  if (missing.length === 0) return;
  console.log(`installing ${missing.join(' ')}`);
  await execa('apt-get', ['update', '-q']);
  await execa('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
  });
}

export interface SecondEngine extends AsyncDisposable {
  address: Docker.DockerOptions;
  docker: Docker;
  /** Whose it is, where that is not root. */
  owner?: Owner;
  /** Ends dockerd. With `--live-restore` what runs in its containers goes on. */
  stop(): Promise<void>;
  /** Kills it and all that it runs, as a machine that loses its power does. */
  crash(): Promise<void>;
  /** Starts dockerd again; resolves when it answers. */
  start(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Owner {
  uid: number;
  gid: number;
}

export interface SecondEngineOptions {
  /** It belongs to a user of the test. */
  isRootless?: boolean;
  /** The program and its arguments before those of dockerd, such as `nsenter --net=…`. */
  within?: readonly string[];
  arguments?: readonly string[];
  /** The content of its daemon.json. */
  config?: object;
  /** Makes what further arguments name, in the folder of the engine. */
  prepare?: (folder: string) => Promise<string[]>;
}

/** A dockerd of the test, with the base image; at its end nothing of it is left. */
export async function startEngine(options: SecondEngineOptions = {}): Promise<SecondEngine> {
  const folder = await mkdtemp(join(tmpdir(), 'be-'));
  // With a user namespace the root of containers is nobody here, and must get to their files.
  await chmod(folder, 0o711);
  const user = options.isRootless ? await makeUser(folder) : undefined;
  const socketPath = join(folder, 's');
  await writeFile(join(folder, 'daemon.json'), JSON.stringify(options.config ?? {}));
  const command = [
    ...(options.within ?? []),
    ...(user ? [...user.as, 'rootlesskit', `--state-dir=${join(folder, 'namespaces')}`, ...inNamespaces] : []),
    'dockerd',
    ...(user ? ['--rootless'] : []),
    `--config-file=${join(folder, 'daemon.json')}`,
    `--data-root=${join(folder, 'data')}`,
    `--exec-root=${join(folder, 'exec')}`,
    `--pidfile=${join(folder, 'pid')}`,
    `--host=unix://${socketPath}`,
    '--bridge=none',
    '--iptables=false',
    '--ip6tables=false',
    '--ip-forward=false',
    '--ip-masq=false',
    ...(options.arguments ?? []),
    ...((await options.prepare?.(folder)) ?? []),
  ];
  return serve(folder, command, user);
}

/**
 * With the network of the machine: one of its own would take a further program. And with a /run of its own, of links to
 * what is outside; where Docker has its files there are those of root.
 */
const inNamespaces = [
  '--net=host',
  '--copy-up=/run',
  'sh',
  '-c',
  'rm -f /run/docker /run/containerd && exec "$@"',
  'sh',
];

/** Podman's service, which speaks the engine's API. */
export async function startPodman({ isRootless }: Pick<SecondEngineOptions, 'isRootless'> = {}): Promise<SecondEngine> {
  const folder = await mkdtemp(join(tmpdir(), 'be-'));
  await chmod(folder, 0o711);
  const user = isRootless ? await makeUser(folder) : undefined;
  const own = [
    `--root=${join(folder, 'data')}`,
    `--runroot=${join(folder, 'exec')}`,
    // By itself it takes copies where it is rootless.
    '--storage-driver=overlay',
  ];
  const service = ['podman', ...own, 'system', 'service', '--time=0', `unix://${join(folder, 's')}`];
  return serve(folder, [...(user?.as ?? []), ...service], user);
}

interface User extends Owner {
  /** The program and its arguments before those of a command of this user. */
  as: string[];
  /** Ends what runs of it. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A user of the test, with ids for containers, to whom the folder is given. */
async function makeUser(folder: string): Promise<User> {
  const name = `berth-${process.pid}`;
  await execa('useradd', ['--no-create-home', '--home-dir', folder, '--shell', '/bin/sh', name]);
  const ids = await Promise.all(['-u', '-g'].map(async (which) => Number((await execa('id', [which, name])).stdout)));
  const [uid = 0, gid = 0] = ids;
  await mkdir(join(folder, 'run'));
  for (const path of [folder, join(folder, 'run')]) await chown(path, uid, gid);
  return {
    uid,
    gid,
    as: [
      ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups'],
      ...['env', `HOME=${folder}`, `TMPDIR=${folder}`, `XDG_RUNTIME_DIR=${join(folder, 'run')}`],
    ],
    async [Symbol.asyncDispose]() {
      // Podman leaves one that keeps its namespace, and others that wait for minutes.
      for (const pid of await processesOf(uid)) process.kill(pid, 'SIGKILL');
      while ((await processesOf(uid)).length > 0) await wait(20);
      await execa('userdel', [name]);
    },
  };
}

async function processesOf(uid: number): Promise<number[]> {
  const owners = (await readdir('/proc'))
    .filter((name) => /^\d+$/.test(name))
    .map(async (name) => ({ pid: Number(name), uid: (await stat(`/proc/${name}`).catch(() => undefined))?.uid }));
  return (await Promise.all(owners)).filter((one) => one.uid === uid).map(({ pid }) => pid);
}

/** @param command - serves the engine's API at the socket `s` in the folder, which belongs to it */
async function serve(folder: string, command: readonly string[], user?: User): Promise<SecondEngine> {
  const socketPath = join(folder, 's');
  let log = '';
  const local = new Docker({ socketPath, host: undefined });
  const run = () => {
    const daemon = spawn(command[0] ?? '', command.slice(1), {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    daemon.stderr.on('data', (chunk: Buffer) => {
      log = (log + chunk).slice(-4_000);
    });
    return { daemon, ended: once(daemon, 'exit') };
  };
  let running = run();
  async function stop(): Promise<void> {
    running.daemon.kill('SIGTERM');
    await running.ended;
  }
  async function start(): Promise<void> {
    running = run();
    await answers(local, running.daemon, () => log);
  }
  async function crash(): Promise<void> {
    const containers = await Promise.all(
      (await local.listContainers()).map(({ Id }) => local.getContainer(Id).inspect()),
    );
    const names = await readdir('/proc');
    const commands = await Promise.all(
      names.map(async (name) => ({ name, text: await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '') })),
    );
    // The daemons first: none is to see another one's end.
    const daemons = commands.flatMap(({ name, text }) => (text.includes(`${folder}/`) ? [Number(name)] : []));
    const pids = [...daemons, ...containers.map(({ State }) => State.Pid)];
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    // Not all of them are children of this process; a containerd does not start while the one before is there.
    while (pids.some((pid) => existsSync(`/proc/${pid}`))) await wait(50);
  }
  async function end(): Promise<void> {
    await stop();
    await user?.[Symbol.asyncDispose]();
    // With a user namespace it mounts below a folder of its own.
    const mounts = await readFile('/proc/self/mounts', 'utf8');
    const ours = mounts.split('\n').flatMap((line) => line.split(' ')[1] ?? []);
    for (const path of ours.filter((one) => one.startsWith(`${folder}/`)).reverse())
      await execa('umount', ['-l', path]);
    // Again where one of Podman's processes, which clean up after each container, is still at work in it.
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  }
  try {
    await answers(local, running.daemon, () => log);
    await loadBaseImage(socketPath);
    const engine = { address: { socketPath }, docker: local, stop, crash, start, [Symbol.asyncDispose]: end };
    return user ? { ...engine, owner: user } : engine;
  } catch (error) {
    await end();
    throw error;
  }
}

/** Resolves when the engine answers; there is no event for that. */
export async function answers(docker: Docker, daemon: { exitCode: number | null }, log: () => string): Promise<void> {
  for (const deadline = Date.now() + 60_000; ; await wait(50)) {
    try {
      await docker.ping();
      return;
    } catch (cause) {
      if (daemon.exitCode === null && Date.now() < deadline) continue;
      throw new Error(`the engine of the test does not answer: ${log()}`, { cause });
    }
  }
}

/** From the engine of the machine. */
async function loadBaseImage(socketPath: string): Promise<void> {
  await access(socketPath);
  const from = new Docker({ socketPath: '/var/run/docker.sock', host: undefined });
  const to = new Docker({ socketPath, host: undefined });
  const answer = await to.loadImage(await from.getImage(await baseImageTag()).get());
  answer.resume();
  await once(answer, 'end');
}
