import type Dockerode from 'dockerode';
import { Docker } from '../engine/docker/client.ts';
import { type FoundEngine, findEngine } from '../engine/socket.ts';

/** The engine that sandboxes are made on, for what is about the engine itself. */
export async function openEngine(): Promise<FoundEngine & { docker: Dockerode }> {
  const found = await findEngine();
  // dockerode adds the host of DOCKER_HOST to a socket, unless it is told that there is none.
  return { ...found, docker: new Docker({ host: undefined, ...found.address }) };
}
