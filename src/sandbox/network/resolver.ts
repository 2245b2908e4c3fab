import { promises as dns } from 'node:dns';
import type { Resolve } from './decide.ts';

/**
 * Nothing is kept, but who asks while an answer is under way has that one: a program may make many requests at once.
 * @param servers - Default: as this machine resolves names, with its /etc/hosts
 */
export function resolver(servers: readonly string[] | undefined): Resolve {
  const resolve = resolverOf(servers);
  const underWay = new Map<string, Promise<string[]>>();
  return (name) => {
    const known = underWay.get(name);
    if (known) return known;
    const found = resolve(name).finally(() => underWay.delete(name));
    underWay.set(name, found);
    return found;
  };
}

function resolverOf(servers: readonly string[] | undefined): Resolve {
  if (!servers) return async (name) => (await dns.lookup(name, { all: true })).map(({ address }) => address);
  const own = new dns.Resolver({ timeout: 5_000, tries: 2 });
  own.setServers(servers);
  return async (name) => {
    const found = await Promise.allSettled([own.resolve4(name), own.resolve6(name)]);
    const addresses = found.flatMap((each) => (each.status === 'fulfilled' ? each.value : []));
    const failure = found.find((each) => each.status === 'rejected');
    if (addresses.length === 0 && failure) throw failure.reason;
    return addresses;
  };
}
