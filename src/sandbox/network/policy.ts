import { BlockList, isIP, isIPv4, isIPv6, SocketAddress } from 'node:net';
import { domainToASCII } from 'node:url';
import * as v from 'valibot';
import { limits } from '../../protocol/limits.ts';
import { port as portNumber } from '../../protocol/network.ts';
import { type CompiledSecret, type Secret, secretOption } from './secrets.ts';

/**
 * What a rule allows: a host, with the names below it where it begins with `*.`; an address; or a range of addresses in
 * CIDR. Then `:` and a port, by default 80 and 443. As in `api.github.com`, `*.npmjs.org`, `db.example.com:5432`,
 * `10.1.0.0/16:22`, `[2001:db8::1]:443`.
 */
export interface RuleOptions {
  host: string;
  /** Default: the one after the host, else 80 and 443 */
  ports?: readonly number[] | undefined;
  /** Of requests in HTTP, which are looked into for that, and then nothing else is allowed. Default: all, and other protocols */
  methods?: readonly string[] | undefined;
  /** How the path of such a request begins, and then nothing else is allowed. Default: any, and other protocols too */
  paths?: readonly string[] | undefined;
}
/** As text, or with options: `host` of those is the text. */
export type Rule = string | RuleOptions;

/**
 * What a sandbox may reach. `'none'`: nothing. `'open'`: every public address. Else what the rules name; of the addresses
 * of a name those that are not public have to be named as well.
 */
export type NetworkPolicy =
  | 'none'
  | 'open'
  | {
      /** `'open'`: every public address. */
      allow: readonly Rule[] | 'open';
      /** That the host puts into requests. At most 64 */
      secrets?: readonly Secret[];
      /** At once; others wait. 1 to 256. Default: 128 */
      maxConnections?: number;
      /** In both directions, of all connections since the policy was set: then all are cut, within 50 ms. Default: any number */
      maxBytes?: number;
    };

export interface CompiledRule {
  /** As it was written. */
  text: string;
  ports: ReadonlySet<number>;
  matchesName: (name: string) => boolean;
  matchesAddress: (address: string) => boolean;
  /** As the name server in the sandbox takes it; left out for addresses. */
  pattern: string | undefined;
  /** A single one. */
  address: string | undefined;
  methods: readonly string[] | undefined;
  paths: readonly string[] | undefined;
}

export interface CompiledPolicy {
  isOpen: boolean;
  rules: readonly CompiledRule[];
  secrets: readonly CompiledSecret[];
  maxConnections: number;
  maxBytes: number;
}

const defaultPorts = [80, 443];
/** Of names that no rule names, where all are open: a server in the sandbox listens at each. */
export const openPorts = [22, 80, 443];

const text = v.pipe(v.string(), v.maxLength(300));
const ruleOptions = v.strictObject({
  host: text,
  ports: v.optional(v.pipe(v.array(portNumber), v.minLength(1), v.maxLength(limits.networkPorts))),
  methods: v.optional(v.pipe(v.array(v.pipe(v.string(), v.regex(/^[A-Z]+$/, 'is no method, as GET'))), v.minLength(1))),
  paths: v.optional(v.pipe(v.array(v.pipe(v.string(), v.startsWith('/'))), v.minLength(1))),
});
const toRule = <Given extends v.InferOutput<typeof ruleOptions> | string>() =>
  v.rawTransform<Given, CompiledRule>(({ dataset: { value }, addIssue, NEVER }) => {
    try {
      return compile(typeof value === 'string' ? { host: value } : value);
    } catch (error) {
      addIssue({ message: (error as Error).message }); // `compile` throws nothing else
      return NEVER;
    }
  });
const rule = v.pipe(
  // Not a union: that would not say what is wrong with the one that it is.
  v.lazy(
    (value): v.GenericSchema<Rule, v.InferOutput<typeof ruleOptions> | string> =>
      typeof value === 'string' ? text : ruleOptions,
  ),
  toRule(),
);

const named = v.picklist(['none', 'open']);
/** Each is a variable of every command, and is looked for in every request to its hosts. */
const mostSecrets = 64;
const allowing = v.strictObject({
  allow: v.lazy(
    (value): v.GenericSchema<readonly Rule[] | 'open', CompiledRule[] | 'open'> =>
      (typeof value === 'string'
        ? v.literal('open')
        : v.pipe(v.array(rule), v.maxLength(limits.networkNames))) as never,
  ),
  secrets: v.optional(v.pipe(v.array(secretOption(v.pipe(text, toRule()))), v.maxLength(mostSecrets)), []),
  maxConnections: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(256))),
  maxBytes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
});
type Checked = v.InferOutput<typeof named> | v.InferOutput<typeof allowing>;
export const networkPolicy = v.pipe(
  v.lazy((value): v.GenericSchema<NetworkPolicy, Checked> => (typeof value === 'string' ? named : allowing) as never),
  v.rawTransform(({ dataset, addIssue }): CompiledPolicy | undefined => {
    const policy = dataset.value;
    if (policy === 'none') return undefined;
    const {
      allow,
      secrets = [],
      maxConnections = 128,
      maxBytes = Number.POSITIVE_INFINITY,
    } = policy === 'open' ? { allow: policy } : policy;
    const rules = allow === 'open' ? [] : allow;
    for (const { name, hosts } of secrets) {
      if (secrets.filter((other) => other.name === name).length > 1)
        addIssue({ message: `has the secret ${name} twice` });
      const lost = allow === 'open' ? undefined : hosts.find((host) => !rules.some((rule) => overlap(host, rule)));
      if (lost) addIssue({ message: `has the secret ${name} for ${lost.text}, which no rule allows: add it to allow` });
    }
    return { isOpen: allow === 'open', rules, secrets, maxConnections, maxBytes };
  }),
);

/** Whether there is a place that both are for. */
function overlap(one: CompiledRule, other: CompiledRule): boolean {
  if (![...one.ports].some((port) => other.ports.has(port))) return false;
  const isWithin = (a: CompiledRule, b: CompiledRule) =>
    a.pattern === undefined
      ? a.address !== undefined && b.matchesAddress(a.address)
      : b.matchesName(a.pattern) || a.pattern === b.pattern;
  return isWithin(one, other) || isWithin(other, one);
}

function compile({ host, ports, methods, paths }: v.InferOutput<typeof ruleOptions>): CompiledRule {
  const { name, port } = splitPort(host);
  if (port !== undefined && ports) throw new Error('has a port twice: after the host and in ports');
  const shared = {
    text: host,
    ports: new Set(ports ?? (port === undefined ? defaultPorts : [port])),
    methods,
    paths,
    matchesName: () => false,
    matchesAddress: () => false,
    pattern: undefined,
    address: undefined,
  };
  const [address = '', bits] = name.split('/');
  if (isIP(address)) {
    const single = bits === undefined ? normalAddress(address) : undefined;
    return { ...shared, matchesAddress: inRange(address, bits), address: single };
  }
  if (bits !== undefined)
    throw new Error('is no host and no range of addresses, as 10.0.0.0/8: leave out scheme and path');
  if (name === '*') throw new Error("would allow every name: say network: 'open' for that");
  const isWildcard = name.startsWith('*.');
  const base = normalName(isWildcard ? name.slice(2) : name);
  if (base === undefined) throw new Error('is no host, as api.github.com or *.github.com:443');
  return {
    ...shared,
    pattern: isWildcard ? `*.${base}` : base,
    matchesName: isWildcard ? (asked) => asked.endsWith(`.${base}`) : (asked) => asked === base,
  };
}

function splitPort(host: string): { name: string; port?: number } {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(host);
  const [, name = host, digits] =
    bracketed ?? (isIPv6(host.split('/')[0] ?? '') ? [] : (/^(.*?)(?::(\d+))?$/.exec(host) ?? []));
  if (digits === undefined) return { name };
  if (!v.is(portNumber, Number(digits))) throw new Error('has no port from 1 to 65535');
  return { name, port: Number(digits) };
}

function inRange(address: string, bits: string | undefined): (address: string) => boolean {
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  const most = family === 'ipv4' ? 32 : 128;
  if (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most)) {
    throw new Error('is no range of addresses, as 10.0.0.0/8');
  }
  const list = new BlockList();
  list.addSubnet(address, bits === undefined ? most : Number(bits), family);
  return (asked) => list.check(asked, isIPv4(asked) ? 'ipv4' : 'ipv6');
}

/** In lower case and ASCII, without the dot at the end. `undefined`: it is no name. */
export function normalName(name: string): string | undefined {
  const ascii = domainToASCII(name.replace(/\.$/, '')).toLowerCase();
  const isName = ascii.length <= 253 && /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(ascii);
  return isName && !isIP(ascii) ? ascii : undefined;
}

/** As it is compared: without a zone, and of IPv4 where it stands for such a one. `undefined`: it is none. */
export function normalAddress(address: string): string | undefined {
  if (isIPv4(address)) return address;
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const { address: normal } = new SocketAddress({ address, family: 'ipv6' });
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(normal)?.[1] ?? normal;
}

// IANA's registries of special-purpose addresses: what is not globally reachable, and what stands for addresses of IPv4.
const special = new BlockList();
for (const range of [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4'],
  ...['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'],
]) {
  const [address = '', bits] = range.split('/');
  special.addSubnet(address, Number(bits), isIPv4(address) ? 'ipv4' : 'ipv6');
}
const global = new BlockList();
global.addSubnet('2000::', 3, 'ipv6');

/** @param address - a normal one */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !special.check(address, 'ipv4');
  return global.check(address, 'ipv6') && !special.check(address, 'ipv6');
}
