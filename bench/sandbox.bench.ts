// What a sandbox takes to start, and what it takes while it waits.

import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { type Sandbox, SandboxHost } from 'berth/sandbox';
import { compare } from './compare.ts';
import { docker, dockerRun, engineRun } from './container.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** By then a sandbox-agent has given back what it needed for its start only. */
const tidiedMs = 63_000;

await using host = await SandboxHost.open();
await using pooled = await SandboxHost.open({ pool: 1 });
const made: Sandbox[] = [];
const engine = { 'docker run --rm': dockerRun, 'the same calls of its API': engineRun };
const make = async (by: SandboxHost): Promise<void> => {
  made.push(await by.create());
};
try {
  await compare('create to ready', { berth: () => make(host), ...engine }, { rounds: 20 });
  await compare(
    'create to ready, from a pool',
    { berth: () => make(pooled), ...engine },
    { rounds: 20, before: () => pooled.warm() },
  );
  await removeAll();

  const before = await availableMemory();
  const idle = 50;
  for (let one = 0; one < idle; one++) made.push(await host.create());
  await wait(tidiedMs);
  const memory = ((before - (await availableMemory())) / idle).toFixed(1);
  const agents = (await Promise.all(made.map(agentMemory))).reduce((sum, each) => sum + each, 0);
  console.log(`\nMemory of an idle sandbox, ${idle} running`);
  console.log(`  sandbox-agent (PSS) ${(agents / idle).toFixed(1)} MiB, of the machine ${memory} MiB`);
} finally {
  await removeAll();
}

async function removeAll(): Promise<void> {
  // A few at a time, as many as the engine removes well.
  while (made.length > 0) await Promise.allSettled(made.splice(0, 4).map((one) => one.remove()));
}

/** MiB. */
async function availableMemory(): Promise<number> {
  const [, kib] = /^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'latin1')) ?? [];
  return Number(kib) / KiB;
}

/** The part of it that no other process has, and its share of the rest. MiB. */
async function agentMemory(sandbox: Sandbox): Promise<number> {
  const { State } = await docker.getContainer(`berth-${sandbox.id}`).inspect();
  const [, kib] = /^Pss:\s+(\d+)/m.exec(await readFile(`/proc/${State.Pid}/smaps_rollup`, 'latin1')) ?? [];
  return (Number(kib) * KiB) / MiB;
}
