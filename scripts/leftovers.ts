import { readdir } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import Docker from 'dockerode';
import { agentVolumeLabel } from '../src/engine/docker/agent-volume.ts';
import { findEngine } from '../src/engine/socket.ts';

interface EngineObject {
  readonly id: string;
  /** As a person names it: `container berth-3f… (created)`. */
  readonly name: string;
}

/** What Berth has on the engine at this moment, but for the sandbox-agents' volume, which is a cache. */
export async function listEngineObjects(): Promise<EngineObject[]> {
  const { address } = await findEngine();
  const docker = new Docker({ ...address });
  const filters = JSON.stringify({ label: ['berth.host'] });
  const [containers, { Volumes }, networks, images] = await Promise.all([
    docker.listContainers({ all: true, filters }),
    docker.listVolumes({ filters }),
    docker.listNetworks({ filters }),
    docker.listImages({ all: true, filters }),
  ]);
  return [
    ...containers.map(({ Id, Names, State }) => ({ id: Id, name: `container ${Names[0] ?? Id} (${State})` })),
    ...Volumes.filter(({ Labels }) => Labels?.[agentVolumeLabel] !== 'agent').map(({ Name }) => ({
      id: `volume ${Name}`,
      name: `volume ${Name}`,
    })),
    ...networks.map(({ Id, Name }) => ({ id: Id, name: `network ${Name}` })),
    ...images.map(({ Id }) => ({ id: Id, name: `image ${Id}` })),
  ];
}

/** Below the tests' folder: sockets anywhere, and what Berth made in the folder for temporary files. */
export async function findLeftFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const temporary = join(folder, 'tmp');
  return entries
    .filter((entry) => entry.isSocket() || (entry.parentPath === temporary && basename(entry.name).startsWith('berth')))
    .map(
      (entry) => `${entry.isSocket() ? 'socket' : 'temporary'} ${relative(folder, join(entry.parentPath, entry.name))}`,
    );
}
