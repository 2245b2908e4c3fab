import { randomBytes } from 'node:crypto';

/** The name of something that is not whole yet, or about to go; beside what it will be. */
export function partName(): string {
  return `.berth-${randomBytes(8).toString('hex')}`;
}

export function isPartName(name: string): boolean {
  return /^\.berth-[0-9a-f]{16}$/.test(name);
}
