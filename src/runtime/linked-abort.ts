/**
 * Aborted also with any of its sources, until it is released. In place of `AbortSignal.any()`: on Node 20 a signal of a
 * long run would keep something of every signal that was made from it.
 */
export class LinkedAbort extends AbortController {
  readonly #links: { source: AbortSignal; onAbort: () => void }[] = [];

  constructor(...sources: (AbortSignal | undefined)[]) {
    super();
    for (const source of sources) {
      if (source === undefined) continue;
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
