import { setTimeout as sleep } from 'node:timers/promises';
import type { RunRow } from '../../journal/store.ts';
import { InvalidRequestError, RunCancelledError, RunNotFoundError } from '../errors.ts';
import type { RuntimeEvent } from '../events/event.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { writeEnd } from './end.ts';
import type { OwnerJournal } from './owner-journal.ts';
import { isFinal, type RunRecord, recordOf } from './record.ts';
import type { RunHandle } from './run.ts';
import { checkEvents, storedEvents } from './stored-events.ts';

/** How often it is looked whether a run of another process has gone on. */
const pollMs = 200;

/** A run that is not under way in this process: one of an earlier process, or of another one. */
export class StoredRun implements RunHandle<JsonValue> {
  readonly id: string;
  readonly #journal: OwnerJournal;

  constructor(id: string, journal: OwnerJournal) {
    this.id = id;
    this.#journal = journal;
  }

  get runId(): string {
    return this.id;
  }

  async record(): Promise<RunRecord> {
    return recordOf(await this.#row());
  }

  async result(): Promise<JsonValue> {
    for (;;) {
      const { state, result = null, error } = await this.record();
      if (error) throw restoredError(error);
      if (isFinal(state)) return result;
      await sleep(pollMs);
    }
  }

  events(options: { after?: number; signal?: AbortSignal } = {}): AsyncIterable<RuntimeEvent> {
    checkEvents(options);
    const { after = -1, signal } = options;
    return storedEvents(this.#journal, after, signal, {
      isOver: async () => isFinal((await this.#row()).state),
      more: () => sleep(pollMs, undefined, signal && { signal }).catch(() => {}), // who reads on finds it aborted
    });
  }

  async cancel(reason?: string): Promise<void> {
    const journal = this.#journal;
    if (!(await journal.claim())) {
      if (isFinal((await this.#row()).state)) return;
      throw new InvalidRequestError(`the run ${this.id} is under way in another process: cancel it there`);
    }
    const record = await this.record();
    const error = recordedError(new RunCancelledError({ runId: this.id, ...(reason !== undefined && { reason }) }));
    await writeEnd(journal, record, 'cancelled', { usage: record.usage, error }).written;
  }

  async #row(): Promise<RunRow> {
    const row = await this.#journal.store.run(this.id);
    if (!row) throw new RunNotFoundError({ runId: this.id });
    return row;
  }
}
