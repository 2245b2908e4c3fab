import { closeSync, constants, openSync, readdirSync, renameSync, unlinkSync } from 'node:fs';
import { asRoot } from '../../identity.ts';
import { hasCode } from '../path.ts';

/**
 * Files of the sandbox-agent's own, which no command can reach: their directory is in one that only its group may enter.
 * They are made as root, and used by their descriptors then.
 */
export class PrivateFiles {
  readonly #location: string;

  /** To be made before `restAs`: later only the descriptor leads here. */
  constructor(path: string) {
    this.#location = `/proc/self/fd/${openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)}`;
  }

  create(name: string): number {
    return asRoot(() => openSync(`${this.#location}/${name}`, 'wx+', 0o600));
  }

  /** @returns `undefined` when there is none */
  open(name: string): number | undefined {
    try {
      return asRoot(() => openSync(`${this.#location}/${name}`, 'r'));
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  rename(from: string, to: string): void {
    asRoot(() => renameSync(`${this.#location}/${from}`, `${this.#location}/${to}`));
  }

  /** One that is not there is fine. */
  remove(name: string): void {
    try {
      asRoot(() => unlinkSync(`${this.#location}/${name}`));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }

  names(): string[] {
    return asRoot(() => readdirSync(this.#location));
  }
}

export function closeAll(...files: (number | undefined)[]): void {
  for (const file of files) if (file !== undefined) closeSync(file);
}
