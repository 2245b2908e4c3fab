import type { CompiledPolicy, CompiledRule } from './policy.ts';
import { isPublic, normalAddress, normalName, openPorts } from './policy.ts';

export interface Target {
  /** A name or an address, as it was asked for. */
  host: string;
  port: number;
  /** In HTTP. Left out: nothing is known of what is going to be said. */
  request?: { method: string; path: string };
}

export type Decision =
  | { allowed: true; rule: string; host: string; addresses: string[] }
  | { allowed: false; reason: string; hint: string };

/** The addresses of a name. */
export type Resolve = (name: string) => Promise<string[]>;

/** Decides on the name and on every address that it has now; who connects takes one of those, without asking again. */
export async function decide(policy: CompiledPolicy, target: Target, resolve: Resolve): Promise<Decision> {
  const { host, port } = target;
  const address = addressOf(host);
  if (address !== undefined) {
    const rule = addressRule(policy, address, target);
    if (rule !== undefined) return { allowed: true, rule, host: address, addresses: [address] };
    return refusal(`no rule allows ${place(address, port)}`, policy, target, place(address, port));
  }
  const name = normalName(host);
  if (name === undefined) return { allowed: false, reason: 'it is neither a name nor an address', hint: '' };
  const rule = nameRule(policy, name, target);
  if (rule === undefined) return refusal(`no rule allows ${name}:${port}`, policy, target, `${name}:${port}`);
  let found: string[];
  try {
    found = await resolve(name);
  } catch (error) {
    return { allowed: false, reason: `${name} could not be resolved: ${(error as Error).message}`, hint: '' };
  }
  const addresses: string[] = [];
  for (const each of found) {
    const normal = normalAddress(each);
    if (normal === undefined) continue;
    if (!isPublic(normal) && addressRule(policy, normal, target) === undefined) {
      const reason = `${name} has the address ${normal}, which is not public, and no rule allows that`;
      return refusal(reason, policy, target, place(normal, port));
    }
    addresses.push(normal);
  }
  if (addresses.length === 0) return { allowed: false, reason: `${name} has no address`, hint: '' };
  return { allowed: true, rule, host: name, addresses };
}

/** Whether a connection that is there may go on under another policy. */
export function stillAllows(policy: CompiledPolicy, target: Target, address: string): boolean {
  const isByAddress = addressRule(policy, address, target) !== undefined;
  const name = normalName(target.host);
  if (name === undefined) return isByAddress;
  return nameRule(policy, name, target) !== undefined && (isByAddress || isPublic(address));
}

/**
 * Whether requests to there are decided on one by one, as rules have conditions for them. `isBound`: a secret is for them,
 * which is put in request by request.
 */
export function isByRequest({ isOpen, rules }: CompiledPolicy, { host, port }: Target, isBound: boolean): boolean {
  if (isOpen) return isBound;
  const known = normalHost(host) ?? '';
  const fitting = rules.filter(
    (rule) => rule.ports.has(port) && (rule.matchesName(known) || rule.matchesAddress(known)),
  );
  return fitting.length > 0 && (isBound || fitting.every(({ methods, paths }) => methods || paths));
}

/** A name or an address as rules compare it. `undefined`: it is neither. */
export function normalHost(host: string): string | undefined {
  return addressOf(host) ?? normalName(host);
}

function addressOf(host: string): string | undefined {
  return normalAddress(host.replace(/^\[(.*)\]$/, '$1'));
}

/** What the name server in the sandbox gives addresses for, and where they are listened at. */
export function namesOf({ isOpen, rules }: CompiledPolicy): { pattern: string; ports: number[] }[] {
  if (isOpen) return [{ pattern: '*', ports: openPorts }];
  return rules.flatMap(({ pattern, ports }) => (pattern === undefined ? [] : [{ pattern, ports: [...ports] }]));
}

function nameRule(policy: CompiledPolicy, name: string, target: Target): string | undefined {
  if (policy.isOpen) return 'open';
  return policy.rules.find((rule) => rule.matchesName(name) && fits(rule, target))?.text;
}

function addressRule(policy: CompiledPolicy, address: string, target: Target): string | undefined {
  if (policy.isOpen) return isPublic(address) ? 'open' : undefined;
  return policy.rules.find((rule) => rule.matchesAddress(address) && fits(rule, target))?.text;
}

function fits({ ports, methods, paths }: CompiledRule, { port, request }: Target): boolean {
  if (!ports.has(port)) return false;
  if (!methods && !paths) return true;
  if (!request) return false;
  const { method, path } = request;
  if (methods && !methods.includes(method)) return false;
  return !paths || (!mayClimb(path) && paths.some((prefix) => path.startsWith(prefix)));
}

/** Whether a server could take it for the path of something else, which it was not compared as. */
function mayClimb(path: string): boolean {
  const decoded = path
    .replace(/%(25)+/g, '%') // of any number of times
    .replace(/%2e|%c0%ae/gi, '.') // the latter in UTF-8 that is longer than it may be, which some servers take
    .replace(/%2f|%c0%af|%5c|%c1%9c|\\/gi, '/');
  return /(^|\/)\.\.(\/|;|$)/.test(decoded) || decoded.includes('%00');
}

function refusal(reason: string, { isOpen }: CompiledPolicy, { request }: Target, rule: string): Decision {
  if (isOpen) return { allowed: false, reason, hint: `network: 'open' allows public addresses only` };
  const asked = request ? ` for ${request.method} ${request.path}` : '';
  return { allowed: false, reason: reason + asked, hint: `to allow it, add '${rule}' to network.allow of the sandbox` };
}

function place(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
