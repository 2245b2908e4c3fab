import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import { agentGroup } from '../../protocol/socket.ts';
import { AgentBundleMissingError, ContainerStartError } from '../errors.ts';
import { ensureBaseImage } from './base-image.ts';
import { agentCommand, compileCache, loopbackOnly } from './create.ts';
import { statusOf } from './failure.ts';

/** On volumes of sandbox-agents and on the containers that fill them. */
export const agentVolumeLabel = 'berth.volume';

export interface AgentVolume {
  name: string;
  /** Of Berth. */
  version: string;
}

/** The same places seen from `src/` and from `dist/`. */
const bundles = Object.entries({
  'agent.cjs': '../../../dist/sandbox-agent.cjs',
  'screen.cjs': '../../../dist/sandbox-agent-screen.cjs',
}).map(([name, path]) => ({ name, path: fileURLToPath(new URL(path, import.meta.url)) }));
const version: string = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'), // our own file
).version;

/**
 * Copies into the volume what the sandbox-agent needs of this image: Node, its libraries and its loader. The
 * loader would put libraries that /etc/ld.so.preload names into every program: the sandbox's root may write that file,
 * so the name is changed to one on the read-only mount, of the same length. `ldd` prints a program's libraries as
 * `name => path`, and its loader as a path alone. Then Node compiles the sandbox-agent, for all that come.
 */
const fillScript = `
set -eu
cd /.berth
rm -rf bin lib private cache
mkdir -p bin lib private/wire private/kept
cp -L /usr/local/bin/node bin/
ldd bin/node | sed -n 's/.* => \\(\\/[^ ]*\\) .*/\\1/p' | sort -u | while read -r library; do
  cp -L "$library" lib/
done
loader=$(ldd bin/node | sed -n 's/^[[:space:]]*\\(\\/[^ ]*ld-linux[^ ]*\\) .*/\\1/p')
cp -L "$loader" lib/ld.so
sed -i 's|/etc/ld.so.preload|/.berth/no-preload|' lib/ld.so
NODE_COMPILE_CACHE=${compileCache} ${agentCommand.join(' ')} compile
chmod -R a+rX,go-w bin lib cache
chmod 755 .
chown -R 0:${agentGroup} private
chmod 750 private private/wire private/kept
chown -R ${agentGroup}:${agentGroup} private
`;

/** A fill takes a second or two. One that is older was left by a process that died. */
export const fillPatienceMs = 60_000;
/** Between two steps of a fill there is next to nothing to do. */
const deadFillMs = 10_000;
/** A fill that is under way for so long hangs. */
const hungFillMs = 5 * 60_000;

/** Of the container that is the lock of a fill. */
export const lockSuffix = '-lock';

/**
 * The volume that every sandbox of this version mounts at /.berth; it is filled once. A volume is whole when it carries
 * our label (the engine makes an empty one without labels for any name that it does not know) and the lock of its fill
 * is gone. The lock is a container that is never started, because the engine gives a name to one only. It is there
 * before the volume: the engine makes the volumes of a container before it shows that container to anyone.
 * @throws {ContainerStartError} what is in the way of a fill is not ours to remove, or hangs
 */
export async function ensureAgentVolume(
  docker: Docker,
  labels: Readonly<Record<string, string>>,
  ulimits: readonly Docker.Ulimit[],
  onProgress: (step: string) => void,
  hungMs = hungFillMs,
): Promise<AgentVolume> {
  const [files, baseImage] = await Promise.all([
    Promise.all(bundles.map(readBundle)),
    ensureBaseImage(docker, { onProgress }).then((tag) => docker.getImage(tag).inspect()),
  ]);
  const hash = createHash('sha256').update(`${baseImage.Id}\0${fillScript}\0`);
  for (const { bundle } of files) hash.update(bundle);
  const id = hash.digest('hex').slice(0, 12);
  const fill: Fill = {
    volume: `berth-agent-${id}`,
    container: `berth-fill-${id}`,
    lock: `berth-fill-${id}${lockSuffix}`,
    image: baseImage.Id,
    labels: { ...labels, [agentVolumeLabel]: 'agent' },
    ulimits: [...ulimits],
  };
  const patience = AbortSignal.timeout(hungMs);
  let stillSince = Date.now();
  let stateBefore: string | undefined;
  for (;;) {
    if (patience.aborted) throw hung(fill);
    // In this order: a volume that was there before there was no lock is whole.
    const isThere = await isAgentVolume(docker, fill.volume);
    const lock = await found(docker.getContainer(fill.lock).inspect());
    if (isThere && !lock) return { name: fill.volume, version };
    if (!lock) {
      await fillVolume(docker, fill, files, patience);
      continue;
    }
    // Another process fills it, unless it died: then its container is not there, waits or has ended, and remains so.
    const container = await found(docker.getContainer(fill.container).inspect());
    const state = `${lock.Id} ${container?.Id} ${container?.State.Status}`;
    if (state !== stateBefore || container?.State.Running) stillSince = Date.now();
    stateBefore = state;
    // By their ids: another process that waits may have undone it, and be at its own fill by now.
    if (Date.now() - stillSince > deadFillMs) await undoFill(docker, fill, container?.Id, lock.Id);
    else await wait(50);
  }
}

interface Bundle {
  name: string;
  bundle: Buffer;
}

async function readBundle({ name, path }: { name: string; path: string }): Promise<Bundle> {
  try {
    return { name, bundle: await readFile(path) };
  } catch (cause) {
    throw new AgentBundleMissingError({ path }, { cause });
  }
}

interface Fill {
  volume: string;
  container: string;
  lock: string;
  image: string;
  labels: Record<string, string>;
  ulimits: Docker.Ulimit[];
}

/** Does nothing when another process was faster. */
async function fillVolume(docker: Docker, fill: Fill, files: readonly Bundle[], patience: AbortSignal): Promise<void> {
  const common = { Image: fill.image, Labels: fill.labels, Cmd: [], User: '0:0', WorkingDir: '/' };
  let lock: Docker.Container;
  try {
    lock = await docker.createContainer({ ...common, name: fill.lock, Entrypoint: ['/bin/true'] });
  } catch (error) {
    if (statusOf(error) === 409) return;
    throw error;
  }
  try {
    // Another process may have been faster all along.
    if (!(await isAgentVolume(docker, fill.volume))) {
      await clear(docker, fill, fill.container);
      await copyRuntime(docker, { ...common, name: fill.container }, fill, files, patience);
    }
  } catch (error) {
    await undoFill(docker, fill, undefined, lock.id).catch(() => {}); // the first error is the one to report
    throw error;
  }
  await lock.remove();
}

async function copyRuntime(
  docker: Docker,
  common: Docker.ContainerCreateOptions,
  fill: Fill,
  files: readonly Bundle[],
  patience: AbortSignal,
): Promise<void> {
  // Not by the container, which Podman would give one without labels.
  await docker.createVolume({ Name: fill.volume, Labels: fill.labels });
  // Of one that is there the engine keeps the labels: it would be filled again and again.
  if (!(await isAgentVolume(docker, fill.volume))) {
    const users = `docker rm -f $(docker ps -aq --filter volume=${fill.volume})`;
    throw new ContainerStartError({
      reason:
        `the volume ${fill.volume} has not the labels of Berth, and a container uses it. ` +
        `Remove both: ${users}; docker volume rm ${fill.volume}`,
    });
  }
  const container = await docker.createContainer({
    ...common,
    Entrypoint: ['/bin/sh', '-c', fillScript],
    ...loopbackOnly,
    HostConfig: {
      NetworkMode: 'none',
      Ulimits: fill.ulimits,
      Mounts: [
        {
          Type: 'volume',
          Source: fill.volume,
          Target: '/.berth',
          VolumeOptions: { NoCopy: true, Labels: {}, DriverConfig: { Name: 'local', Options: {} } },
        },
      ],
    },
  });
  try {
    const archive = pack();
    for (const { name, bundle } of files) archive.entry({ name, mode: 0o644 }, bundle);
    archive.finalize();
    await container.putArchive(Readable.from(archive), { path: '/.berth' });
    await container.start();
    const { StatusCode } = await container.wait({ abortSignal: patience }).catch((error: unknown) => {
      throw patience.aborted ? hung(fill) : error;
    });
    if (StatusCode !== 0) {
      const log = (await container.logs({ stdout: true, stderr: true, tail: 20 })).toString();
      throw new ContainerStartError({ reason: 'its runtime could not be prepared', exitCode: StatusCode, log });
    }
  } finally {
    await found(container.remove({ force: true }));
  }
}

function hung({ container, lock }: Fill): ContainerStartError {
  const reason = `its runtime is not prepared, and that does not end. Remove what does it: docker rm -f ${container} ${lock}`;
  return new ContainerStartError({ reason });
}

async function undoFill(docker: Docker, fill: Fill, container: string | undefined, lock: string): Promise<void> {
  await clear(docker, fill, container);
  await found(docker.getContainer(lock).remove({ force: true }));
}

/** In this order: the engine keeps a volume while a container has it. */
async function clear(docker: Docker, fill: Fill, container: string | undefined): Promise<void> {
  if (container !== undefined) await found(docker.getContainer(container).remove({ force: true }));
  try {
    await found(docker.getVolume(fill.volume).remove());
  } catch (error) {
    // In use, by the container of a fill that is under way.
    if (statusOf(error) !== 409) throw error;
  }
}

/** Whether a volume of this name is there, and is not the empty one that the engine makes for any name. */
export async function isAgentVolume(docker: Docker, volume: string): Promise<boolean> {
  const details = await found(docker.getVolume(volume).inspect());
  return details?.Labels?.[agentVolumeLabel] === 'agent';
}

/** `undefined` for what is not there. */
async function found<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}
