import type { Assignment } from '../src/protocol/assign.ts';
import { sandboxEnvironment } from './environment.ts';

/** What the host asked for, by the environment of the container or by an assignment. */
export interface Settings {
  user: string;
  cwd: string;
  /** Of commands. */
  env: Map<string, string>;
  idleMs: number | undefined;
  lifetimeMs: number | undefined;
}

/** @param assigned - what a sandbox from a pool was told, now or before a restart */
export function settings(assigned: Assignment | undefined): Settings {
  const env = sandboxEnvironment(process.env);
  for (const [name, value] of assigned?.env ?? []) env.set(name, value);
  return {
    user: assigned?.user ?? (setting('BERTH_USER') || '0'),
    cwd: assigned?.cwd ?? setting('BERTH_CWD'),
    env,
    idleMs: assigned ? assigned.idleMs : duration('BERTH_IDLE_MS'),
    lifetimeMs: assigned ? assigned.lifetimeMs : duration('BERTH_LIFETIME_MS'),
  };
}

export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: this program is started by a Berth host only`);
  return value;
}

/** What was not given may be empty, so that the image's variable of that name does not count. */
function duration(name: string): number | undefined {
  return Number(process.env[name]) || undefined;
}
