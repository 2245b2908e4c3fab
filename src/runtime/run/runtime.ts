import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { pino } from 'pino';
import { abortError } from '../../errors.ts';
import { SqliteStore } from '../../journal/sqlite/sqlite-store.ts';
import { type InstanceOwner, type Owner, type RunRow, runStates, type Store } from '../../journal/store.ts';
import { defaultStateDir } from '../../sandbox/state-dir.ts';
import {
  checkDispatch,
  checkInstanceId,
  type DispatchOptions,
  type DispatchRequest,
  dispatchArguments,
} from '../agent/dispatch.ts';
import { AgentInstance, type Receipt } from '../agent/instance.ts';
import { type AgentDefinition, checkModel, isAgent } from '../define/agent.ts';
import { Problems } from '../define/checks.ts';
import { discover } from '../define/discover.ts';
import { isWorkflow, type WorkflowDefinition } from '../define/workflow.ts';
import {
  AgentNotFoundError,
  InvalidRequestError,
  RunConflictError,
  RunNotFoundError,
  RuntimeUnavailableError,
  WorkflowAdmissionError,
  WorkflowNotFoundError,
} from '../errors.ts';
import type { RuntimeEvent } from '../events/event.ts';
import { type Log, loggerLog } from '../events/log.ts';
import { newId } from '../id.ts';
import type { Model } from '../model/model.ts';
import { Models } from '../model/providers.ts';
import { checkOptions } from '../options.ts';
import { docker } from '../sandbox/docker.ts';
import { canonicalJson, defaultMaxValueBytes } from '../schema/snapshot.ts';
import { currentWork, type Work } from './current-work.ts';
import { type InvokeArguments, type InvokeOptions, workflowInput } from './invoke.ts';
import { leaseMs, OwnerJournal } from './owner-journal.ts';
import {
  type Admitted,
  isFinal,
  type Progress,
  progressOf,
  type RunRecord,
  type RunState,
  recordOf,
} from './record.ts';
import { never } from './rest.ts';
import { RootHarnesses } from './root-harness.ts';
import { endedAttempts, Run, type RunHandle } from './run.ts';
import { checkRuntime, type RuntimeOptions } from './runtime-options.ts';
import { Slots } from './slots.ts';
import { StoredRun } from './stored-run.ts';

/** How often it is looked for work that nobody does. */
const takeUpMs = 15_000;
const pageSize = 256;
const dayMs = 24 * 60 * 60 * 1000;
/** How often it is looked for runs that are not to be kept any more. */
const removalMs = 60 * 60 * 1000;

/** What an observer gets besides an event: whose it is, of a run or of an agent instance. */
export interface ObserverContext {
  /** Of a run. */
  runId?: string;
  /** Of an agent instance: the id that the application chose. */
  instanceId?: string;
  /** Of an agent instance. */
  agentName?: string;
  /** Writes to the logger of the runtime, and makes no events. */
  log: Log;
}

/** A run that is to be under way here. */
interface RunStart {
  row: RunRow;
  workflow: WorkflowDefinition;
  /** In place of that of its agent. */
  model?: string | Model | undefined;
  isWithin: boolean;
}

/** Gets every event, in order. What it throws is logged; what it returns is not waited for. */
export type Observer = (event: RuntimeEvent, context: ObserverContext) => unknown;

/** Which runs are asked for: those that are all of it. */
export interface RunsQuery {
  /** Default: any */
  state?: RunState;
  /** By its name. Default: any */
  workflow?: string;
  /** The id of a run: only older ones. */
  after?: string;
  /** Default: 100, at most 1,000 */
  limit?: number;
}

/** Runs workflows and agents, and keeps what they did in its store. */
export class Runtime {
  readonly #workflows: Map<string, WorkflowDefinition>;
  readonly #agents: Map<string, AgentDefinition>;
  readonly #models: Models;
  readonly #log: Log;
  readonly #slots: Slots;
  readonly #storePath: string;
  /** Later processes have the store too. */
  readonly #isDurable: boolean;
  readonly #harnesses: RootHarnesses;
  readonly #recover: boolean;
  /** What is under way can go on in a later process. */
  readonly #canSuspend: boolean;
  readonly #runRetention: number;
  readonly #maxValueBytes: number;
  /** As which it claims. */
  readonly #claimant = newId('host');
  /** Those that are under way, or wait, in this process. */
  readonly #runs = new Map<string, Run>();
  /** What is being taken in: `close` has to wait for it. */
  readonly #admissions = new Set<Promise<unknown>>();
  /** Those that are being claimed here. */
  readonly #beginnings = new Map<string, Promise<Run | undefined>>();
  readonly #instances = new Map<string, AgentInstance>();
  readonly #observers = new Set<Observer>();
  #store: Promise<Store> | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #takingUp: NodeJS.Timeout | undefined;
  #takenUp: Promise<void> = Promise.resolve();
  #removal: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  /** Aborts when all has come to rest, so that no work takes it for a failure of what it waits for. */
  readonly #closed = new AbortController();

  constructor(options: RuntimeOptions) {
    checkRuntime(options);
    setMaxListeners(0, this.#closed.signal);
    this.#workflows = new Map(Object.entries(options.workflows ?? {}));
    this.#agents = new Map(Object.entries(options.agents ?? {}));
    const env = options.env ?? Object.freeze({ ...process.env });
    const logger =
      options.logger ?? pino({ level: process.env.BERTH_LOG ?? 'warn' }, pino.destination({ fd: 2, sync: true }));
    this.#models = new Models(options.models, env);
    this.#log = loggerLog(logger, this.#models.secrets);
    this.#slots = new Slots(options.concurrency ?? 16);
    this.#storePath = options.store ?? join(defaultStateDir(), 'runtime.db');
    this.#isDurable = this.#storePath !== ':memory:';
    this.#recover = options.recover ?? true;
    this.#canSuspend = this.#isDurable && this.#recover;
    this.#runRetention = options.runRetention ?? 30 * dayMs;
    this.#maxValueBytes = options.maxValueBytes ?? defaultMaxValueBytes;
    this.#harnesses = new RootHarnesses({
      env,
      models: this.#models,
      sandbox: options.sandbox ?? docker(),
      host: options.host,
      logger,
      log: this.#log,
      maxValueBytes: this.#maxValueBytes,
      isDurable: this.#isDurable,
      recover: this.#recover,
    });
  }

  /** One whose store is open. */
  static async open(options: RuntimeOptions): Promise<Runtime> {
    checkRuntime(options);
    const { discover: folder, agents = {}, workflows = {} } = options;
    const found = folder === undefined ? {} : await discover(folder, { agents, workflows });
    const runtime = new Runtime({ ...options, ...found });
    await runtime.#openStore();
    return runtime;
  }

  /**
   * Starts a run of a workflow; resolves when it is accepted, not when it has ended.
   * @throws {WorkflowNotFoundError} no workflow is registered under that name
   * @throws {WorkflowAdmissionError} the store failed, and nothing was started
   * @throws {WorkflowInputUnexpectedError} the workflow takes no input
   * @throws {WorkflowInputSerializationError} the input can't be kept as JSON
   * @throws {ActionInputValidationError} the input does not fit the schema
   * @throws {InvalidRequestError} an argument is not valid, or the input holds a secret that the runtime knows
   * @throws {RunConflictError} the id was used with another workflow, input or model
   * @throws {InvalidRequestError} an option is not known, or `id` is none
   * @throws {DefinitionError} `model` is none
   * @throws {InvalidModelError} or {ModelNotFoundError} `model` names none
   * @throws {RuntimeUnavailableError} the runtime is closing
   */
  async invoke(workflow: string, options?: InvokeOptions): Promise<RunHandle>;
  /**
   * As above, by the definition: the compiler then knows input and output. One that is not registered is, from now on, under
   * its own name.
   * @throws {InvalidRequestError} it has no name, or there is another workflow of that name
   * @throws all that `invoke` of a name throws
   */
  async invoke<Input, Output>(
    workflow: WorkflowDefinition<Input, Output>,
    ...rest: InvokeArguments<NoInfer<Input>>
  ): Promise<RunHandle<Output>>;
  async invoke(target: string | WorkflowDefinition, options: InvokeOptions = {}): Promise<RunHandle> {
    if (this.#closing) return this.#refused();
    checkOptions('invoke', options, { input: true, id: true, signal: true, model: true });
    if (options.model !== undefined) this.#checkModel(options.model);
    const { name, workflow } = this.#findWorkflow(target);
    const input = workflowInput(name, workflow, options.input, this.#maxValueBytes);
    if (this.#models.secrets.value(input) !== input) {
      // Masked, the work would get something else than it was given.
      throw new InvalidRequestError(
        'the input holds a secret that the runtime knows, and an input is kept: let the agent or the action read it from env',
      );
    }
    const { id = newId('run') } = options;
    if (typeof id !== 'string' || !/^[A-Za-z0-9_.-]{1,128}$/.test(id)) {
      throw new InvalidRequestError('the id of a run has letters, digits, _ . - and at most 128 of them');
    }
    const { signal, model } = options;
    if (signal?.aborted) throw abortError(signal.reason);
    const caller = this.#caller();
    const isWithin = caller !== undefined; // it must not wait for a slot: whoever may be waiting for it has one
    const admitted: Admitted = {
      createdAt: new Date().toISOString(),
      ...(input !== undefined && { input }),
      ...(caller?.runId !== undefined && { parent: caller.runId }),
      ...(model !== undefined && { model: typeof model === 'string' ? model : `${model.provider}/${model.id}` }),
    };
    return this.#admitting(async () => {
      const store = await this.#openStore();
      const { row, isNew } = await store
        .admitRun({ id, workflow: name, json: JSON.stringify(admitted) })
        .catch((cause) => Promise.reject(new WorkflowAdmissionError({ workflow: name }, { cause })));
      if (!isNew) return this.#sameRun(row, name, admitted);
      const run = await this.#begin(store, { row, workflow, model, isWithin });
      if (!run) return this.#storedRun(store, id); // another process was faster to take it up
      const cancel = () => void run.cancel(reasonText(signal?.reason));
      signal?.addEventListener('abort', cancel, { once: true });
      void run.settled.then(() => signal?.removeEventListener('abort', cancel));
      if (signal?.aborted) cancel(); // while it was taken in
      return run;
    });
  }

  /**
   * Puts a message, or data, into the inbox of an agent instance, which works on one at a time, in order.
   * @throws {AgentNotFoundError} no agent is registered under that name
   * @throws {InvalidRequestError} an argument is not valid, or `input` can't be kept as JSON
   * @throws {SubmissionConflictError} the key was used with another payload
   * @throws {RuntimeUnavailableError} the runtime is closing
   */
  async dispatch(agent: string | AgentDefinition, options: DispatchOptions): Promise<Receipt>;
  /** As above, with both arguments in one. */
  async dispatch(request: DispatchRequest): Promise<Receipt>;
  async dispatch(first: string | AgentDefinition | DispatchRequest, second?: DispatchOptions): Promise<Receipt> {
    if (this.#closing) return this.#refused();
    const [target, options] = dispatchArguments(first, second);
    const { name, agent } = this.#findAgent(target);
    const { id, payload, key } = checkDispatch(options, this.#maxValueBytes);
    const isWithin = this.#caller() !== undefined;
    return this.#admitting(async () => {
      const instance = this.#instance(await this.#openStore(), agent, { agent: name, instance: id });
      return instance.submit(this.#models.secrets.value(payload), { key, isWithin });
    });
  }

  /**
   * Aborts all messages of an agent instance that are not settled: the one that is worked on stops, those that wait are
   * settled without a model being asked. An answer that is complete stays. The instance can be used on.
   * @param options.reason - told by the `SubmissionAbortedError` of each. Default: that the instance was aborted
   * @returns whether there was any, when all are settled
   * @throws {AgentNotFoundError} no agent is registered under that name
   * @throws {InvalidRequestError} an argument is not valid, or another process has the instance
   */
  async abort(target: string | AgentDefinition, options: { instance: string; reason?: string }): Promise<boolean> {
    checkOptions('abort', options, { instance: true, reason: true });
    const { reason = 'The instance was aborted.' } = options;
    checkInstanceId(options.instance);
    if (typeof reason !== 'string') throw new InvalidRequestError('the reason of abort is a text');
    const { name, agent } = this.#findAgent(target);
    const owner = { agent: name, instance: options.instance };
    // Also what earlier processes have left, and nobody has taken up yet.
    if (!this.#closing) await this.#admitting(() => this.#takeUpInstance(agent, owner));
    const instance = this.#instances.get(JSON.stringify([name, options.instance]));
    return (await instance?.abort(reason)) ?? false;
  }

  /**
   * Calls `observer` with every event from now on.
   * @returns ends it
   * @throws {InvalidRequestError} it is no function
   */
  observe(observer: Observer): () => void {
    if (typeof observer !== 'function') throw new InvalidRequestError('an observer is a function');
    const own: Observer = (event, context) => observer(event, context); // one that observes twice is told twice
    this.#observers.add(own);
    return () => this.#observers.delete(own);
  }

  /**
   * Records of runs, newest first.
   * @throws {RunNotFoundError} there is no run of the id `after`
   * @throws {InvalidRequestError} the query is not valid
   */
  async runs(query: RunsQuery = {}): Promise<RunRecord[]> {
    checkOptions('runs', query, { state: true, workflow: true, after: true, limit: true });
    const { state, workflow, after, limit = 100 } = query;
    if (!Number.isSafeInteger(limit) || limit < 1) throw new InvalidRequestError('limit must be a whole number over 0');
    for (const [name, value] of Object.entries({ state, workflow, after })) {
      if (value !== undefined && typeof value !== 'string') throw new InvalidRequestError(`${name} is a text`);
    }
    if (state !== undefined && !runStates.includes(state)) {
      throw new InvalidRequestError(`there is no state ${state} (there are ${runStates.join(', ')})`);
    }
    const store = await this.#openStore();
    const last = after === undefined ? undefined : await store.run(after);
    if (after !== undefined && !last) throw new RunNotFoundError({ runId: after });
    const rows = await store.runs({
      ...(state !== undefined && { state }),
      ...(workflow !== undefined && { workflow }),
      ...(last && { before: last.seq }),
      limit: Math.min(limit, 1_000),
    });
    // Of those under way here, also what is not written yet.
    return Promise.all(rows.map((row) => this.#runs.get(row.id)?.record() ?? recordOf(row)));
  }

  /**
   * A run that was invoked before, also by an earlier process.
   * @throws {RunNotFoundError} there is none of this id
   * @throws {InvalidRequestError} the id is no text
   */
  async run(id: string): Promise<RunHandle> {
    const live = this.#runs.get(id);
    if (live) return live;
    if (typeof id !== 'string') throw new InvalidRequestError('the id of a run is a text');
    const store = await this.#openStore();
    if (!(await store.run(id))) throw new RunNotFoundError({ runId: id });
    return this.#storedRun(store, id);
  }

  /**
   * Takes nothing more, and brings what runs to rest: it stops where a turn of a model, a command or a step has ended, and a
   * later runtime on the store goes on with it. Where there is none, with a store in memory or `recover: false`, it is
   * cancelled. Resolves when all of that is done.
   * @param options.timeoutMs - then also what is not at such a place stops, and goes on from the last one. Default: 30,000
   * @throws {InvalidRequestError} an option is not valid
   */
  async close(options: { timeoutMs?: number } = {}): Promise<void> {
    checkOptions('close', options, { timeoutMs: true });
    const { timeoutMs = 30_000 } = options;
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) throw new InvalidRequestError('timeoutMs is 0 or more');
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(timeoutMs: number): Promise<void> {
    clearInterval(this.#takingUp);
    await Promise.allSettled(this.#admissions);
    await this.#takenUp;
    await Promise.all([
      ...[...this.#runs.values()].map((run) =>
        this.#canSuspend ? run.suspend('closed', timeoutMs) : run.cancel('The runtime was closed.'),
      ),
      ...[...this.#instances.values()].map((instance) => instance.close(timeoutMs)),
    ]);
    this.#closed.abort(new RuntimeUnavailableError());
    await this.#harnesses.close();
    clearInterval(this.#renewal);
    clearInterval(this.#removal);
    await (await this.#store?.catch(() => undefined))?.close();
  }

  async #removeOldRuns(store: Store): Promise<void> {
    try {
      await store.removeRuns(new Date(Date.now() - this.#runRetention));
    } catch (error) {
      // Closed meanwhile: the next one that opens it goes on.
      if (!this.#closing) this.#log.warn('Runs whose time is over could not be removed.', { err: error });
    }
  }

  async #openStore(): Promise<Store> {
    this.#store ??= SqliteStore.open(this.#storePath);
    try {
      const store = await this.#store;
      this.#renewal ??= setInterval(() => void this.#renewLeases(store), leaseMs / 3).unref();
      if (this.#recover && !this.#takingUp && !this.#closing) {
        this.#takingUp = setInterval(() => this.#takeUp(store), takeUpMs).unref();
        this.#takeUp(store);
      }
      if (!this.#removal && this.#runRetention !== Number.POSITIVE_INFINITY) {
        this.#removal = setInterval(() => void this.#removeOldRuns(store), removalMs).unref();
        void this.#removeOldRuns(store);
      }
      return store;
    } catch (error) {
      this.#store = undefined; // it may be there the next time
      throw error;
    }
  }

  async #renewLeases(store: Store): Promise<void> {
    try {
      const atWork = [...this.#runs.values(), ...this.#instances.values()];
      const leases = atWork.flatMap(({ lease }) => lease ?? []);
      const held = new Set(await store.renew(leases, leaseMs));
      // Whoever has it now goes on with it. Here it stops at once, and not with its next write.
      for (const one of atWork) if (one.lease && leases.includes(one.lease) && !held.has(one.lease)) one.lost();
    } catch (error) {
      this.#log.warn('The leases of what runs could not be renewed.', { err: error });
    }
  }

  /** Takes something in. `close` waits until that is done, and then ends it. */
  async #admitting<Result>(work: () => Promise<Result>): Promise<Result> {
    const admission = work();
    this.#admissions.add(admission);
    try {
      return await admission;
    } finally {
      this.#admissions.delete(admission);
    }
  }

  /** Starts a run, or goes on with it, once at a time. @returns `undefined`: somebody else has it, or it has ended */
  #begin(store: Store, start: RunStart): Promise<Run | undefined> {
    const { id } = start.row;
    const beginning =
      this.#beginnings.get(id) ?? this.#claimRun(store, start).finally(() => this.#beginnings.delete(id));
    this.#beginnings.set(id, beginning);
    return beginning;
  }

  async #claimRun(store: Store, start: RunStart): Promise<Run | undefined> {
    const { row, workflow, model, isWithin } = start;
    const { id } = row;
    const journal: OwnerJournal = this.#journal(store, { run: id }, (error) => this.#runs.get(id)?.fail(error));
    // Also while it waits for its turn, so that others leave it.
    if (!(await journal.claim())) return undefined;
    const run = new Run({
      row: (await store.run(id)) ?? row,
      workflow,
      journal,
      admit: (work, abort) => (isWithin ? this.#do(work, id) : this.#slots.run(() => this.#do(work, id), abort)),
      openHarness: this.#harnesses.of(workflow.agent, model),
      stored: () => this.#storedRun(store, id),
      canSuspend: this.#canSuspend,
    });
    this.#runs.set(id, run);
    void run.settled.then(() => {
      if (this.#runs.get(id) === run) this.#runs.delete(id);
    });
    return run;
  }

  /** Looks for work that nobody does, and goes on with what this runtime knows the definition of. */
  #takeUp(store: Store): void {
    this.#takenUp = this.#takenUp
      .then(() => this.#takeUpAll(store))
      .catch((error: unknown) => {
        if (!this.#closing) this.#log.warn('It could not be looked for interrupted work.', { err: error });
      });
  }

  async #takeUpAll(store: Store): Promise<void> {
    for (let after = 0; !this.#closing; ) {
      const page = await store.unowned({ after, limit: pageSize });
      for (const { seq, owner, workflow } of page) {
        after = seq;
        if (this.#closing) return;
        if ('agent' in owner) {
          const agent = this.#agents.get(owner.agent);
          if (agent) await this.#instance(store, agent, owner).takeUp();
        } else if (!this.#runs.has(owner.run)) {
          if (this.#workflows.has(workflow ?? '')) await this.#takeUpRun(store, owner.run);
          else await this.#leaveSuspended(store, owner.run);
        }
      }
      if (page.length < pageSize) return;
    }
  }

  /** @throws {WorkflowNotFoundError} */
  async #takeUpRun(store: Store, id: string): Promise<void> {
    const row = await store.run(id);
    if (!row || isFinal(row.state) || this.#runs.has(id)) return;
    const workflow = this.#workflows.get(row.workflow);
    if (!workflow) throw new WorkflowNotFoundError({ name: row.workflow });
    await this.#begin(store, { row, workflow, model: recordOf(row).model, isWithin: false });
  }

  async #takeUpInstance(agent: AgentDefinition, owner: InstanceOwner): Promise<void> {
    const store = await this.#openStore();
    const left = await store.submissions(owner, { unsettled: true, after: 0, limit: 1 });
    if (left.length > 0) await this.#instance(store, agent, owner).takeUp();
  }

  /** One that was interrupted, and whose workflow is not known here: whoever knows it goes on with it. */
  async #leaveSuspended(store: Store, id: string): Promise<void> {
    const row = await store.run(id);
    if (row?.state !== 'running') return;
    const journal = this.#journal(store, { run: id });
    if (!(await journal.claim())) return;
    const before = progressOf(row);
    const attempts = before.attempts && (await endedAttempts(before.attempts, before, journal));
    const progress = JSON.stringify({ ...before, ...(attempts && { attempts }), isSuspended: true } satisfies Progress);
    journal.emit({ type: 'run_suspend', reason: 'definition' });
    journal.put({ kind: 'run', state: 'suspended', progress, wakeAt: 0 });
    await journal.close();
  }

  async #sameRun(row: RunRow, workflowName: string, { input, model }: Admitted): Promise<RunHandle> {
    const known = recordOf(row);
    const isSame =
      known.workflowName === workflowName &&
      known.model === model &&
      canonicalJson(known.input) === canonicalJson(input);
    if (!isSame) throw new RunConflictError({ runId: row.id });
    return this.run(row.id);
  }

  #instance(store: Store, agent: AgentDefinition, owner: InstanceOwner): AgentInstance {
    const key = JSON.stringify([owner.agent, owner.instance]);
    let instance = this.#instances.get(key);
    if (!instance) {
      instance = new AgentInstance({
        agent,
        owner,
        store,
        isDurable: this.#isDurable,
        canSuspend: this.#canSuspend,
        openJournal: (onFailure) => this.#journal(store, owner, onFailure),
        openHarness: this.#harnesses.of(agent),
        admit: (work, signal, urgent) => this.#slots.run(() => this.#do(work), signal, urgent),
        closed: this.#closed.signal,
      });
      this.#instances.set(key, instance);
    }
    return instance;
  }

  #storedRun(store: Store, id: string): StoredRun {
    return new StoredRun(id, this.#journal(store, { run: id }), {
      live: async () => (await this.#beginnings.get(id)) ?? this.#runs.get(id),
      isKnown: (workflow) => this.#workflows.has(workflow),
      takeUp: () =>
        this.#admitting(() => {
          if (this.#closing) throw new RuntimeUnavailableError();
          return this.#takeUpRun(store, id);
        }),
      closed: this.#closed.signal,
      maxValueBytes: this.#maxValueBytes,
    });
  }

  /** The work of this runtime that the code which asks is a part of. */
  #caller(): Work | undefined {
    const work = currentWork.getStore();
    return work?.runtime === this && work.underWay ? work : undefined;
  }

  /** What asks for more while the runtime is closing: work that goes on later asks again then, and must not fail of it. */
  #refused(): Promise<never> {
    return this.#canSuspend && this.#caller() ? never() : Promise.reject(new RuntimeUnavailableError());
  }

  /** Does work, which what it calls knows itself to be a part of. */
  async #do<Result>(work: () => Promise<Result>, runId?: string): Promise<Result> {
    const current: Work = { runtime: this, underWay: true, ...(runId !== undefined && { runId }) };
    try {
      return await currentWork.run(current, work);
    } finally {
      current.underWay = false;
    }
  }

  #findWorkflow(target: string | WorkflowDefinition): { name: string; workflow: WorkflowDefinition } {
    if (typeof target === 'string') {
      const workflow = this.#workflows.get(target);
      if (!workflow) throw new WorkflowNotFoundError({ name: target });
      return { name: target, workflow };
    }
    if (!isWorkflow(target)) throw new InvalidRequestError('a workflow is made by defineWorkflow, not a copy');
    const registered = [...this.#workflows].find(([, workflow]) => workflow === target)?.[0];
    return { name: this.#known(this.#workflows, target, registered, 'workflow'), workflow: target };
  }

  #findAgent(target: string | AgentDefinition): { name: string; agent: AgentDefinition } {
    if (typeof target === 'string') {
      const agent = this.#agents.get(target);
      if (!agent) throw new AgentNotFoundError({ name: target });
      return { name: target, agent };
    }
    if (!isAgent(target)) throw new InvalidRequestError('an agent is made by defineAgent, not a copy');
    const registered = [...this.#agents].find(([, agent]) => agent === target)?.[0];
    return { name: this.#known(this.#agents, target, registered, 'agent'), agent: target };
  }

  /** The name of a definition; one that is not registered is, from now on, under its own. */
  #known<Definition extends { readonly name?: string }>(
    definitions: Map<string, Definition>,
    definition: Definition,
    registered: string | undefined,
    kind: string,
  ): string {
    const name = registered ?? definition.name;
    if (name === undefined) throw new InvalidRequestError(`the ${kind} has no name: give it one, or register it`);
    const other = definitions.get(name);
    if (other !== undefined && other !== definition) {
      throw new InvalidRequestError(`there is another ${kind} ${name}: give this one a name of its own`);
    }
    definitions.set(name, definition);
    // What was interrupted of it can go on now.
    if (this.#recover && other === undefined)
      void this.#openStore().then(
        (store) => this.#takeUp(store),
        () => {},
      );
    return name;
  }

  #checkModel(model: string | Model): void {
    const problems = new Problems('The call of invoke');
    checkModel(problems, model, 'model');
    problems.throwIfAny();
    this.#models.resolve(model);
  }

  /** @param onFailure - ends the work: nothing of it can be recorded any more */
  #journal(store: Store, owner: Owner, onFailure: (error: unknown) => void = () => {}): OwnerJournal {
    const names = 'run' in owner ? { runId: owner.run } : { instanceId: owner.instance, agentName: owner.agent };
    const observed = { ...names, log: this.#log };
    return new OwnerJournal({
      owner,
      store,
      masker: this.#models.secrets,
      host: this.#claimant,
      isObserved: () => this.#observers.size > 0,
      deliver: (event) => {
        // A copy, without those that come meanwhile; who has ended meanwhile is not told.
        for (const observer of [...this.#observers]) {
          if (this.#observers.has(observer)) this.#tell(observer, event, observed);
        }
      },
      onFailure: (error) => {
        this.#log.error('What happened could not be recorded, so this work stops.', { err: error, owner });
        onFailure(error);
      },
    });
  }

  #tell(observer: Observer, event: RuntimeEvent, context: ObserverContext): void {
    const failed = (error: unknown) => this.#log.error('An observer failed.', { err: error });
    try {
      const returned = observer(event, context);
      if (returned instanceof Promise) returned.catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

/**
 * Opens a runtime.
 * @throws {DefinitionError} an option is not known, or not of its type, or a file that `discover` finds can't be registered
 * @throws {StoreError} the store can't be opened; {StoreVersionError} it is of a newer version of Berth
 * @example
 * const runtime = await createRuntime();
 * const run = await runtime.invoke(fixBug, { input: { file: 'src/cart.ts' } });
 * console.log(await run.result());
 * await runtime.close();
 */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  return Runtime.open(options);
}

function reasonText(reason: unknown): string | undefined {
  if (reason instanceof Error) return reason.message;
  return typeof reason === 'string' ? reason : undefined;
}
