import { abortError } from '../../errors.ts';
import { executeAction } from '../action/execute.ts';
import type { WorkflowDefinition } from '../define/workflow.ts';
import { RunCancelledError } from '../errors.ts';
import type { Emit, RecordedError, RuntimeEvent } from '../events/event.ts';
import type { EventLog } from '../events/event-log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import { graceMs } from '../harness/grace.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { checkOptions } from '../options.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import type { RunRecord, RunState } from './record.ts';
import type { Admit } from './slots.ts';

/** Opens the root harness of a run: agent first, then its sandbox. */
export type OpenRootHarness = (root: { emit: Emit; meter: UsageMeter; signal: AbortSignal }) => Promise<OpenHarness>;

/** One run of a workflow: what `invoke` gives. */
export interface RunHandle<Output = unknown> {
  readonly id: string;
  /** The same as `id`. */
  readonly runId: string;
  /** What is known of it now: a copy. */
  record(): Promise<RunRecord>;
  /**
   * The validated output.
   * @throws the error of the run; {RunCancelledError} it was cancelled
   */
  result(): Promise<Output>;
  /** The events with a number over `after`, from the first one on when it is left out. Ends with the run. */
  events(options?: { after?: number; signal?: AbortSignal }): AsyncIterable<RuntimeEvent>;
  /** Stops the run; resolves when all that it started has ended. A run that has ended is left as it is. */
  cancel(reason?: string): Promise<void>;
}

export class Run implements RunHandle<JsonValue> {
  readonly id: string;
  readonly workflow: WorkflowDefinition;
  readonly workflowName: string;
  readonly #log: EventLog;
  readonly #stop = new AbortController();
  readonly #meter = new UsageMeter();
  readonly #ended: Promise<JsonValue>;
  #record: RunRecord;

  constructor(options: {
    id: string;
    workflowName: string;
    workflow: WorkflowDefinition;
    input: JsonValue | undefined;
    log: EventLog;
    admit: Admit;
    openHarness: OpenRootHarness;
    /** The run that it was started within. */
    parent?: string;
  }) {
    const { id, workflowName, workflow, input, log, parent } = options;
    this.id = id;
    this.workflow = workflow;
    this.workflowName = workflowName;
    this.#log = log;
    this.#record = {
      runId: id,
      workflowName,
      state: 'queued',
      createdAt: new Date().toISOString(),
      usage: this.#meter.total,
      ...(input !== undefined && { input }),
      ...(parent !== undefined && { parent }),
    };
    this.#ended = this.#start(options);
    this.#ended.catch(() => {}); // who wants the error awaits result()
  }

  get runId(): string {
    return this.id;
  }

  /** Resolves at the end, whatever it is. */
  get settled(): Promise<void> {
    return this.#ended.then(
      () => {},
      () => {},
    );
  }

  get state(): RunState {
    return this.#record.state;
  }

  get input(): JsonValue | undefined {
    return this.#record.input;
  }

  async record(): Promise<RunRecord> {
    return structuredClone({ ...this.#record, usage: this.#meter.total });
  }

  result(): Promise<JsonValue> {
    return this.#ended;
  }

  events(options: { after?: number; signal?: AbortSignal } = {}): AsyncIterable<RuntimeEvent> {
    checkOptions('events', options, { after: true, signal: true });
    const { after = -1, signal } = options;
    return this.#log.follow(after, signal);
  }

  async cancel(reason?: string): Promise<void> {
    this.#stop.abort(reason);
    await this.settled;
  }

  async #start({ admit, openHarness }: ConstructorParameters<typeof Run>[0]): Promise<JsonValue> {
    await Promise.resolve(); // whoever sees the first event can find the run
    const { signal } = this.#stop;
    let result: JsonValue;
    try {
      result = await admit(() => this.#run(openHarness), signal);
      // Asked for before the end is written, however late: then what the work gave is not kept.
      if (signal.aborted) throw abortError(signal.reason);
    } catch (cause) {
      const error = signal.aborted ? this.#cancelledError(cause) : cause;
      this.#end(signal.aborted ? 'cancelled' : 'failed', { error: recordedError(error) });
      throw error;
    }
    this.#end('completed', { result: structuredClone(result) }); // what is delivered is the caller's own
    return result;
  }

  async #run(openHarness: OpenRootHarness): Promise<JsonValue> {
    const { signal } = this.#stop;
    if (signal.aborted) throw abortError(signal.reason);
    const startedAt = new Date().toISOString();
    this.#record = { ...this.#record, state: 'running', startedAt };
    const { workflowName } = this;
    const { input } = this.#record;
    this.#log.emit({ type: 'run_start', workflowName, startedAt, ...(input !== undefined && { input }) });
    return executeAction({
      action: this.workflow.action,
      input: structuredClone(input), // what `run` does to its input must not show in the record
      ignoreInput: false,
      signal,
      graceMs: graceMs(0),
      logAttributes: { action: this.workflow.action.name },
      openHarness: (actionSignal) => openHarness({ emit: this.#log.emit, meter: this.#meter, signal: actionSignal }),
    });
  }

  #end(state: 'completed' | 'failed' | 'cancelled', outcome: { result: JsonValue } | { error: RecordedError }): void {
    const endedAt = new Date();
    const { createdAt, startedAt = createdAt } = this.#record;
    const ending = { durationMs: endedAt.getTime() - Date.parse(startedAt), ...outcome };
    this.#record = { ...this.#record, state, endedAt: endedAt.toISOString(), ...ending };
    this.#log.emit({ type: 'run_end', state, isError: state !== 'completed', usage: this.#meter.total, ...ending });
    this.#log.close();
  }

  #cancelledError(cause: unknown): RunCancelledError {
    const { reason } = this.#stop.signal;
    return new RunCancelledError({ runId: this.id, ...(typeof reason === 'string' && { reason }) }, { cause });
  }
}
