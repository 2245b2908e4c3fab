import { SandboxOperationUnsupportedError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import type { FilesCheckpoint, SandboxEnv } from '../sandbox/env.ts';
import type { CallHandle } from './call-handle.ts';
import { forkableBy } from './forks.ts';

/** The files of a sandbox as they were: what `harness.checkpoint` gives. */
export interface Checkpoint {
  /**
   * Puts the files below the directory of the sandbox back as they were, and removes what has come since: all of it or, if it
   * fails, nothing. Any number of times, until the harness ends. Everybody who works in the sandbox sees it.
   * @throws {SandboxGoneError} the files of then are no longer kept
   */
  rollback(options?: { signal?: AbortSignal }): CallHandle<void>;
}

/** One that is known by its name: an earlier attempt may have made it. */
export class NamedCheckpoint {
  readonly name: string;
  readonly #env: SandboxEnv;
  #files: FilesCheckpoint | undefined;

  constructor(env: SandboxEnv, name: string) {
    this.#env = env;
    this.name = name;
  }

  async make(signal: AbortSignal): Promise<void> {
    this.#files = await this.#env.checkpoint?.({ name: this.name, resume: false, signal });
  }

  async rollback(signal: AbortSignal): Promise<void> {
    await (await this.#found(signal))?.rollback({ signal });
  }

  async drop(): Promise<void> {
    await (await this.#found(new AbortController().signal))?.drop();
  }

  async #found(signal: AbortSignal): Promise<FilesCheckpoint | undefined> {
    this.#files ??= await this.#env.checkpoint?.({ name: this.name, resume: true, signal });
    return this.#files;
  }
}

/** @throws {InvalidRequestError} @throws {SandboxOperationUnsupportedError} */
export function checkCheckpoint(env: SandboxEnv, options: object): void {
  checkOptions('checkpoint', options, { signal: true });
  if (!env.checkpoint) {
    throw new SandboxOperationUnsupportedError({ operation: 'checkpoints', supportedBy: forkableBy });
  }
}
