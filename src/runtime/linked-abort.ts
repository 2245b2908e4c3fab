import { setMaxListeners } from 'node:events';

/**
 * Aborted also with any of its sources, until it is released. In place of `AbortSignal.any()`: on Node 20 a signal of a
 * long run would keep something of every signal that was made from it.
 */
export class LinkedAbort extends AbortController {
  readonly #links: { source: AbortSignal; onAbort: () => void }[] = [];

  constructor(...sources: (AbortSignal | undefined)[]) {
    super();
    setMaxListeners(0, this.signal);
    for (const source of sources) {
      if (source === undefined) continue;
      setMaxListeners(0, source); // Node warns of the eleventh, as if it had been forgotten: `release` takes them away
      const onAbort = () => this.abort(source.reason);
      if (source.aborted) onAbort();
      else source.addEventListener('abort', onAbort, { once: true });
      this.#links.push({ source, onAbort });
    }
  }

  release(): void {
    for (const { source, onAbort } of this.#links) source.removeEventListener('abort', onAbort);
  }
}
