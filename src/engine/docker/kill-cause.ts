import { createInterface } from 'node:readline';
import type Docker from 'dockerode';
import type { ContainerEnd } from '../engine.ts';

type Cause = NonNullable<ContainerEnd['killedBy']>;

interface Lifespan {
  startedAt: Date;
  endedAt: Date;
}

interface Event {
  Action: string;
  timeNano: number;
  Actor: { Attributes: { signal?: string } };
}

const settledMs = 100;
/** An event of memory that is older has killed something else. */
const memoryMs = 2_000;

/**
 * What ended a container with SIGKILL: somebody asked the engine to stop it, which is another signal first, or to kill it,
 * or its memory was gone. Docker has the last 256 events of its containers, since its own start.
 */
export async function killCause(
  docker: Docker,
  id: string,
  { startedAt, endedAt }: Lifespan,
): Promise<Cause | undefined> {
  const answer = await docker.getEvents({
    since: seconds(startedAt),
    // The clock is the engine's. It writes down a signal after it has sent it, so the end can be the earlier of the two.
    until: seconds(new Date(endedAt.getTime() + settledMs)),
    filters: { container: [id], event: ['kill', 'stop', 'oom'] },
  });
  let signals: string[] = [];
  let isOutOfMemory = false;
  for await (const line of createInterface({ input: answer })) {
    const { Action, Actor, timeNano }: Event = JSON.parse(line); // the engine's, which is trusted
    if (Action === 'stop') return 'stop';
    if (Action === 'oom') isOutOfMemory = timeNano / 1e6 > endedAt.getTime() - memoryMs;
    else signals = [...signals.slice(-1), Actor.Attributes.signal ?? ''];
  }
  if (signals.at(-1) === '9') return signals.length > 1 && signals[0] !== '9' ? 'stop' : 'kill';
  return isOutOfMemory ? 'memory' : undefined;
}

function seconds(at: Date): number {
  return at.getTime() / 1000;
}
