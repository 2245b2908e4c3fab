import { withHost } from '../../host.ts';
import { Interruption } from '../../interruption.ts';
import { printJson, sayProgress } from '../../output.ts';

interface Options {
  /** True: a new one. */
  token?: string | true;
  json?: boolean;
}

export async function expose(id: string, port: number, { token, json }: Options): Promise<number> {
  const interruption = new Interruption();
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    await using exposed = await sandbox.expose(port, token === undefined ? {} : { token });
    if (json) {
      printJson({ url: exposed.url, port: exposed.port, ...(exposed.token !== undefined && { token: exposed.token }) });
    } else
      process.stdout.write(`${exposed.url}/${exposed.token === undefined ? '' : `?berth_token=${exposed.token}`}\n`);
    sayProgress(`reaches port ${port} of sandbox ${id}, until Ctrl-C`);
    return await interruption.ended; // and not before that it is closed
  });
}
