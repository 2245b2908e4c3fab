import { access, constants, readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import type { EngineAttempt } from './socket.ts';

/** What of this machine decides how it gets an engine. */
export interface MachineSystem {
  readonly platform: NodeJS.Platform;
  /** `ID` and `ID_LIKE` of os-release: `['ubuntu', 'debian']`. Empty where there is no such file. */
  readonly distribution: readonly string[];
  readonly isRoot: boolean;
  readonly user: string;
  readonly runsSystemd: boolean;
  /** The path of dockerd, when it is installed. */
  readonly dockerd?: string;
}

export async function readSystem(env: NodeJS.ProcessEnv = process.env): Promise<MachineSystem> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const field = (name: string) => release.match(new RegExp(`^${name}="?([^"\n]*)"?$`, 'm'))?.[1]?.split(' ') ?? [];
  const dockerd = await findProgram('dockerd', env);
  return {
    platform: process.platform,
    distribution: [...field('ID'), ...field('ID_LIKE')],
    isRoot: process.getuid?.() === 0,
    user: userName(env),
    // What sd_booted(3) looks at.
    runsSystemd: await exists('/run/systemd/system'),
    ...(dockerd !== undefined && { dockerd }),
  };
}

/** The path of a program; daemons are also looked for where only root's PATH leads. */
export async function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  for (const folder of [...(env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']) {
    const path = join(folder, name);
    if (folder !== '' && (await exists(path, constants.X_OK))) return path;
  }
  return undefined;
}

/** The commands that bring an engine to this system, in their order; empty when it is not ours to say. */
export function engineCommands(tried: readonly EngineAttempt[], system: MachineSystem): string[] {
  // Somebody chose this engine: installing another one would not be what they asked for.
  if (tried.some(isChosen)) return [];
  // One that answered before is there; only of Docker's own on Linux it is known what starts it.
  const used = tried.find(isInUse);
  const isOurs = used?.url === defaultUrl && system.platform === 'linux' && system.dockerd !== undefined;
  if (used && !isOurs) return [];
  if (system.platform === 'darwin') return ['brew install colima docker', 'colima start'];
  if (system.platform !== 'linux') return [];
  const commands = linuxCommands(tried, system);
  return system.isRoot
    ? commands
    : commands.map((command) => (command.startsWith('systemctl --user') ? command : `sudo ${command}`));
}

function linuxCommands(tried: readonly EngineAttempt[], system: MachineSystem): string[] {
  const { distribution, user, runsSystemd, isRoot } = system;
  const join = isRoot ? [] : [`usermod -aG docker ${user}`];
  if (tried.some((one) => one.reason === 'forbidden' && one.url === defaultUrl)) return join;
  const is = (...ids: string[]) => ids.some((id) => distribution.includes(id));
  const start = is('alpine')
    ? 'rc-service docker start'
    : runsSystemd
      ? 'systemctl enable --now docker'
      : 'service docker start';
  const isThere = (name: string) => tried.some(({ source, reason }) => source === name && reason !== 'absent');
  if (isThere('rootless Docker') && runsSystemd) return ['systemctl --user start docker'];
  if (system.dockerd !== undefined) return [start, ...join];
  // That of root is for root only; it gives every user one of his own.
  if (isThere('Podman') && runsSystemd) return [podman(isRoot)];
  if (is('debian', 'ubuntu')) return ['apt-get update', 'apt-get install -y docker.io', ...join];
  if (is('fedora') && !is('rhel', 'centos')) return ['dnf install -y moby-engine', start, ...join];
  // RHEL and its kin ship Podman only.
  if (is('rhel', 'centos', 'fedora')) return ['dnf install -y podman', podman(isRoot)];
  if (is('arch')) return ['pacman -S --needed docker', start, ...join];
  if (is('alpine')) return ['apk add docker', start, ...join];
  if (is('suse', 'opensuse')) return ['zypper install -y docker', start, ...join];
  return [];
}

function podman(isRoot: boolean): string {
  return `systemctl ${isRoot ? '' : '--user '}enable --now podman.socket`;
}

/** One line for people: what is wrong, and what to do. */
export function engineProblem(tried: readonly EngineAttempt[], commands: readonly string[]): string {
  const run = commands.length > 0 ? `Run: ${commands.join(' && ')}` : undefined;
  const settled = tried.find((one) => isChosen(one) || isInUse(one));
  if (settled) {
    const { source, url, reason, detail } = settled;
    const which = isInUse(settled) ? `at ${url}` : `of ${source} (${url})`;
    // Of other reasons the detail says what to do.
    const isStopped = reason === 'absent' || reason === 'refused';
    const advice = run ?? (isStopped ? 'Start it.' : isInUse(settled) ? 'See whether it runs and can be reached.' : '');
    return `The container engine ${which} can't be used: ${detail}. ${advice}`.trim();
  }
  const forbidden = tried.find(({ reason }) => reason === 'forbidden');
  if (forbidden) {
    const login = forbidden.url === defaultUrl ? ', then log in again' : '';
    return `This user may not open the container engine's socket (${forbidden.url}). ${run ?? install}${login}.`;
  }
  const stopped = tried.find(({ reason }) => reason === 'refused' || reason === 'failed');
  if (stopped) {
    return `The container engine at ${stopped.url} does not answer: ${stopped.detail}. ${run ?? 'Start it.'}`;
  }
  return `No container engine was found. ${run ?? install}`;
}

const install = 'Install one: https://docs.docker.com/engine/install/';
const defaultUrl = 'unix:///var/run/docker.sock';

function isChosen({ source }: EngineAttempt): boolean {
  return source === 'DOCKER_HOST' || source === 'DOCKER_CONTEXT';
}

/** It answered this process before. */
function isInUse({ source }: EngineAttempt): boolean {
  return source === 'in use';
}

/** userInfo() fails for a user id without an entry in the user database, as in a container started with `--user`. */
function userName(env: NodeJS.ProcessEnv): string {
  try {
    return userInfo().username;
  } catch {
    return env.USER ?? '$USER';
  }
}

function exists(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
