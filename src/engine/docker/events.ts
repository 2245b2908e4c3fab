import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import type Docker from 'dockerode';
import type { ContainerEvent } from '../engine.ts';
import { labelFilter } from './find.ts';

const kinds: Record<string, ContainerEvent['kind']> = {
  start: 'start',
  pause: 'pause',
  unpause: 'resume',
  oom: 'oom',
  die: 'end',
  destroy: 'remove',
};

interface DockerEvent {
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
}

export async function* containerEvents(
  docker: Docker,
  labels: Readonly<Record<string, string>>,
  signal: AbortSignal,
): AsyncGenerator<ContainerEvent> {
  const answer = await docker.getEvents({
    filters: { type: ['container'], event: Object.keys(kinds), label: labelFilter(labels) },
    abortSignal: signal,
  });
  try {
    for await (const line of createInterface({ input: answer })) {
      const { Action, Actor }: DockerEvent = JSON.parse(line); // the engine's, which is trusted
      const kind = kinds[Action];
      if (kind) yield { containerId: Actor.ID, kind, labels: Actor.Attributes };
    }
    signal.throwIfAborted();
  } finally {
    // dockerode types the answer as less than what it is.
    if (answer instanceof Readable) answer.destroy();
  }
}
