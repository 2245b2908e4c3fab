// How long a sandbox takes to start and to run a command, against the engine's own ways to do the same.

import { type Sandbox, SandboxHost } from 'berth/sandbox';
import Docker from 'dockerode';
import { baseImageTag } from '../src/engine/docker/base-image.ts';
import { findEngine } from '../src/engine/socket.ts';
import { compare } from './compare.ts';

const host = await SandboxHost.open();
const { address } = await findEngine();
const docker = new Docker('socketPath' in address ? { host: undefined, ...address } : address);
const image = await baseImageTag();
const sandbox = await host.create();
const made: Sandbox[] = [sandbox];
const container = await docker.createContainer({
  Image: image,
  Cmd: ['sleep', 'infinity'],
  HostConfig: { NetworkMode: 'none', AutoRemove: true },
  Labels: { 'berth.bench': '1' },
});
try {
  await container.start();
  await compare(
    'exec true, one at a time',
    { berth: () => sandbox.exec(['true']), 'dockerode exec': engineExec },
    { rounds: 20, inARow: 10 },
  );
  // Each call right behind one of the other row: the engine still clears up, and what Berth needs is cold.
  await compare(
    'exec true, one at a time, in turn',
    { berth: () => sandbox.exec(['true']), 'dockerode exec': engineExec },
    { rounds: 100 },
  );
  await compare(
    'exec true, 50 at once',
    { berth: () => sandbox.exec(['true']), 'dockerode exec': engineExec },
    { rounds: 10, atOnce: 50 },
  );
  await compare(
    'create to the end of the first exec',
    { berth: createAndExec, 'docker run --rm': engineRun },
    { rounds: 20 },
  );
} finally {
  await Promise.allSettled([...made.map((one) => one.remove()), container.kill()]);
  await host.close();
}

async function engineExec(): Promise<void> {
  const exec = await container.exec({ Cmd: ['true'], AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true });
  await new Promise((resolve) => stream.on('end', resolve).resume());
  await exec.inspect();
}

/** Until the first command has run; `made` are removed at the end. */
async function createAndExec(): Promise<void> {
  const one = await host.create();
  made.push(one);
  await one.exec(['true']);
}

/** What `docker run --rm IMAGE true` asks of the engine: create, attach, start, wait for the removal. */
async function engineRun(): Promise<void> {
  const made = await docker.createContainer({
    Image: image,
    Cmd: ['true'],
    HostConfig: { NetworkMode: 'none', AutoRemove: true },
    Labels: { 'berth.bench': '1' },
  });
  const stream = await made.attach({ stream: true, stdout: true, stderr: true });
  const removed = made.wait({ condition: 'removed' });
  await made.start();
  stream.resume();
  await removed;
}
