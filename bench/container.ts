import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import Docker from 'dockerode';
import { execa } from 'execa';
import { baseImageTag } from '../src/engine/docker/base-image.ts';
import { findEngine } from '../src/engine/socket.ts';

const { address } = await findEngine();
export const docker = new Docker('socketPath' in address ? { host: undefined, ...address } : address);
/** That of a sandbox, too. */
const image = await baseImageTag();

const common: Docker.ContainerCreateOptions = {
  Image: image,
  HostConfig: { NetworkMode: 'none', AutoRemove: true },
  Labels: { 'berth.bench': '1' },
};

/** A container without Berth, for what the engine does by itself; it runs `script` first. */
export async function startContainer(script = ':'): Promise<Docker.Container & AsyncDisposable> {
  const container = await docker.createContainer({
    ...common,
    Cmd: ['/bin/sh', '-c', `${script}; exec sleep infinity`],
  });
  await container.start();
  return Object.assign(container, { [Symbol.asyncDispose]: () => container.kill() });
}

/** Runs a command in it: create, start, read to the end, inspect. */
export async function engineExec(
  container: Docker.Container,
  command: string[],
  read: (stream: Duplex) => Promise<unknown> = (stream) => once(stream.resume(), 'end'),
): Promise<void> {
  const exec = await container.exec({ Cmd: command, AttachStdout: true, AttachStderr: true });
  await read(await exec.start({ hijack: true }));
  const { ExitCode } = await exec.inspect();
  if (ExitCode !== 0) throw new Error(`${command[0]} ended with ${ExitCode}`);
}

/** As a user does. */
export async function dockerRun(): Promise<void> {
  await execa('docker', ['run', '--rm', '--network', 'none', '--label', 'berth.bench=1', image, 'true']);
}

/** What `docker run --rm` asks of the engine, without the start of that program: create, attach, start, wait for the removal. */
export async function engineRun(): Promise<void> {
  const made = await docker.createContainer({ ...common, Cmd: ['true'] });
  const stream = await made.attach({ stream: true, stdout: true, stderr: true });
  const removed = made.wait({ condition: 'removed' });
  await made.start();
  stream.resume();
  await removed;
}
