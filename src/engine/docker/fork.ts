import type Docker from 'dockerode';
import { keptDirectory, partsName, wireDirectory } from '../../protocol/socket.ts';
import type { FrozenFiles } from '../engine.ts';
import { EngineError } from '../errors.ts';
import { loopbackOnly } from './create.ts';
import { statusOf, withoutHeaders } from './failure.ts';
import { labelFilter } from './find.ts';
import { partsBytes } from './finish-parts.ts';
import { type ImageDetails, originalLabel, originalOf } from './images.ts';
import { pauseContainer } from './pause.ts';

/** On containers that copy what is mounted. */
export const copyLabel = { 'berth.volume': 'copy' } as const;

/** Mounted in every container that is made here. */
const ownMounts = ['/.berth', keptDirectory, wireDirectory];

/** Of a program that copies: it remembers files that have several names. */
const copyMemoryBytes = 512 * 1024 * 1024;

interface Copying {
  /** With a shell and `cp`. */
  image: string;
  ulimits: readonly Docker.Ulimit[];
}

/**
 * Nothing of a container runs from here on: what is written to meanwhile would be left out by the engine without a word. The
 * image has the container's own labels and environment beside these labels: `createContainer` keeps them from a container.
 */
export async function freezeFiles(
  docker: Docker,
  id: string,
  labels: Readonly<Record<string, string>>,
  copying: Copying,
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
    // What the sandbox-agent had in the making: that of the copy removes it at its start.
    const hasParts = (await partsBytes(container)) > 0;
    // It stays frozen while this is made; not by the engine itself, which would not try again.
    const { Id: image } = await container.commit({
      pause: false,
      changes: Object.entries(all).map(([name, value]) => `LABEL ${name}=${value}`),
    });
    return {
      image,
      mounted,
      copyTo: async (target, signal) => {
        const paths = [...mounted, ...(hasParts ? [keptDirectory] : [])];
        if (paths.length === 0) return;
        const to = await docker.getContainer(target).inspect();
        const mounts = paths.flatMap((path, index) => [
          mountOf(Mounts, path, `/from/${index}`, { isReadOnly: true }),
          mountOf(to.Mounts, path, `/to/${index}`),
        ]);
        const script = paths.map((path, index) => {
          const what = path === keptDirectory ? partsName : '.';
          return `cp -a /from/${index}/${what} /to/${index}/`;
        });
        await runCopy(docker, { script: script.join(' && '), mounts, labels, signal, ...copying });
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

function mountOf(
  mounts: Docker.ContainerInspectInfo['Mounts'],
  path: string,
  Target: string,
  { isReadOnly = false } = {},
): Docker.MountSettings {
  const found = mounts.find(({ Destination }) => Destination === path);
  return {
    Type: found?.Type === 'bind' ? 'bind' : 'volume',
    Source: (found?.Type === 'bind' ? found.Source : found?.Name) ?? '',
    Target,
    ReadOnly: isReadOnly,
  };
}

/**
 * By a program on the engine's machine: Podman's archives have no owners, those of Docker neither sparse files nor fractions
 * of a second, and nothing passes through here.
 */
async function runCopy(
  docker: Docker,
  {
    script,
    mounts,
    labels,
    signal,
    image,
    ulimits,
  }: Copying & {
    script: string;
    mounts: Docker.MountConfig;
    labels: Readonly<Record<string, string>>;
    signal: AbortSignal | undefined;
  },
): Promise<void> {
  const container = await docker.createContainer({
    Image: image,
    Entrypoint: ['/bin/sh', '-c', script],
    Cmd: [],
    User: '0:0',
    WorkingDir: '/',
    Env: ['LC_ALL=C'],
    Labels: { ...labels, ...copyLabel },
    ...loopbackOnly,
    HostConfig: {
      NetworkMode: 'none',
      CapDrop: ['ALL'],
      CapAdd: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'MKNOD', 'SETFCAP'],
      SecurityOpt: ['no-new-privileges'],
      Memory: copyMemoryBytes,
      Ulimits: [...ulimits],
      LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '1' } },
      Mounts: mounts,
    },
  });
  try {
    signal?.throwIfAborted();
    await container.start();
    const { StatusCode } = await container.wait({ ...(signal && { abortSignal: signal }) });
    if (StatusCode === 0) return;
    const log = await container.logs({ stdout: false, stderr: true, tail: 3 });
    throw new EngineError({ operation: 'copy files', reason: `${withoutHeaders(log)} (exit code ${StatusCode})` });
  } finally {
    await container.remove({ force: true });
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
