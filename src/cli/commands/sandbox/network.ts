import type { NetworkPolicy, Rule } from '../../../sandbox/index.ts';
import { withHost } from '../../host.ts';
import { policyOf } from '../../network-policy.ts';
import { printJson } from '../../output.ts';

interface Options {
  allow: string[];
  json?: boolean;
}

/** Shows the policy of a sandbox, after it has set one if that is given. */
export async function network(id: string, named: 'none' | 'open' | undefined, options: Options): Promise<number> {
  const policy = policyOf(named, options.allow);
  return withHost(async (host) => {
    const sandbox = await host.find(id);
    if (policy !== undefined) await sandbox.setNetwork(policy);
    const { network } = await sandbox.info();
    if (options.json) printJson({ id, network });
    else
      process.stdout.write(
        linesOf(network)
          .map((line) => `${line}\n`)
          .join(''),
      );
    return 0;
  });
}

function linesOf(policy: NetworkPolicy): string[] {
  if (typeof policy === 'string') return [policy];
  const { allow, maxConnections, maxBytes } = policy;
  return [
    ...(allow === 'open' ? [allow] : allow.map((rule) => `allow ${textOf(rule)}`)),
    ...(maxConnections === undefined ? [] : [`at most ${maxConnections} connections at once`]),
    ...(maxBytes === undefined ? [] : [`at most ${maxBytes} bytes`]),
  ];
}

function textOf(rule: Rule): string {
  if (typeof rule === 'string') return rule;
  const { host, ports = [], methods = [], paths = [] } = rule;
  return [host, ports.length > 0 ? `at ${ports.join(', ')}` : '', ...methods, ...paths].filter(Boolean).join(' ');
}
