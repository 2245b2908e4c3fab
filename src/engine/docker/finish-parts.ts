import { setTimeout as wait } from 'node:timers/promises';
import type Docker from 'dockerode';
import { keptDirectory, partsName } from '../../protocol/socket.ts';
import { statusOf } from './failure.ts';

/** A half-copied tree may have very many files. */
const patienceMs = 30_000;
const pollMs = 50;

/**
 * What was in the making when a container is killed would stay in a directory of the host for ever: the sandbox-agent
 * removes it at its next start, with the rights of the sandbox's user. So there is one more before the container goes.
 */
export async function finishParts(container: Docker.Container): Promise<void> {
  const { Mounts, State } = await container.inspect();
  if (!Mounts.some(({ Type, Destination }) => Type === 'bind' && Destination === '/workspace')) return;
  if (State.Running) await container.kill();
  if ((await partsBytes(container)) === 0) return;
  await container.start();
  for (const since = Date.now(); Date.now() - since < patienceMs; await wait(pollMs)) {
    if ((await partsBytes(container)) === 0) return;
  }
}

/** The size of the file that has their names; 0 where there is none, as before the first start. */
export async function partsBytes(container: Docker.Container): Promise<number> {
  const answer = await container.infoArchive({ path: `${keptDirectory}/${partsName}` }).catch((error: unknown) => {
    if (statusOf(error) !== 404) throw error;
  });
  if (!answer) return 0;
  answer.resume();
  const stat = JSON.parse(Buffer.from(answer.headers['x-docker-container-path-stat'], 'base64').toString());
  return Number(stat.size);
}
