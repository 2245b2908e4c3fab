import { pairs, withHost } from '../../host.ts';
import { printJson } from '../../output.ts';
import { tableLines } from '../../print/table.ts';

export async function ls({ label, json }: { label: string[]; json?: boolean }): Promise<number> {
  const labels = pairs('--label', label);
  return withHost(async (host) => {
    const sandboxes = await host.list({ labels });
    if (json) {
      printJson(sandboxes);
      return 0;
    }
    const rows = sandboxes.map(({ id, state, end, image, createdAt, labels: own }) => [
      id,
      end ? `${state} (${end.reason})` : state,
      image,
      createdAt.toISOString().slice(0, 19).replace('T', ' '),
      Object.entries(own)
        .map(([name, value]) => `${name}=${value}`)
        .join(' '),
    ]);
    const lines = tableLines([['ID', 'STATE', 'IMAGE', 'CREATED (UTC)', 'LABELS'], ...rows]);
    process.stdout.write(`${lines.join('\n')}\n`);
    return 0;
  });
}
