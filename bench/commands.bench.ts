// Commands and their output, against the engine's own way to run them and against no sandbox at all.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SandboxHost } from 'berth/sandbox';
import { compare } from './compare.ts';
import { docker, engineExec, startContainer } from './container.ts';

await using host = await SandboxHost.open();
await using sandbox = await host.create();
await using container = await startContainer();

const rows = { berth: () => sandbox.exec(['true']), 'dockerode exec': () => engineExec(container, ['true']) };
await compare('exec true, one at a time', { ...rows, 'local spawn': localSpawn }, { rounds: 20, inARow: 10 });
// Each call right behind one of the other row: the engine still clears up, and what Berth needs is cold.
await compare('exec true, one at a time, in turn', rows, { rounds: 100 });
await compare('exec true, 50 at once', rows, { rounds: 10, atOnce: 50 });

const bytes = 1024 ** 3;
const print = ['head', '-c', String(bytes), '/dev/zero'];
await compare(
  '1 GiB of stdout to a consumer',
  { berth: readAll, 'dockerode exec, demuxed': engineReadAll },
  { rounds: 5 },
);

async function localSpawn(): Promise<void> {
  await once(spawn('true', { stdio: ['ignore', 'pipe', 'pipe'] }), 'close');
}

async function readAll(): Promise<void> {
  const printing = await sandbox.spawn(print);
  await Promise.all([pipeline(printing.stdout, countAll), printing.wait()]);
}

async function engineReadAll(): Promise<void> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  await Promise.all([
    pipeline(stdout, countAll),
    engineExec(container, print, async (stream) => {
      docker.modem.demuxStream(stream, stdout, stderr);
      await once(stream, 'end');
      stdout.end();
    }),
  ]);
}

async function countAll(output: AsyncIterable<Buffer>): Promise<void> {
  let read = 0;
  for await (const chunk of output) read += chunk.length;
  if (read !== bytes) throw new Error(`${read} bytes came`);
}
