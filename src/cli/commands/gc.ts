import { withHost } from '../host.ts';
import { printJson } from '../output.ts';

export async function gc({ dryRun = false, json }: { dryRun?: boolean; json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const report = await host.collect({ dryRun });
    if (json) printJson(report);
    else process.stdout.write(`${JSON.stringify(report)}\n`);
    return 0;
  });
}
