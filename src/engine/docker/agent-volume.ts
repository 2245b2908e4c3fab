import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import { AgentBundleMissingError, ContainerStartError } from '../errors.ts';
import { ensureBaseImage } from './base-image.ts';
import { agentCommand, agentGroup, compileCache } from './create.ts';
import { statusOf } from './failure.ts';

/** On volumes of sandbox-agents and on the containers that fill them. */
export const agentVolumeLabel = 'berth.volume';

export interface AgentVolume {
  name: string;
  /** Of Berth. */
  version: string;
}

/** The same places seen from `src/` and from `dist/`. */
const bundlePath = fileURLToPath(new URL('../../../dist/sandbox-agent.cjs', import.meta.url));
const version: string = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'), // our own file
).version;

/**
 * Copies into the volume what the sandbox-agent needs of this image: Node, its libraries and its loader. The
 * loader would put libraries that /etc/ld.so.preload names into every program: the sandbox's root may write that file,
 * so the name is changed to one on the read-only mount, of the same length. `ldd` prints a program's libraries as
 * `name => path`, and its loader as a path alone. The last step compiles: a bridge loads all of the sandbox-agent, finds
 * no socket, and leaves what it compiled for those that come.
 */
const fillScript = `
set -eu
cd /.berth
rm -rf bin lib private cache
mkdir -p bin lib private/wire
cp -L /usr/local/bin/node bin/
ldd bin/node | sed -n 's/.* => \\(\\/[^ ]*\\) .*/\\1/p' | sort -u | while read -r library; do
  cp -L "$library" lib/
done
loader=$(ldd bin/node | sed -n 's/^[[:space:]]*\\(\\/[^ ]*ld-linux[^ ]*\\) .*/\\1/p')
cp -L "$loader" lib/ld.so
sed -i 's|/etc/ld.so.preload|/.berth/no-preload|' lib/ld.so
NODE_COMPILE_CACHE=${compileCache} ${agentCommand.join(' ')} bridge 2>&1 | grep -q ENOENT
chmod -R a+rX,go-w bin lib cache
chmod 755 .
chown -R 0:${agentGroup} private
chmod 750 private private/wire
chown -R ${agentGroup}:${agentGroup} private
`;

/** A fill takes a second or two. One that is older was left by a process that died. */
export const fillPatienceMs = 60_000;

/**
 * The volume that every sandbox of this version mounts at /.berth; it is filled once. A volume is whole when it carries
 * our label (the engine makes an empty one without labels for any name that it does not know) and no container that
 * fills it is left: that container's name is the lock, and its removal the end of the work.
 */
export async function ensureAgentVolume(
  docker: Docker,
  labels: Readonly<Record<string, string>>,
  onProgress: (step: string) => void,
): Promise<AgentVolume> {
  const [bundle, baseImage] = await Promise.all([
    readFile(bundlePath).catch((cause: unknown) => {
      throw new AgentBundleMissingError({ path: bundlePath }, { cause });
    }),
    ensureBaseImage(docker, { onProgress }).then((tag) => docker.getImage(tag).inspect()),
  ]);
  const hash = createHash('sha256')
    .update(`${baseImage.Id}\0${fillScript}\0`)
    .update(bundle)
    .digest('hex')
    .slice(0, 12);
  const name = `berth-agent-${hash}`;
  for (;;) {
    const fill = docker.getContainer(`berth-fill-${hash}`);
    // In this order: a volume that was ours before there was no container that fills it is whole.
    const isThere = await isAgentVolume(docker, name);
    const running = await found(fill.inspect());
    if (isThere && !running) return { name, version };
    if (running && Date.now() - Date.parse(running.Created) < fillPatienceMs) {
      // Another process fills it: its end is the removal of the container.
      await Promise.race([fill.wait({ condition: 'removed' }).catch(() => {}), wait(1_000, undefined, { ref: false })]);
      continue;
    }
    try {
      // Of a process that died; or an empty volume, which the engine made for a name that it did not know.
      if (running) await removeFill(docker, fill, name);
      else await found(docker.getVolume(name).remove());
    } catch (error) {
      if (await isAgentVolume(docker, name)) continue; // another process began meanwhile
      throw error;
    }
    await fillVolume(docker, name, `berth-fill-${hash}`, baseImage.Id, labels, bundle);
  }
}

async function fillVolume(
  docker: Docker,
  volume: string,
  containerName: string,
  image: string,
  labels: Readonly<Record<string, string>>,
  bundle: Buffer,
): Promise<void> {
  const allLabels = { ...labels, [agentVolumeLabel]: 'agent' };
  let container: Docker.Container;
  try {
    container = await docker.createContainer({
      name: containerName,
      Image: image,
      Labels: allLabels,
      Entrypoint: ['/bin/sh', '-c', fillScript],
      Cmd: [],
      User: '0:0',
      WorkingDir: '/',
      HostConfig: {
        NetworkMode: 'none',
        Mounts: [
          {
            Type: 'volume',
            Source: volume,
            Target: '/.berth',
            VolumeOptions: { NoCopy: true, Labels: allLabels, DriverConfig: { Name: 'local', Options: {} } },
          },
        ],
      },
    });
  } catch (error) {
    if (statusOf(error) === 409) return; // another process was faster
    throw error;
  }
  try {
    const archive = pack();
    archive.entry({ name: 'agent.cjs', mode: 0o644 }, bundle);
    archive.finalize();
    await container.putArchive(Readable.from(archive), { path: '/.berth' });
    await container.start();
    const { StatusCode } = await container.wait();
    if (StatusCode !== 0) {
      const log = (await container.logs({ stdout: true, stderr: true, tail: 20 })).toString();
      throw new ContainerStartError({ reason: 'its runtime could not be prepared', exitCode: StatusCode, log });
    }
    await container.remove();
  } catch (error) {
    await removeFill(docker, container, volume).catch(() => {}); // the first error is the one to report
    throw error;
  }
}

/**
 * The engine keeps a volume while a container has it, so the container goes first. Who takes the volume for whole in
 * between makes a sandbox that does not start, and then looks again.
 */
async function removeFill(docker: Docker, container: Docker.Container, volume: string): Promise<void> {
  await found(container.remove({ force: true }));
  await found(docker.getVolume(volume).remove());
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
