import { createHash } from 'node:crypto';
import type { CheckedCreateOptions } from './options.ts';

/** The key that a sandbox was asked for with. */
export const keyLabel = 'berth.key';
/** What it was asked for with besides: see `fingerprints`. */
export const optionsLabel = 'berth.options';

export function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** By option that was given, what its value is known by; none of the values can be read from it by who sees labels. */
export function fingerprints(asked: CheckedCreateOptions): string {
  // What may be reached is not what it was made with: it can be changed at any time.
  const { id: _id, key: _key, signal: _signal, network: _network, env, labels, limits, ...rest } = asked;
  const options = {
    ...rest,
    ...Object.fromEntries(Object.entries(limits).map(([name, value]) => [`limits.${name}`, value])),
    env: sorted(env),
    labels: sorted(Object.entries(labels)),
  };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return JSON.stringify(
    Object.fromEntries(given.map(([name, value]) => [name, hash(JSON.stringify(value)).slice(0, 16)])),
  );
}

/** The names of the options that differ between two texts of `fingerprints`. */
export function differences(one: string, other: string): string[] {
  const [a, b]: Record<string, string>[] = [JSON.parse(one), JSON.parse(other)]; // our own texts
  return [...new Set([...Object.keys(a ?? {}), ...Object.keys(b ?? {})])].filter((name) => a?.[name] !== b?.[name]);
}

function sorted(pairs: readonly (readonly [string, string])[]): (readonly [string, string])[] {
  return [...pairs].sort(([one], [other]) => (one < other ? -1 : 1));
}
