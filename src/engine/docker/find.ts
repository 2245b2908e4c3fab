import type Docker from 'dockerode';
import type {
  Container,
  ContainerDetails,
  ContainerEnd,
  ContainerLimits,
  ContainerState,
  LimitName,
} from '../engine.ts';
import { statusOf } from './failure.ts';
import { killCause } from './kill-cause.ts';

/** On a container: the names of the labels that are not its own but its image's, as JSON. The engine gives it both. */
export const inheritedLabel = 'berth.inherited';

export function ownLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const { [inheritedLabel]: text = '[]', ...rest } = labels;
  const inherited: string[] = JSON.parse(text); // our own text
  return Object.fromEntries(Object.entries(rest).filter(([name]) => !inherited.includes(name)));
}

/** What the engine's list wants in place of a record: every one must be there. */
export function labelFilter(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`);
}

export async function findContainers(docker: Docker, labels: Readonly<Record<string, string>>): Promise<Container[]> {
  const found = await docker.listContainers({ all: true, filters: { label: labelFilter(labels) } });
  return found.map((container) => ({
    id: container.Id,
    state: stateOf(container.State),
    image: container.Image,
    createdAt: new Date(container.Created * 1000),
    labels: ownLabels(container.Labels),
  }));
}

/** @param unenforced - limits that the engine does not hold to */
export async function inspectContainer(
  docker: Docker,
  id: string,
  unenforced: readonly LimitName[],
): Promise<ContainerDetails | undefined> {
  let found: Docker.ContainerInspectInfo;
  try {
    found = await docker.getContainer(id).inspect();
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
  const { State, HostConfig, Config } = found;
  const state = stateOf(State.Status);
  return {
    id: found.Id,
    state,
    image: Config.Image,
    createdAt: new Date(found.Created),
    labels: ownLabels(Config.Labels),
    limits: limitsOf(HostConfig),
    unlimited: limitNames.filter((name) => unenforced.includes(name) || !limitsOf(HostConfig)[name]),
    ...(state === 'exited' && { end: await endOf(docker, id, State) }),
  };
}

async function endOf(
  docker: Docker,
  id: string,
  { ExitCode: exitCode, StartedAt, FinishedAt }: Docker.ContainerInspectInfo['State'],
): Promise<ContainerEnd> {
  const at = new Date(FinishedAt);
  // Its first process is killed from outside only, or by the kernel.
  const lifespan = { startedAt: new Date(StartedAt), endedAt: at };
  // An engine that keeps no events does not know.
  const killedBy = exitCode === 137 ? await killCause(docker, id, lifespan).catch(() => undefined) : undefined;
  return { exitCode, at, ...(killedBy && { killedBy }) };
}

const limitNames = ['memory', 'cpus', 'pids', 'disk'] as const;

export function limitsOf({ Memory, NanoCpus, PidsLimit, StorageOpt }: Docker.HostConfig): ContainerLimits {
  const disk = Number(StorageOpt?.size);
  return {
    memory: Memory ?? 0,
    cpus: (NanoCpus ?? 0) / 1e9,
    pids: PidsLimit ?? 0,
    ...(disk > 0 && { disk }),
  };
}

export function stateOf(status: string): ContainerState {
  switch (status) {
    case 'created':
    case 'running':
    case 'paused':
    case 'removing':
      return status;
    case 'restarting':
      return 'running';
    default:
      // `exited`, and `dead`: one whose removal failed.
      return 'exited';
  }
}
