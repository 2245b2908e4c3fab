import { setTimeout as wait } from 'node:timers/promises';
import type { Container } from '../engine/engine.ts';
import type { CheckedCreateOptions, CheckedPool } from './options.ts';
import { sandboxLabel } from './sandbox.ts';
import type { StateDir } from './state-dir.ts';

/** On containers that were started before anybody asked for them. The state directory has what they are called by since. */
export const poolLabel = 'berth.pool';

export interface Member {
  id: string;
  container: Container;
}

/** What a pool needs of its host. */
interface Source {
  /** Makes one that is ready, when nothing more urgent is to be made. */
  make(): Promise<Member>;
  remove(member: Member): Promise<void>;
  onFailure(error: unknown): void;
}

const limitNames = ['memory', 'cpus', 'pids', 'disk'] as const;
/** Named one by one: an option that is new, as another runtime, must not be dropped without a word. */
const takenLater = new Set(['env', 'user', 'cwd', 'idleTimeout', 'maxLifetime', 'labels', 'key', 'network', 'signal']);

/** After a failure: the engine may be away, or the machine full. */
const retryMs = 5_000;

/** Sandboxes that are started and nobody's yet. Each is given away once, and another one made in its place. */
export class Pool {
  readonly #options: CheckedPool;
  readonly #source: Source;
  readonly #free: Member[] = [];
  readonly #stop = new AbortController();
  #filling: Promise<void> | undefined;

  constructor(options: CheckedPool, source: Source) {
    this.#options = options;
    this.#source = source;
    this.#fill();
  }

  /** One for these options; `undefined` when there is none that fits, or none left. */
  take(asked: CheckedCreateOptions): Member | undefined {
    if (!this.#fits(asked)) return undefined;
    const member = this.#free.shift();
    this.#fill();
    return member;
  }

  /** Resolves when it is full. */
  async full(): Promise<void> {
    while (this.#filling) await this.#filling;
  }

  /** Removes those that are nobody's. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#filling;
    await Promise.all(this.#free.splice(0).map((member) => this.#source.remove(member)));
  }

  get #isShort(): boolean {
    return !this.#stop.signal.aborted && this.#free.length < this.#options.size;
  }

  /** What the engine fixes when it makes a container must be the same; the sandbox-agent takes the rest later. */
  #fits({ image, limits, ...rest }: CheckedCreateOptions): boolean {
    const { image: ownImage, limits: own } = this.#options;
    if (image !== undefined && image !== ownImage) return false;
    if (!limitNames.every((name) => limits[name] === own[name])) return false;
    return Object.entries(rest).every(([name, value]) => value === undefined || takenLater.has(name));
  }

  #fill(): void {
    this.#filling ??= this.#fillUp().then(() => {
      this.#filling = undefined;
      if (this.#isShort) this.#fill(); // one was taken just now
    });
  }

  /** One at a time: whoever asks for a sandbox that does not fit must not find the engine busy with ours. */
  async #fillUp(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#isShort) {
      try {
        this.#free.push(await this.#source.make());
      } catch (error) {
        this.#source.onFailure(error);
        await wait(retryMs, undefined, { signal, ref: false }).catch(() => {}); // looked at next
      }
    }
  }
}

/**
 * A container with what it is called by. `undefined`: it is in a pool, and no sandbox yet. One whose record was lost is
 * taken for a sandbox: somebody may want its files.
 */
export async function called(state: StateDir, container: Container): Promise<Container | undefined> {
  const id = container.labels[sandboxLabel];
  if (container.labels[poolLabel] === undefined || id === undefined) return container;
  const labels = await state.labels(id);
  if (labels) return { ...container, labels: { ...container.labels, ...labels } };
  const owner = await state.owner(id);
  return owner && !owner.finished ? undefined : container;
}
