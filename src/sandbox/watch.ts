import type { ContainerEvent, Engine } from '../engine/engine.ts';

/** What happened, or that something may have: the engine was not heard for a while. */
export type Change = ContainerEvent['kind'] | 'unknown';

/** Of a subscription that broke; the engine may be starting again. */
const retryMs = 500;
/** A new subscription is not answered until there is an event: by then it stands. */
const settledMs = 1_000;

/** Tells what the engine reports of the containers of a host: one subscription for all that are followed. */
export class EngineWatch {
  readonly #engine: Engine;
  readonly #labels: Readonly<Record<string, string>>;
  readonly #followers = new Map<string, Set<(change: Change) => void>>();
  #subscription: AbortController | undefined;

  constructor(engine: Engine, labels: Readonly<Record<string, string>>) {
    this.#engine = engine;
    this.#labels = labels;
  }

  /** @returns ends it */
  follow(containerId: string, onChange: (change: Change) => void): () => void {
    const followers = this.#followers.get(containerId) ?? new Set();
    this.#followers.set(containerId, followers.add(onChange));
    if (!this.#subscription) {
      this.#subscription = new AbortController();
      void this.#subscribe(this.#subscription.signal);
    }
    return () => {
      followers.delete(onChange);
      if (followers.size === 0 && this.#followers.get(containerId) === followers) this.#followers.delete(containerId);
      if (this.#followers.size > 0) return;
      this.#subscription?.abort();
      this.#subscription = undefined;
    };
  }

  async #subscribe(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // What happened before the engine listens is not told.
      const timer = setTimeout(() => this.#tellAll(), settledMs).unref();
      try {
        for await (const { containerId, kind } of this.#engine.events(this.#labels, signal)) {
          for (const follower of this.#followers.get(containerId) ?? []) follower(kind);
        }
      } catch {
        // Aborted, or the engine is not there: calls say so, and here it is asked again.
      }
      clearTimeout(timer);
      if (signal.aborted) return;
      await new Promise<void>((resolve) => setTimeout(resolve, retryMs).unref());
    }
  }

  #tellAll(): void {
    for (const followers of this.#followers.values()) for (const follower of followers) follower('unknown');
  }
}
