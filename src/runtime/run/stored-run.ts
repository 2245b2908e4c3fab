import { setTimeout as sleep } from 'node:timers/promises';
import type { RunRow } from '../../journal/store.ts';
import { InvalidRequestError, RunCancelledError, RunNotFoundError } from '../errors.ts';
import type { RuntimeEvent } from '../events/event.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { checkMessageName } from '../harness/wait.ts';
import { checkOptions, jsonArgument } from '../options.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { writeEnd } from './end.ts';
import type { OwnerJournal } from './owner-journal.ts';
import { isFinal, progressOf, type RunRecord, recordOf } from './record.ts';
import type { RunHandle } from './run.ts';
import { checkEvents, storedEvents } from './stored-events.ts';

/** How often it is looked whether a run of another process has gone on. */
const pollMs = 200;

/** What the runtime does with a run that is not under way in this process. */
interface Owning {
  /** The run, when it is under way here after all. */
  live: () => Promise<RunHandle | undefined>;
  /** The runtime has its workflow. */
  isKnown: (workflow: string) => boolean;
  /** Goes on with it. */
  takeUp: () => Promise<void>;
  /** Aborts when the runtime is closed, and nothing of its work can ask any more. */
  closed: AbortSignal;
  /** Of JSON that is sent to it. */
  maxValueBytes: number;
}

/** A run that is not under way in this process: one that is suspended, of an earlier process, or of another one. */
export class StoredRun implements RunHandle<JsonValue> {
  readonly id: string;
  readonly #journal: OwnerJournal;
  readonly #owning: Owning;

  constructor(id: string, journal: OwnerJournal, owning: Owning) {
    this.id = id;
    this.#journal = journal;
    this.#owning = owning;
  }

  get runId(): string {
    return this.id;
  }

  async record(): Promise<RunRecord> {
    return recordOf(await this.#row());
  }

  async result(): Promise<JsonValue> {
    const { closed } = this.#owning;
    for (;;) {
      closed.throwIfAborted();
      const { state, result = null, error } = await this.record();
      if (error) throw restoredError(error);
      if (isFinal(state)) return result;
      await sleep(pollMs, undefined, { signal: closed }).catch(() => {}); // who reads on finds it closed
    }
  }

  events(options: { after?: number; signal?: AbortSignal } = {}): AsyncIterable<RuntimeEvent> {
    checkEvents(options);
    const { after = -1, signal } = options;
    return storedEvents(this.#journal, after, signal, {
      isOver: async () => {
        this.#owning.closed.throwIfAborted();
        return isFinal((await this.#row()).state);
      },
      more: () => sleep(pollMs, undefined, signal && { signal }).catch(() => {}), // who reads on finds it aborted
    });
  }

  async cancel(reason?: string): Promise<void> {
    const live = await this.#owning.live();
    if (live) return live.cancel(reason);
    const journal = this.#journal;
    if (!(await journal.claim())) {
      if (isFinal((await this.#row()).state)) return;
      throw new InvalidRequestError(`the run ${this.id} is under way in another process: cancel it there`);
    }
    const row = await this.#row();
    if (row.state !== 'queued' && this.#owning.isKnown(row.workflow)) {
      // It is taken up once more, for the end of its sandbox.
      const progress = JSON.stringify({ ...progressOf(row), cancelled: { ...(reason !== undefined && { reason }) } });
      journal.put({ kind: 'run', state: 'suspended', progress, wakeAt: 0 });
      await journal.close();
      await this.#owning.takeUp();
      return this.result().then(
        () => {},
        () => {},
      );
    }
    const record = recordOf(row);
    const error = recordedError(new RunCancelledError({ runId: this.id, ...(reason !== undefined && { reason }) }));
    await writeEnd(journal, record, 'cancelled', { usage: record.usage, error }).written;
  }

  async resume(): Promise<void> {
    if ((await this.#owning.live()) || isFinal((await this.#row()).state)) return;
    await this.#owning.takeUp();
  }

  async send(name: string, data: unknown, options: { key?: string } = {}): Promise<void> {
    checkOptions('send', options, { key: true });
    checkMessageName(name);
    const { key } = options;
    if (key !== undefined && typeof key !== 'string') throw new InvalidRequestError('a key is a text');
    const { state } = await this.#row();
    if (isFinal(state)) throw new InvalidRequestError(`the run ${this.id} has ended`);
    const json = this.#journal.masker.json(JSON.stringify(jsonArgument(data, 'data', this.#owning.maxValueBytes)));
    await this.#journal.store.send({ run: this.id, name, json, ...(key !== undefined && { key }) });
    if (state === 'suspended' && !(await this.#owning.live())) await this.#owning.takeUp().catch(() => {}); // others may know it
  }

  async #row(): Promise<RunRow> {
    const row = await this.#journal.store.run(this.id);
    if (!row) throw new RunNotFoundError({ runId: this.id });
    return row;
  }
}
