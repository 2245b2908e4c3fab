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
  if (tried.some(({ reason }) => reason === 'forbidden')) return join;
  const is = (...ids: string[]) => ids.some((id) => distribution.includes(id));
  const start = is('alpine')
    ? 'rc-service docker start'
    : runsSystemd
      ? 'systemctl enable --now docker'
      : 'service docker start';
  if (system.dockerd !== undefined) return [start, ...join];
  if (is('debian', 'ubuntu')) return ['apt-get update', 'apt-get install -y docker.io', ...join];
  if (is('fedora') && !is('rhel', 'centos')) return ['dnf install -y moby-engine', start, ...join];
  // RHEL and its kin ship Podman only.
  if (is('rhel', 'centos', 'fedora')) return ['dnf install -y podman', 'systemctl --user enable --now podman.socket'];
  if (is('arch')) return ['pacman -S --needed docker', start, ...join];
  if (is('alpine')) return ['apk add docker', start, ...join];
  if (is('suse', 'opensuse')) return ['zypper install -y docker', start, ...join];
  return [];
}

/** One line for people: what is wrong, and what to do. */
export function engineProblem(tried: readonly EngineAttempt[], commands: readonly string[]): string {
  const chosen = tried.find(isChosen);
  if (chosen) return `The container engine of ${chosen.source} (${chosen.url}) can't be used: ${chosen.detail}.`;
  const advice =
    commands.length > 0 ? `Run: ${commands.join(' && ')}` : 'Install one: https://docs.docker.com/engine/install/';
  const forbidden = tried.find(({ reason }) => reason === 'forbidden');
  if (forbidden)
    return `This user may not open the container engine's socket (${forbidden.url}). ${advice}, then log in again.`;
  const stopped = tried.find(({ reason }) => reason === 'refused' || reason === 'failed');
  if (stopped) return `The container engine at ${stopped.url} does not answer: ${stopped.detail}. ${advice}`;
  return `No container engine was found. ${advice}`;
}

function isChosen({ source }: EngineAttempt): boolean {
  return source === 'DOCKER_HOST' || source === 'DOCKER_CONTEXT';
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
