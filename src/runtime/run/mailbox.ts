import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../../journal/store.ts';
import type { JsonValue } from '../schema/snapshot.ts';

/** How often it is looked for what was sent by another process. */
const pollMs = 200;
const pageSize = 256;

/** What was sent to a run, of which each message is taken once. */
export class Mailbox {
  readonly #store: Store;
  readonly #run: string;
  /** Also those of which it is not written yet. */
  readonly #taken = new Set<number>();

  constructor(store: Store, run: string) {
    this.#store = store;
    this.#run = run;
  }

  /**
   * The first message of a name that was not taken, when there is one.
   * @param until - ms since 1970
   * @returns `undefined`: the time is over
   */
  async take(name: string, until: number, signal: AbortSignal): Promise<{ seq: number; data: JsonValue } | undefined> {
    for (;;) {
      const isOver = Date.now() >= until;
      for (let after = 0; ; ) {
        const page = await this.#store.mail(this.#run, { after, limit: pageSize });
        for (const { seq, name: sentAs, json } of page) {
          after = seq;
          if (sentAs !== name || this.#taken.has(seq)) continue;
          this.#taken.add(seq);
          return { seq, data: JSON.parse(json) as JsonValue }; // `send` wrote it
        }
        if (page.length < pageSize) break;
      }
      if (isOver) return undefined;
      await sleep(Math.min(pollMs, until - Date.now()), undefined, { signal });
    }
  }

  /** Whether there is a message of one of the names that was not taken. */
  async has(names: ReadonlySet<string>): Promise<boolean> {
    if (names.size === 0) return false;
    for (let after = 0; ; ) {
      const page = await this.#store.mail(this.#run, { after, limit: pageSize });
      if (page.some(({ seq, name }) => names.has(name) && !this.#taken.has(seq))) return true;
      if (page.length < pageSize) return false;
      after = page.at(-1)?.seq ?? after;
    }
  }
}
