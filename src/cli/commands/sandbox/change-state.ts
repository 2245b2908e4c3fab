import { exitCodes, failedWork } from '../../failure.ts';
import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';

const done = { start: 'started', stop: 'stopped', pause: 'paused', resume: 'resumed', remove: 'removed' } as const;

/** `sandbox start`, `stop`, `pause`, `resume` and `rm`: of several ids each is tried, whatever becomes of the others. */
export async function changeState(
  change: keyof typeof done,
  ids: readonly string[],
  { json }: { json?: boolean },
): Promise<number> {
  return withHost(async (host) => {
    const changed: string[] = [];
    const failed: string[] = [];
    for (const id of new Set(ids)) {
      try {
        await (await host.find(id))[change]();
        changed.push(id);
        if (!json) process.stdout.write(`${id}\n`);
      } catch (error) {
        failedWork(error);
        failed.push(id);
      }
    }
    if (json) printJson({ [done[change]]: changed, failed });
    return failed.length > 0 ? exitCodes.failed : 0;
  });
}
