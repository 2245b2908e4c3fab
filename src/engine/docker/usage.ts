import type Docker from 'dockerode';
import type { ContainerUsage } from '../engine.ts';
import { statusOf } from './failure.ts';
import { limitsOf, stateOf } from './find.ts';

const idle = { memory: 0, cpuMs: 0, pids: 0 };

/** `undefined`: there is no such container. */
export async function containerUsage(
  docker: Docker,
  id: string,
  { disk }: { disk: boolean },
): Promise<ContainerUsage | undefined> {
  const container = docker.getContainer(id);
  try {
    // dockerode's types know neither the option nor its answer.
    const options: Docker.ContainerInspectOptions & { size: boolean } = { size: disk };
    const found: Docker.ContainerInspectInfo & { SizeRw?: number } = await container.inspect(options);
    const { State, HostConfig, SizeRw } = found;
    const state = stateOf(State.Status);
    // Without `one-shot` the engine takes two looks, a second apart.
    const measured = State.Running ? toUsage(await container.stats({ stream: false, 'one-shot': true })) : idle;
    return {
      ...measured,
      state,
      limits: limitsOf(HostConfig),
      ...(State.Running && { startedAt: new Date(State.StartedAt) }),
      ...(disk && { disk: SizeRw ?? 0 }),
    };
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

/** Where a container ended meanwhile, or the engine has no cgroup to look at, fields are missing. */
function toUsage({ memory_stats, cpu_stats, pids_stats }: Partial<Docker.ContainerStats>) {
  const { usage = 0, stats } = memory_stats ?? {};
  // What was read from files and not lately used is given back as soon as somebody needs it; cgroup v1, then v2.
  const reclaimable = stats?.total_inactive_file ?? stats?.inactive_file ?? 0;
  return {
    memory: Math.max(0, usage - reclaimable),
    cpuMs: (cpu_stats?.cpu_usage?.total_usage ?? 0) / 1e6,
    pids: pids_stats?.current ?? 0,
  };
}
