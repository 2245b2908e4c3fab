import { abortError } from '../../errors.ts';
import { WriteRefusedError } from '../../journal/errors.ts';
import type { Lease, RunRow } from '../../journal/store.ts';
import { executeAction } from '../action/execute.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import { RunCancelledError } from '../errors.ts';
import type { RecordedError, RuntimeEvent } from '../events/event.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import { graceMs } from '../harness/grace.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { writeEnd } from './end.ts';
import type { OwnerJournal } from './owner-journal.ts';
import { type Progress, type RunRecord, recordOf } from './record.ts';
import type { Admit } from './slots.ts';
import { checkEvents } from './stored-events.ts';
import { StoredRun } from './stored-run.ts';

/** Opens the root harness of a run: agent first, then its sandbox. */
export type OpenRootHarness = (root: {
  journal: OwnerJournal;
  meter: UsageMeter;
  signal: AbortSignal;
}) => Promise<OpenHarness>;

/** One run of a workflow: what `invoke` gives. */
export interface RunHandle<Output = unknown> {
  /** The one that was given to `invoke`, else `run_` and a ULID. */
  readonly id: string;
  /** The same as `id`. */
  readonly runId: string;
  /** What is known of it now: a copy. */
  record(): Promise<RunRecord>;
  /**
   * The validated output. Of a run of an earlier process, which nobody goes on with, it never comes.
   * @throws the error of the run; {RunCancelledError} it was cancelled; {StoreError} its end could not be recorded
   */
  result(): Promise<Output>;
  /**
   * The events with a number over `after`, from the first one on when it is left out. Waits for more, and ends with the run;
   * with an `AbortError` when `signal` aborts.
   * @throws {InvalidRequestError} an option is not known, or not of its type
   */
  events(options?: { after?: number; signal?: AbortSignal }): AsyncIterable<RuntimeEvent>;
  /**
   * Stops the run; resolves when all that it started has ended. A run that has ended is left as it is.
   * @throws {InvalidRequestError} it is under way in another process
   */
  cancel(reason?: string): Promise<void>;
}

export class Run implements RunHandle<JsonValue> {
  readonly id: string;
  readonly workflow: WorkflowDefinition;
  readonly #journal: OwnerJournal;
  readonly #stop = new AbortController();
  readonly #meter = new UsageMeter();
  readonly #ended: Promise<JsonValue>;
  #record: RunRecord;

  constructor(options: {
    /** As it was admitted. */
    row: RunRow;
    workflow: WorkflowDefinition;
    journal: OwnerJournal;
    admit: Admit;
    openHarness: OpenRootHarness;
  }) {
    const { row, workflow, journal } = options;
    this.id = row.id;
    this.workflow = workflow;
    this.#journal = journal;
    this.#record = recordOf(row);
    this.#ended = this.#start(options);
    this.#ended.catch(() => {}); // who wants the error awaits result()
  }

  get runId(): string {
    return this.id;
  }

  /** The right to write for it, while it is had. */
  get lease(): Lease | undefined {
    return this.#journal.lease;
  }

  /** Resolves at the end, whatever it is. */
  get settled(): Promise<void> {
    return this.#ended.then(
      () => {},
      () => {},
    );
  }

  async record(): Promise<RunRecord> {
    return structuredClone({ ...this.#record, usage: this.#meter.total });
  }

  result(): Promise<JsonValue> {
    return this.#ended;
  }

  events(options: { after?: number; signal?: AbortSignal } = {}): AsyncIterable<RuntimeEvent> {
    checkEvents(options);
    const { after = -1, signal } = options;
    return this.#journal.follow(after, signal);
  }

  async cancel(reason?: string): Promise<void> {
    this.#stop.abort(reason);
    await this.settled;
  }

  /** Nothing of it can be recorded any more: it stops, and its result is this error. */
  fail(error: unknown): void {
    this.#stop.abort(error);
  }

  async #start({ admit, openHarness }: ConstructorParameters<typeof Run>[0]): Promise<JsonValue> {
    const { signal } = this.#stop;
    try {
      let result: JsonValue;
      try {
        result = await admit(() => this.#run(openHarness), signal);
        // Asked for before the end is written, however late: then what the work gave is not kept.
        if (signal.aborted) throw abortError(signal.reason);
      } catch (cause) {
        if (this.#journal.failure) throw this.#journal.failure.error;
        const error = signal.aborted ? this.#cancelledError(cause) : cause;
        await this.#end(signal.aborted ? 'cancelled' : 'failed', { error: recordedError(error) });
        throw error;
      }
      await this.#end('completed', { result: structuredClone(result) }); // what is delivered is the caller's own
      return result;
    } catch (error) {
      if (!(error instanceof WriteRefusedError)) throw error;
      // Somebody else has it, or has ended it: what is recorded counts.
      const stored = new StoredRun(this.id, this.#journal);
      const ended = stored.result();
      await ended.catch(() => {});
      this.#record = await stored.record();
      return ended;
    }
  }

  async #run(openHarness: OpenRootHarness): Promise<JsonValue> {
    const { signal } = this.#stop;
    if (signal.aborted) throw abortError(signal.reason);
    await this.#claim();
    const startedAt = new Date().toISOString();
    this.#record = { ...this.#record, state: 'running', startedAt };
    const { workflowName, input } = this.#record;
    const progress: Progress = { startedAt, usage: this.#meter.total };
    this.#journal.put({ kind: 'run', state: 'running', progress: JSON.stringify(progress) });
    this.#journal.emit({ type: 'run_start', workflowName, startedAt, ...(input !== undefined && { input }) });
    await this.#journal.flush();
    return executeAction({
      action: this.workflow.action,
      input: structuredClone(input), // what `run` does to its input must not show in the record
      ignoreInput: false,
      signal,
      graceMs: graceMs(0),
      logAttributes: { action: this.workflow.action.name },
      openHarness: (actionSignal) => openHarness({ journal: this.#journal, meter: this.#meter, signal: actionSignal }),
    });
  }

  async #claim(): Promise<void> {
    if (!(await this.#journal.claim())) throw new WriteRefusedError('lease');
    this.#record = { ...this.#record, attempt: this.#journal.lease?.fence ?? 1 };
  }

  async #end(
    state: 'completed' | 'failed' | 'cancelled',
    outcome: { result: JsonValue } | { error: RecordedError },
  ): Promise<void> {
    await this.#claim(); // one that was cancelled while it waited was not started
    const ending = { usage: this.#meter.total, ...outcome };
    const { progress, written } = writeEnd(this.#journal, this.#record, state, ending);
    this.#record = { ...this.#record, state, ...progress };
    await written;
  }

  #cancelledError(cause: unknown): RunCancelledError {
    const { reason } = this.#stop.signal;
    return new RunCancelledError({ runId: this.id, ...(typeof reason === 'string' && { reason }) }, { cause });
  }
}
