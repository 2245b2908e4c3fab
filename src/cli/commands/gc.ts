import { withHost } from '../host.ts';
import { printJson } from '../output.ts';

export async function gc({ dryRun = false, json }: { dryRun?: boolean; json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const report = await host.collect({ dryRun });
    if (json) {
      printJson(report);
      return 0;
    }
    const lines = report.removed.map(
      ({ kind, name, reason }) => `${dryRun ? 'would remove' : 'removed'} ${kind} ${name}: ${reason}`,
    );
    process.stdout.write(`${lines.length > 0 ? lines.join('\n') : 'nothing to remove'}\n`);
    return 0;
  });
}
