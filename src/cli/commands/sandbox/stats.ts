import { setTimeout as wait } from 'node:timers/promises';
import type { SandboxStats } from '../../../sandbox/index.ts';
import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';
import { bytes } from '../../print/bytes.ts';
import { duration } from '../../print/duration.ts';
import { tableLines } from '../../print/table.ts';

/** Between two looks: that is what the CPU share is of. */
const spanMs = 1_000;

export async function stats(id: string, { json, disk = false }: { json?: boolean; disk?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const sandbox = await host.find(id);
    if ((await sandbox.stats()).state === 'running') await wait(spanMs);
    const looked = await sandbox.stats({ disk });
    if (json) {
      printJson({ id, ...looked });
      return 0;
    }
    const names = ['ID', 'STATE', 'CPU', 'CPU TIME', 'MEMORY', 'PROCESSES', ...(disk ? ['DISK'] : []), 'UPTIME'];
    process.stdout.write(`${tableLines([names, toRow(id, looked)]).join('\n')}\n`);
    return 0;
  });
}

function toRow(id: string, { state, cpu, memory, processes, disk, uptime }: SandboxStats): string[] {
  return [
    id,
    state,
    `${Math.round(cpu.share * 100)}% of ${Math.round(cpu.limit * 100)}%`,
    duration(cpu.time),
    `${bytes(memory.used)} of ${bytes(memory.limit)}`,
    `${processes.count} of ${processes.limit}`,
    ...(disk === undefined ? [] : [bytes(disk)]),
    duration(uptime),
  ];
}
