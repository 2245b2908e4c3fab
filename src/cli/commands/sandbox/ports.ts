import { withHost } from '../../host.ts';
import { printJson } from '../../output.ts';
import { tableLines } from '../../print/table.ts';

export async function ports(id: string, { json }: { json?: boolean }): Promise<number> {
  return withHost(async (host) => {
    const open = await (await host.find(id)).ports();
    if (json) printJson(open);
    else {
      const rows = open.map(({ port, address }) => [`${port}`, address]);
      process.stdout.write(`${tableLines([['PORT', 'ADDRESS'], ...rows]).join('\n')}\n`);
    }
    return 0;
  });
}
