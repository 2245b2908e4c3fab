import { SandboxNotFoundError } from '../../../sandbox/index.ts';
import { exitCodes, failedWork } from '../../failure.ts';
import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';

/** Removes the sandboxes that are there and tells of the others: who types a wrong id must not take it for removed. */
export async function rm(ids: readonly string[], { json }: { json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const known = new Set((await host.list()).map(({ id }) => id));
    const removed: string[] = [];
    const failed: string[] = [];
    for (const id of new Set(ids)) {
      try {
        if (!known.has(id)) throw new SandboxNotFoundError({ sandboxId: id });
        await host.remove(id);
        removed.push(id);
        if (!json) process.stdout.write(`${id}\n`);
      } catch (error) {
        failedWork(error);
        failed.push(id);
      }
    }
    if (json) printJson({ removed, failed });
    return failed.length > 0 ? exitCodes.failed : 0;
  });
}
