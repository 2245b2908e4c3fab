import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';

/** Removes sandboxes; one that is not there is no error. */
export async function rm(ids: readonly string[], { json }: { json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    for (const id of ids) {
      await host.remove(id);
      if (!json) process.stdout.write(`${id}\n`);
    }
    if (json) printJson({ removed: ids });
    return 0;
  });
}
