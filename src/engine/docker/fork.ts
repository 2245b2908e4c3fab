import { posix } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type Docker from 'dockerode';
import { keptDirectory, partsName, wireDirectory } from '../../protocol/socket.ts';
import type { FrozenFiles } from '../engine.ts';
import { statusOf } from './failure.ts';
import { labelFilter } from './find.ts';
import { type ImageDetails, originalLabel, originalOf } from './images.ts';
import { pauseContainer } from './pause.ts';

/** Of the sandbox-agent, which writes them anew when they are longer than 1 MiB. */
const maxPartsBytes = 8 * 1024 * 1024;

/** Mounted in every container that is made here. */
const ownMounts = ['/.berth', keptDirectory, wireDirectory];

/**
 * Nothing of a container runs from here on: what is written to meanwhile would be left out by the engine without a word. The
 * image has the container's own labels and environment beside these labels: `createContainer` keeps them from a container.
 * @param helper - a container of another image, never started
 */
export async function freezeFiles(
  docker: Docker,
  id: string,
  labels: Readonly<Record<string, string>>,
  helper: Docker.ContainerCreateOptions,
): Promise<FrozenFiles> {
  const container = docker.getContainer(id);
  const wasFrozen = await freeze(container);
  let thawing: Promise<void> | undefined;
  const thaw = () => {
    thawing ??= wasFrozen ? Promise.resolve() : resume(container);
    return thawing;
  };
  try {
    const { Config, Image, Mounts } = await container.inspect();
    const original = originalOf(await docker.getImage(Image).inspect());
    const user = Config.Env.find((variable) => variable.startsWith('BERTH_USER='))?.slice('BERTH_USER='.length);
    const all = { ...labels, [originalLabel]: encodeOriginal({ ...original, user: user ?? original.user }) };
    const mounted = Mounts.filter(({ Type }) => Type === 'bind' || Type === 'volume')
      .map(({ Destination }) => Destination)
      .filter((path) => !ownMounts.includes(path));
    const parts = await readParts(container);
    // It stays frozen while this is made; not by the engine itself, which would not try again.
    const { Id: image } = await container.commit({
      pause: false,
      changes: Object.entries(all).map(([name, value]) => `LABEL ${name}=${value}`),
    });
    return {
      image,
      mounted,
      copyTo: async (target, signal) => {
        const to = docker.getContainer(target);
        if (parts) await putParts(docker, to, parts, helper);
        await copyMounted(container, to, mounted, signal);
      },
      thaw,
      [Symbol.asyncDispose]: thaw,
    };
  } catch (error) {
    await thaw();
    throw error;
  }
}

/** @returns whether it was so already, or can't run anything */
async function freeze(container: Docker.Container): Promise<boolean> {
  const { State } = await container.inspect();
  if (!State.Running || State.Paused) return true;
  try {
    await pauseContainer(container);
    return false;
  } catch (error) {
    if ((await container.inspect()).State.Running) throw error;
    return true; // it ended meanwhile
  }
}

async function resume(container: Docker.Container): Promise<void> {
  try {
    await container.unpause();
  } catch (error) {
    // Somebody has resumed, ended or removed it.
    const found = await container.inspect().catch((cause: unknown) => {
      if (statusOf(cause) !== 404) throw cause;
    });
    if (found?.State.Paused) throw error;
  }
}

/** What is below another one comes with that. */
function topmost(paths: readonly string[]): string[] {
  return paths.filter((path) => !paths.some((other) => path.startsWith(`${other}/`)));
}

/** What the sandbox-agent had in the making, as an archive: that of the copy then removes it at its start. */
async function readParts(container: Docker.Container): Promise<Buffer | undefined> {
  const path = `${keptDirectory}/${partsName}`;
  try {
    const answer = await container.infoArchive({ path });
    answer.resume();
    const stat = JSON.parse(Buffer.from(answer.headers['x-docker-container-path-stat'], 'base64').toString());
    if (!(stat.size > 0 && stat.size <= maxPartsBytes)) return undefined;
    return await buffer(await container.getArchive({ path }));
  } catch (error) {
    if (statusOf(error) === 404) return undefined; // it was never started
    throw error;
  }
}

/** Its volume is below one that is read-only: into that, some engines let nobody put anything, at one time, and do at another. */
async function putParts(
  docker: Docker,
  to: Docker.Container,
  parts: Buffer,
  helper: Docker.ContainerCreateOptions,
): Promise<void> {
  const { Mounts } = await to.inspect();
  const Source = Mounts.find(({ Destination }) => Destination === keptDirectory)?.Name ?? '';
  const HostConfig = { NetworkMode: 'none', Mounts: [{ Type: 'volume', Source, Target: '/kept' } as const] };
  const container = await docker.createContainer({ ...helper, HostConfig });
  try {
    await container.putArchive(parts, { path: '/kept' });
  } finally {
    await container.remove();
  }
}

async function copyMounted(
  from: Docker.Container,
  to: Docker.Container,
  mounted: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const abort = signal && { abortSignal: signal };
  for (const path of topmost(mounted)) {
    // dockerode types it as less than what it is.
    const content = (await from.getArchive({ path, ...abort })) as Readable;
    try {
      await to.putArchive(content, { path: posix.dirname(path), ...abort });
    } finally {
      content.destroy();
    }
  }
}

/** For a line of a Dockerfile: such text means nothing there. */
function encodeOriginal({ user, env }: Pick<ImageDetails, 'user' | 'env'>): string {
  return Buffer.from(JSON.stringify({ user, env })).toString('base64url');
}

/** Removes the image of a fork, and those of the forks that this one was made from; what something uses stays. */
export async function removeForkImage(docker: Docker, id: string): Promise<void> {
  for (let next = id; next !== ''; ) {
    const image = docker.getImage(next);
    try {
      const { Config, Parent, RepoTags } = await image.inspect();
      // With a name it is somebody's.
      if (Config?.Labels?.[originalLabel] === undefined || (RepoTags ?? []).length > 0) return;
      await image.remove({ noprune: true });
      next = Parent;
    } catch (error) {
      if (statusOf(error) === 409) return;
      // Of two who remove it at once, some engines tell one that they do not know it by another status.
      const isThere = await image.inspect().catch(() => undefined);
      if (isThere) throw error;
      return;
    }
  }
}

/** Images of forks that no container and no other image needs; those that were made last first. */
export async function unusedForkImages(
  docker: Docker,
  labels: Readonly<Record<string, string>>,
): Promise<{ id: string; labels: Record<string, string> }[]> {
  // In this order: one that was used last by a container that is made meanwhile is in neither list.
  const filters = { label: [...labelFilter(labels), originalLabel] };
  const forks = await docker.listImages({ all: true, filters: JSON.stringify(filters) });
  if (forks.length === 0) return [];
  const [images, containers] = await Promise.all([
    docker.listImages({ all: true }),
    docker.listContainers({ all: true }),
  ]);
  const parents = new Map(images.map(({ Id, ParentId }) => [Id, ParentId]));
  const used = new Set<string>();
  const use = (id: string | undefined) => {
    for (let next = id; next && !used.has(next); next = parents.get(next)) used.add(next);
  };
  for (const { ImageID } of containers) use(ImageID);
  const forkIds = new Set(forks.map(({ Id }) => Id));
  for (const { Id } of images) if (!forkIds.has(Id)) use(Id);
  return forks
    .filter(({ Id, RepoTags }) => !used.has(Id) && !RepoTags?.some((tag) => tag !== '<none>:<none>'))
    .sort((one, other) => other.Created - one.Created)
    .map(({ Id, Labels }) => ({ id: Id, labels: Labels ?? {} }));
}
