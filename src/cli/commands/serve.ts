import { isIP } from 'node:net';
import { newToken, tokenPattern, tokenRule } from '../../sandbox/preview/access.ts';
import { servePreviews } from '../../server/preview/serve.ts';
import { UsageError } from '../errors.ts';
import { withHost } from '../host.ts';
import { Interruption } from '../interruption.ts';
import { printJson, sayProgress } from '../output.ts';

interface Options {
  host: string;
  port: number;
  /** True: a new one. */
  token?: string | true;
  json?: boolean;
}

/** For requests that are under way when it is to end. */
const graceMs = 2_000;

export async function serve({ host: address, port, token: given, json }: Options): Promise<number> {
  if (typeof given === 'string' && !tokenPattern.test(given)) throw new UsageError(`--token ${tokenRule}.`);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new UsageError('--port is not one of 0 to 65535.');
  // Whoever reaches it would be in the sandboxes.
  const token = given === true || (given === undefined && !isLoopback(address)) ? newToken() : given;
  const interruption = new Interruption();
  return withHost(async (host) => {
    await using server = await servePreviews(host, { address, port, token }).catch((cause: NodeJS.ErrnoException) => {
      const hint = cause.code === 'EADDRINUSE' ? 'It is taken: choose another one with --port' : cause.message;
      throw new UsageError(`Port ${port} of ${address} can't be listened at. ${hint}.`, { cause });
    });
    const isLocalhost = ['localhost', '127.0.0.1', '::1', '0.0.0.0', '::'].includes(address);
    const name = isLocalhost ? 'localhost' : isIP(address) === 6 ? `[${address}]` : address;
    const url = `http://${name}:${server.port}/`;
    if (json) printJson({ url, port: server.port, ...(token !== undefined && { token }) });
    else process.stdout.write(`${url}${token === undefined ? '' : `?berth_token=${token}`}\n`);
    sayProgress(`serves http://PORT-ID.localhost:${server.port}/ for the servers in sandboxes, until Ctrl-C`);
    const code = await interruption.ended;
    await server.close(graceMs);
    return code;
  });
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}
