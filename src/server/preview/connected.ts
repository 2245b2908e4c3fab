import {
  type Sandbox,
  SandboxDiedError,
  type SandboxHost,
  SandboxNotFoundError,
  WireClosedError,
} from '../../sandbox/index.ts';

/** The sandboxes that were asked for: one connection to each, made when it is needed first. */
export class Connected {
  readonly #host: SandboxHost;
  readonly #known = new Map<string, Promise<Sandbox>>();

  constructor(host: SandboxHost) {
    this.#host = host;
  }

  /**
   * Does something with a sandbox, and does it again where that had ended or been removed without anybody here noticing:
   * there may be another one of its id, or it may run again.
   * @throws {SandboxNotFoundError}
   */
  async with<Result>(id: string, work: (sandbox: Sandbox) => Promise<Result>): Promise<Result> {
    const finding = this.#find(id);
    try {
      return await work(await finding);
    } catch (error) {
      const isGone =
        error instanceof SandboxNotFoundError || (error instanceof SandboxDiedError && error.meta.reason === 'removed');
      if (isGone) this.#forget(id, finding);
      const isAnew =
        error instanceof WireClosedError || (error instanceof SandboxDiedError && error.meta.reason === 'restarted');
      if (!isGone && !isAnew) throw error;
      return work(await this.#find(id));
    }
  }

  #find(id: string): Promise<Sandbox> {
    const known = this.#known.get(id);
    if (known) return known;
    const finding = this.#host.find(id);
    this.#known.set(id, finding);
    finding.catch(() => this.#forget(id, finding));
    return finding;
  }

  /** Not the one that another request has found in its place meanwhile. */
  #forget(id: string, gone: Promise<Sandbox>): void {
    if (this.#known.get(id) !== gone) return;
    this.#known.delete(id);
    gone.then((sandbox) => sandbox.close()).catch(() => {}); // it is gone
  }
}
