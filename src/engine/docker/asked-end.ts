import { createInterface } from 'node:readline';
import type Docker from 'dockerode';
import type { ContainerEnd } from '../engine.ts';

type Asked = NonNullable<ContainerEnd['asked']>;

interface Lifespan {
  startedAt: Date;
  endedAt: Date;
}

interface SignalEvent {
  Action: string;
  Actor: { Attributes: { signal?: string } };
}

const settledMs = 100;

/**
 * What somebody asked the engine for that ended a container with SIGKILL: to stop it, which is another signal first, or to
 * kill it. Docker has the last 256 events of its containers, since its own start.
 */
export async function askedEnd(
  docker: Docker,
  id: string,
  { startedAt, endedAt }: Lifespan,
): Promise<Asked | undefined> {
  const answer = await docker.getEvents({
    since: seconds(startedAt),
    // The clock is the engine's. It writes down a signal after it has sent it, so the end can be the earlier of the two.
    until: seconds(new Date(endedAt.getTime() + settledMs)),
    filters: { container: [id], event: ['kill', 'stop'] },
  });
  let signals: string[] = [];
  for await (const line of createInterface({ input: answer })) {
    const { Action, Actor }: SignalEvent = JSON.parse(line); // the engine's, which is trusted
    if (Action === 'stop') return 'stop';
    signals = [...signals.slice(-1), Actor.Attributes.signal ?? ''];
  }
  if (signals.at(-1) !== '9') return undefined;
  return signals.length > 1 && signals[0] !== '9' ? 'stop' : 'kill';
}

function seconds(at: Date): number {
  return at.getTime() / 1000;
}
