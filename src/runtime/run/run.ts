import { abortError } from '../../errors.ts';
import { WriteRefusedError } from '../../journal/errors.ts';
import type { Lease, RunRow } from '../../journal/store.ts';
import { executeAction } from '../action/execute.ts';
import { defaultMaxAttempts } from '../define/agent.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import { RunCancelledError, SubmissionRetryExhaustedError } from '../errors.ts';
import type { RecordedError, RuntimeEvent } from '../events/event.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import { graceMs } from '../harness/grace.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { writeEnd } from './end.ts';
import { Mailbox } from './mailbox.ts';
import type { OwnerJournal } from './owner-journal.ts';
import { type Attempts, type Progress, progressOf, type RunRecord, recordOf } from './record.ts';
import { never, Rest, Suspension } from './rest.ts';
import type { Admit } from './slots.ts';
import { checkEvents } from './stored-events.ts';
import type { StoredRun } from './stored-run.ts';

/** Opens the root harness of a run: agent first, then its sandbox. */
export type OpenRootHarness = (root: {
  journal: OwnerJournal;
  meter: UsageMeter;
  rest: Rest;
  mailbox: Mailbox | undefined;
  /** An earlier attempt has left something in the sandbox. */
  resume: boolean;
  /** The files are put in place when the work is good. Default: false */
  isTransaction?: boolean;
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
   * The validated output, whatever process gives it. Of a run that is suspended it comes when somebody has gone on with it.
   * @throws the error of the run; {RunCancelledError} it was cancelled; {StoreError} its end could not be recorded;
   * {RuntimeUnavailableError} this runtime was closed meanwhile: the run goes on in a later one
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
  /**
   * Goes on with a run that is suspended, or was interrupted, in this process; resolves when it is under way. Without effect
   * for one that is under way or has ended.
   * @throws {WorkflowNotFoundError} this runtime does not know its workflow
   * @throws {RuntimeUnavailableError} the runtime is closing
   */
  resume(): Promise<void>;
  /**
   * Gives something to the run, which `harness.waitFor` of the same name takes, whenever it is called. Resolves when it is
   * stored.
   * @param name - 1 to 128 characters
   * @param data - any JSON value
   * @param options.key - a second message of this run with the same key is dropped. Default: none
   * @throws {InvalidRequestError} an argument is not valid, or the run has ended
   */
  send(name: string, data: unknown, options?: { key?: string }): Promise<void>;
}

export class Run implements RunHandle<JsonValue> {
  readonly id: string;
  readonly workflow: WorkflowDefinition;
  readonly #journal: OwnerJournal;
  readonly #stored: () => StoredRun;
  readonly #stop = new AbortController();
  readonly #meter = new UsageMeter();
  readonly #mailbox: Mailbox;
  readonly #rest: Rest;
  /** What the attempts before this one have left. */
  readonly #before: Progress;
  readonly #suspended: Promise<void>;
  readonly #ended: Promise<JsonValue>;
  #result: Promise<JsonValue> | undefined;
  #tellSuspended: () => void = () => {};
  #harness: OpenHarness | undefined;
  #record: RunRecord;
  /** Left out until it is started. */
  #attempts: Attempts | undefined;
  #isEnding = false;
  #suspending: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: {
    /** As it is stored. */
    row: RunRow;
    workflow: WorkflowDefinition;
    journal: OwnerJournal;
    admit: Admit;
    openHarness: OpenRootHarness;
    /** The run when it is no longer under way here. */
    stored: () => StoredRun;
    /** It can go on later, with its sandbox. */
    canSuspend: boolean;
  }) {
    const { row, workflow, journal } = options;
    this.id = row.id;
    this.workflow = workflow;
    this.#journal = journal;
    this.#stored = options.stored;
    this.#record = recordOf(row);
    this.#before = progressOf(row);
    this.#mailbox = new Mailbox(journal.store, row.id);
    this.#rest = new Rest(options.canSuspend ? () => void this.suspend('waiting', 0) : undefined);
    this.#suspended = new Promise((resolve) => {
      this.#tellSuspended = resolve;
    });
    this.#ended = this.#start(options);
  }

  get runId(): string {
    return this.id;
  }

  /** The right to write for it, while it is had. */
  get lease(): Lease | undefined {
    return this.#journal.lease;
  }

  /** Resolves when it has ended, whatever the end is, or is suspended. */
  get settled(): Promise<void> {
    const ended = this.#ended.then(
      () => {},
      () => {},
    );
    return Promise.race([ended, this.#suspended]);
  }

  async record(): Promise<RunRecord> {
    if (this.#rest.over) return this.#stored().record();
    return structuredClone({ ...this.#record, usage: this.#meter.total });
  }

  result(): Promise<JsonValue> {
    // Not before somebody asks: to wait for a run that is suspended is to look for its end again and again.
    this.#result ??= Promise.race([this.#ended, this.#suspended.then(() => this.#stored().result())]);
    this.#result.catch(() => {}); // who wants the error awaits it
    return this.#result;
  }

  events(options: { after?: number; signal?: AbortSignal } = {}): AsyncIterable<RuntimeEvent> {
    checkEvents(options);
    return this.#events(options);
  }

  async cancel(reason?: string): Promise<void> {
    if (this.#rest.over) {
      await this.settled; // until then it is still known as this one
      return this.#stored().cancel(reason);
    }
    if (this.#attempts && !this.#isEnding && !this.#stop.signal.aborted) {
      // Also if this process dies before it has ended.
      this.#put('running', { cancelled: { ...(reason !== undefined && { reason }) } });
    }
    this.#stop.abort(reason);
    await this.settled;
  }

  async resume(): Promise<void> {
    if (!this.#rest.over) return;
    await this.settled; // until then it is still known as this one
    await this.#stored().resume();
  }

  send(name: string, data: unknown, options?: { key?: string }): Promise<void> {
    return this.#stored().send(name, data, options);
  }

  /** Another process has it now. */
  lost(): void {
    this.#journal.lost();
  }

  /** Nothing of it can be recorded any more: it stops. Its result is this error, or what another process makes of it. */
  fail(error: unknown): void {
    if (this.#rest.over) return; // it goes on from what is recorded
    if (!(error instanceof WriteRefusedError) || this.#isEnding) {
      this.#stop.abort(error);
      return;
    }
    this.#rest.end('left');
    void this.#letGo();
  }

  /**
   * Lets it go on later: when a turn of a model, a command or a step that is under way has ended, at the latest after
   * `timeoutMs`.
   */
  suspend(reason: 'closed' | 'waiting', timeoutMs: number): Promise<void> {
    this.#suspending ??= this.#suspend(reason, timeoutMs);
    return this.#suspending;
  }

  async #suspend(reason: 'closed' | 'waiting', timeoutMs: number): Promise<void> {
    const isBegun = this.#attempts !== undefined;
    if (isBegun) await this.#rest.ask(timeoutMs);
    if (this.#isEnding || this.#stop.signal.aborted) return this.settled;
    const { wakeAt, awaited } = this.#rest;
    this.#isClosed = reason === 'closed';
    this.#rest.end('suspended');
    const { store } = this.#journal;
    try {
      if (isBegun && this.#attempts) {
        this.#journal.emit({ type: 'run_suspend', reason });
        const { count, fence, begunAt, spentMs } = this.#attempts;
        // One that was brought to rest was not interrupted: it does not count.
        this.#attempts = { count: count - 1, fence, begunAt, spentMs: spentMs + Date.now() - begunAt };
        // Beside a wait there may be code that was at work on its own: of a closed one that is begun again at once.
        this.#put('suspended', {}, reason === 'closed' ? 0 : wakeAt);
      }
      await this.#journal.close();
      if (await this.#mailbox.has(awaited)) await store.wake(this.id); // what was sent when it was not yet suspended
    } catch {
      // It was logged. The lease ends by itself, and then it goes on from what is recorded.
    }
    if (!isBegun && this.lease) await store.release(this.lease).catch(() => {});
    await this.#letGo();
  }

  /** Leaves the sandbox as it is to whoever goes on. */
  async #letGo(): Promise<void> {
    await this.#harness?.close(); // one that is still being opened is closed by whoever opens it
    this.#stop.abort(new Suspension());
    this.#tellSuspended();
  }

  async *#events({ after = -1, signal }: { after?: number; signal?: AbortSignal }) {
    let seen = after;
    try {
      for await (const event of this.#journal.follow(after, signal)) {
        seen = event.eventIndex;
        yield event;
      }
    } catch (error) {
      if (!(error instanceof WriteRefusedError)) throw error; // another process tells of the rest
    }
    if (!this.#rest.over || this.#isClosed) return;
    yield* this.#stored().events({ after: seen, ...(signal && { signal }) });
  }

  async #start({ admit, openHarness }: ConstructorParameters<typeof Run>[0]): Promise<JsonValue> {
    const { signal } = this.#stop;
    try {
      let result: JsonValue | undefined;
      try {
        const work = () => Promise.race([this.#run(openHarness), this.#suspended.then(() => undefined)]);
        result = await admit(work, signal);
        if (this.#rest.over || result === undefined) return await never();
        // Asked for before the end is written, however late: then what the work gave is not kept.
        if (signal.aborted) throw abortError(signal.reason);
      } catch (cause) {
        if (this.#rest.over) return await never();
        if (this.#journal.failure) throw this.#journal.failure.error;
        if (this.#before.cancelled) this.#stop.abort(this.#before.cancelled.reason); // whatever else there is
        const error = signal.aborted ? this.#cancelledError(cause) : cause;
        await this.#end(signal.aborted ? 'cancelled' : 'failed', { error: recordedError(error) });
        throw error;
      }
      await this.#end('completed', { result: structuredClone(result) }); // what is delivered is the caller's own
      return result;
    } catch (error) {
      if (!(error instanceof WriteRefusedError)) throw error;
      // Somebody else has it, or has ended it: what is recorded counts.
      const stored = this.#stored();
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
    const isFirst = this.#before.startedAt === undefined;
    const { startedAt = new Date().toISOString() } = this.#before;
    this.#attempts = await this.#nextAttempt();
    this.#record = { ...this.#record, state: 'running', startedAt };
    const { workflowName, input, attempt } = this.#record;
    this.#put('running');
    if (isFirst) {
      this.#journal.emit({ type: 'run_start', workflowName, startedAt, ...(input !== undefined && { input }) });
    } else this.#journal.emit({ type: 'run_resume', attempt });
    await this.#journal.flush();
    const { count: attempts, spentMs } = this.#attempts;
    return executeAction({
      action: this.workflow.action,
      input: structuredClone(input), // what `run` does to its input must not show in the record
      ignoreInput: false,
      signal,
      spentMs,
      graceMs: graceMs(0),
      logAttributes: { action: this.workflow.action.name },
      openHarness: async (actionSignal) => {
        this.#harness = await openHarness({
          journal: this.#journal,
          meter: this.#meter,
          rest: this.#rest,
          mailbox: this.#mailbox,
          resume: !isFirst && this.#journal.recorded.has(''),
          isTransaction: this.workflow.action.files === 'transaction',
          signal: actionSignal,
        });
        const { maxAttempts = defaultMaxAttempts } = this.#harness.parts.agent.durability;
        if (attempts > maxAttempts) this.#rest.spend(new SubmissionRetryExhaustedError({ attemptCount: maxAttempts }));
        // The sandbox was opened for its end.
        if (this.#before.cancelled) this.#stop.abort(this.#before.cancelled.reason);
        return this.#harness;
      },
    });
  }

  async #claim(): Promise<void> {
    if (!(await this.#journal.claim())) throw new WriteRefusedError('lease');
    this.#record = { ...this.#record, attempt: this.#journal.lease?.fence ?? 1 };
  }

  async #nextAttempt(): Promise<Attempts> {
    const { attempts: last } = this.#before;
    const head = { fence: this.#journal.lease?.fence ?? 1, begunAt: Date.now() };
    if (!last) return { ...head, count: 1, spentMs: 0 };
    const hasNewStep = this.#journal.recorded.lastProgress >= last.fence;
    const { spentMs } = await endedAttempts(last, this.#before, this.#journal);
    return { ...head, count: (hasNewStep ? 0 : last.count) + 1, spentMs };
  }

  #put(state: 'running' | 'suspended', more: Partial<Progress> = {}, wakeAt?: number): void {
    const { startedAt } = this.#record;
    const progress = JSON.stringify({
      ...(startedAt !== undefined && { startedAt }),
      usage: this.#meter.total,
      ...(this.#attempts && { attempts: this.#attempts }),
      ...(state === 'suspended' && { isSuspended: true }),
      ...more,
    } satisfies Progress);
    this.#journal.put(
      state === 'running'
        ? { kind: 'run', state, progress }
        : { kind: 'run', state, progress, ...(wakeAt !== undefined && { wakeAt }) },
    );
  }

  async #end(
    state: 'completed' | 'failed' | 'cancelled',
    outcome: { result: JsonValue } | { error: RecordedError },
  ): Promise<void> {
    this.#isEnding = true;
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

/** With the time of the last one: where it was suspended that is known, where it was interrupted it is of its last event. */
export async function endedAttempts(
  attempts: Attempts,
  { isSuspended = false }: Progress,
  { store, owner, nextIndex }: OwnerJournal,
): Promise<Attempts> {
  if (isSuspended) return attempts;
  const [last] = await store.events(owner, { after: nextIndex - 2, limit: 1 });
  const endedAt = last ? Date.parse((JSON.parse(last.json) as RuntimeEvent).timestamp) : Date.now(); // it was written here
  return { ...attempts, spentMs: attempts.spentMs + endedAt - attempts.begunAt };
}
