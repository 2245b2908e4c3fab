import type { NetworkPolicy } from '../sandbox/index.ts';
import { UsageError } from './errors.ts';

/** @returns `undefined`: neither was given */
export function policyOf(named: 'none' | 'open' | undefined, allow: string[]): NetworkPolicy | undefined {
  if (allow.length === 0) return named;
  if (named !== undefined) throw new UsageError(`--allow names all that may be reached: it goes without ${named}.`);
  return { allow };
}
