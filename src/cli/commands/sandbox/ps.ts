import type { ProcessInfo } from '../../../sandbox/index.ts';
import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';
import { bytes } from '../../print/bytes.ts';
import { tableLines } from '../../print/table.ts';

export async function ps(id: string, { all = false, json }: { all?: boolean; json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    const processes = await sandbox.processes({ all });
    if (json) {
      printJson(processes);
      return 0;
    }
    const names = ['PROCESS', 'STATE', 'STARTED (UTC)', 'RUNNING', 'OUTPUT', 'COMMAND'];
    process.stdout.write(`${tableLines([names, ...processes.map(toRow)]).join('\n')}\n`);
    return 0;
  });
}

function toRow({ id, state, end, startedAt, pids, stdout, stderr, command }: ProcessInfo): string[] {
  return [
    id,
    end ? `ended: ${end.signal ?? end.exitCode}` : state,
    startedAt.toISOString().slice(0, 19).replace('T', ' '),
    pids.slice(0, 4).join(' ') + (pids.length > 4 ? ` and ${pids.length - 4} more` : ''),
    bytes(stdout.bytes + stderr.bytes),
    command.join(' ').slice(0, 80),
  ];
}
