import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { abortError } from '../../errors.ts';
import { SqliteStore } from '../../journal/sqlite/sqlite-store.ts';
import type { InstanceOwner, Owner, RunRow, Store } from '../../journal/store.ts';
import { SandboxHost } from '../../sandbox/index.ts';
import { defaultStateDir } from '../../sandbox/state-dir.ts';
import { actionInput } from '../action/execute.ts';
import { AgentInstance, type Payload, type Receipt } from '../agent/instance.ts';
import type { IsOptional } from '../define/action.ts';
import { type AgentDefinition, checkFactory, checkModel, isAgent, resolveAgent } from '../define/agent.ts';
import { Problems } from '../define/checks.ts';
import { discover } from '../define/discover.ts';
import { agentNamePattern } from '../define/names.ts';
import { isWorkflow, type WorkflowDefinition } from '../define/workflow.ts';
import {
  AgentNotFoundError,
  InvalidRequestError,
  RunConflictError,
  RunNotFoundError,
  RuntimeUnavailableError,
  WorkflowInputSerializationError,
  WorkflowInputUnexpectedError,
  WorkflowNotFoundError,
} from '../errors.ts';
import type { RuntimeEvent } from '../events/event.ts';
import { type Log, loggerLog } from '../events/log.ts';
import { type HarnessParts, OpenHarness } from '../harness/open-harness.ts';
import { newId } from '../id.ts';
import { addMcpSecrets } from '../mcp/options.ts';
import type { ImagePart, Model } from '../model/model.ts';
import { type ModelSource, Models } from '../model/providers.ts';
import { checkOptions } from '../options.ts';
import { docker } from '../sandbox/docker.ts';
import type { SandboxEnv, SandboxFactory } from '../sandbox/env.ts';
import { pathText } from '../schema/path.ts';
import { canonicalJson, defaultMaxValueBytes, type JsonValue, jsonSnapshot, NotJson } from '../schema/snapshot.ts';
import { keptConversations } from '../session/conversation.ts';
import { checkImages } from '../session/images.ts';
import { withSubagents } from '../subagents/subagent.ts';
import { SandboxTools } from '../tools/tool-environment.ts';
import { currentWork, type Work } from './current-work.ts';
import { leaseMs, OwnerJournal } from './owner-journal.ts';
import { type Admitted, type RunRecord, type RunState, recordOf } from './record.ts';
import { type OpenRootHarness, Run, type RunHandle } from './run.ts';
import { Slots } from './slots.ts';
import { Steps } from './step.ts';
import { StoredRun } from './stored-run.ts';

const inMemory = ':memory:';
const dayMs = 24 * 60 * 60 * 1000;
/** How often it is looked for runs that are not to be kept any more. */
const removalMs = 60 * 60 * 1000;

/** Options of `createRuntime`. One that it does not have is refused. */
export interface RuntimeOptions {
  /** Makes the containers of `docker()` sandboxes. Default: one that is opened when it is first needed */
  host?: SandboxHost;
  /**
   * Where runs, conversations and events are kept: the path of a SQLite file, which is made when it is not there, or
   * `:memory:`. Default: `runtime.db` in `BERTH_STATE_DIR`, else in `$XDG_STATE_HOME/berth`, else in
   * `~/.local/state/berth`
   */
  store?: string;
  /**
   * Milliseconds from its end on that a run is kept, with its events, conversations and steps; `Infinity` is for ever. What
   * is older is removed when the store is opened, and once an hour. Default: 30 days
   */
  runRetention?: number;
  /** Added to the built-in providers, by provider id. */
  models?: Record<string, ModelSource>;
  /** Default: pino on standard error, at the level of `BERTH_LOG`, else `warn` */
  logger?: Logger;
  /** By the name that they are dispatched to by. */
  agents?: Record<string, AgentDefinition>;
  /** By the name that they are invoked by. */
  workflows?: Record<string, WorkflowDefinition>;
  /**
   * A folder: what the files `agents/<name>` and `workflows/<name>` in it export as default is registered too, under these
   * names. They end in `.ts`, `.mts`, `.js` or `.mjs`; Node itself loads TypeScript from 22.18 on. Relative to the directory
   * of the process
   */
  discover?: string;
  /** Of agents that name none. Default: `docker()` */
  sandbox?: SandboxFactory;
  /**
   * Seen by agent initializers, and where keys of providers are looked for; those named as secrets are masked wherever they
   * are told or kept. Default: a copy of `process.env`
   */
  env?: Readonly<Record<string, string | undefined>>;
  /** Runs and messages to agent instances at once; the others wait in order. Default: 16 */
  concurrency?: number;
  /**
   * Bytes of JSON that an input of a run or an agent instance may have, and what an Action, a tool or a step gives. Default:
   * 16 MiB
   */
  maxValueBytes?: number;
}

/** Options of `invoke`. One that it does not have is refused. */
export interface InvokeOptions<Input = unknown> {
  /** What the schema of the workflow takes, as JSON. Default: none, which a schema gets as `{}` */
  input?: Input;
  /** Makes the call idempotent. `[A-Za-z0-9_.-]`, at most 128. Default: `run_` and a ULID */
  id?: string;
  /** Cancels the run. One that is aborted already: nothing is started, and `invoke` rejects with an `AbortError`. */
  signal?: AbortSignal;
  /**
   * `'provider/model'` or a model itself, in place of the one that the workflow's agent has. A prompt that names one of
   * its own keeps that. Default: that of the agent
   */
  model?: string | Model;
}

/** The options of an `invoke`, which may be left out where the input may be. */
export type InvokeArguments<Input> =
  IsOptional<Input> extends true
    ? [options?: InvokeOptions<Input>]
    : [options: InvokeOptions<Input> & { input: Input }];

/** `instance` is which instance of the agent: an id that the application chooses. `id` is the same. */
type InstanceOf = { instance: string; id?: undefined } | { id: string; instance?: undefined };

/** `message` is the words of a person; `input` any JSON value, which the model gets as data. */
type Content = { message: string; input?: undefined } | { input: unknown; message?: undefined };

/** A message for an agent instance: which instance, and exactly one of `message` and `input`. */
export type DispatchOptions = InstanceOf &
  Content & {
    /** Up to 14 MiB each. */
    images?: readonly ImagePart[];
    /** The same key and payload give the first receipt. */
    key?: string;
  };

/** Both arguments of `dispatch` in one. */
export type DispatchRequest = DispatchOptions & { agent: string | AgentDefinition };

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
  readonly #logger: Logger;
  readonly #log: Log;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #defaultSandbox: SandboxFactory;
  readonly #slots: Slots;
  readonly #storePath: string;
  readonly #runRetention: number;
  readonly #maxValueBytes: number;
  /** As which it claims. */
  readonly #claimant = newId('host');
  /** Those that are under way, or wait, in this process. */
  readonly #runs = new Map<string, Run>();
  /** What is being taken in: `close` has to wait for it. */
  readonly #admissions = new Set<Promise<unknown>>();
  readonly #instances = new Map<string, AgentInstance>();
  readonly #observers = new Set<Observer>();
  readonly #warnings = new Set<string>();
  readonly #givenHost: SandboxHost | undefined;
  #ownHost: Promise<SandboxHost> | undefined;
  #store: Promise<Store> | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #removal: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: RuntimeOptions) {
    checkRuntime(options);
    this.#workflows = new Map(Object.entries(options.workflows ?? {}));
    this.#agents = new Map(Object.entries(options.agents ?? {}));
    this.#env = options.env ?? Object.freeze({ ...process.env });
    this.#models = new Models(options.models, this.#env);
    this.#logger =
      options.logger ?? pino({ level: process.env.BERTH_LOG ?? 'warn' }, pino.destination({ fd: 2, sync: true }));
    this.#log = loggerLog(this.#logger, this.#models.secrets);
    this.#defaultSandbox = options.sandbox ?? docker();
    this.#slots = new Slots(options.concurrency ?? 16);
    this.#givenHost = options.host;
    this.#storePath = options.store ?? join(defaultStateDir(), 'runtime.db');
    this.#maxValueBytes = options.maxValueBytes ?? defaultMaxValueBytes;
    this.#runRetention = options.runRetention ?? 30 * dayMs;
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
    if (this.#closing) throw new RuntimeUnavailableError();
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
    const id = options.id ?? newId('run');
    if (!/^[A-Za-z0-9_.-]{1,128}$/.test(id)) {
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
      const { row, isNew } = await store.admitRun({ id, workflow: name, json: JSON.stringify(admitted) });
      if (!isNew) return this.#sameRun(row, name, admitted);
      const run: Run = new Run({
        row,
        workflow,
        journal: this.#journal(store, { run: id }, (error) => run.fail(error)),
        admit: (work, abort) => (isWithin ? this.#do(work, id) : this.#slots.run(() => this.#do(work, id), abort)),
        openHarness: this.#rootHarness(workflow.agent, model),
      });
      this.#runs.set(id, run);
      const cancel = () => void run.cancel(reasonText(signal?.reason));
      signal?.addEventListener('abort', cancel, { once: true });
      void run.settled.then(() => {
        signal?.removeEventListener('abort', cancel);
        this.#runs.delete(id);
      });
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
    if (this.#closing) throw new RuntimeUnavailableError();
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
   */
  async abort(target: string | AgentDefinition, options: { instance: string; reason?: string }): Promise<boolean> {
    checkOptions('abort', options, { instance: true, reason: true });
    const { reason = 'The instance was aborted.' } = options;
    const { name } = this.#findAgent(target);
    const instance = this.#instances.get(JSON.stringify([name, options.instance]));
    return (await instance?.abort(reason)) ?? false;
  }

  /** Calls `observer` with every event from now on. @returns ends it */
  observe(observer: Observer): () => void {
    const own: Observer = (event, context) => observer(event, context); // one that observes twice is told twice
    this.#observers.add(own);
    return () => this.#observers.delete(own);
  }

  /**
   * Records of runs, newest first.
   * @throws {RunNotFoundError} there is no run of the id `after`
   */
  async runs(query: RunsQuery = {}): Promise<RunRecord[]> {
    checkOptions('runs', query, { state: true, workflow: true, after: true, limit: true });
    const { state, workflow, after, limit = 100 } = query;
    if (!Number.isSafeInteger(limit) || limit < 1) throw new InvalidRequestError('limit must be a whole number over 0');
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
   */
  async run(id: string): Promise<RunHandle> {
    const live = this.#runs.get(id);
    if (live) return live;
    const store = await this.#openStore();
    if (!(await store.run(id))) throw new RunNotFoundError({ runId: id });
    return this.#storedRun(store, id);
  }

  /** Takes nothing more, cancels what runs, and resolves when all of it has ended. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#admissions);
    await Promise.all([
      ...[...this.#runs.values()].map((run) => run.cancel('The runtime was closed.')),
      ...[...this.#instances.values()].map((instance) => instance.close()),
    ]);
    await (await this.#ownHost?.catch(() => undefined))?.close();
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
      await store.renew(
        atWork.flatMap(({ lease }) => lease ?? []),
        leaseMs,
      );
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
        isDurable: this.#storePath !== inMemory,
        openJournal: () => this.#journal(store, owner),
        openHarness: this.#rootHarness(agent),
        admit: (work, signal, urgent) => this.#slots.run(() => this.#do(work), signal, urgent),
      });
      this.#instances.set(key, instance);
    }
    return instance;
  }

  #storedRun(store: Store, id: string): StoredRun {
    return new StoredRun(id, this.#journal(store, { run: id }));
  }

  /** The work of this runtime that the code which asks is a part of. */
  #caller(): Work | undefined {
    const work = currentWork.getStore();
    return work?.runtime === this && work.underWay ? work : undefined;
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
    return name;
  }

  #checkModel(model: string | Model): void {
    const problems = new Problems('The call of invoke');
    checkModel(problems, model, 'model');
    problems.throwIfAny();
    this.#models.resolve(model);
  }

  #rootHarness(agent: AgentDefinition, model?: string | Model): OpenRootHarness {
    return async ({ journal, meter, signal }) => {
      const { owner, store } = journal;
      const id = 'run' in owner ? owner.run : owner.instance;
      const own = await resolveAgent(agent, { id, env: this.#env });
      const resolved = model === undefined ? own : { ...own, model };
      const factory = resolved.sandbox ?? this.#defaultSandbox;
      for (const each of withSubagents(resolved)) {
        if (each.model !== undefined) this.#models.resolve(each.model);
        for (const server of Object.values(each.mcpServers)) addMcpSecrets(journal.masker, server);
        OpenHarness.checkTools(each, factory);
      }
      // By their text: an agent may make a factory for each of its runs.
      if (factory.warning !== undefined && !this.#warnings.has(factory.warning)) {
        this.#warnings.add(factory.warning);
        this.#log.warn(factory.warning);
      }
      const scope = { harness: 'default' };
      const env = await factory.createSandbox({
        id,
        ...('run' in owner ? { kind: 'run' } : { kind: 'agent', agent: owner.agent }),
        key: createHash('sha256')
          .update(JSON.stringify([store.id, owner]))
          .digest('hex'),
        isDurable: 'agent' in owner && this.#storePath !== inMemory,
        resume: false,
        signal,
        host: () => this.#host(),
        onEvent: (event) => journal.emit({ type: 'sandbox', ...event }, scope),
      });
      // Another directory is an environment in the sandbox, which is ended after it.
      const inside = resolved.cwd === undefined ? undefined : await openIn(env, resolved.cwd);
      const parts: HarnessParts = {
        name: 'default',
        env: inside ?? env,
        agent: resolved,
        models: this.#models,
        shared: new SandboxTools(),
        sandboxTools: factory.tools?.bind(factory),
        emit: journal.emit,
        journal,
        ...('agent' in owner && { conversations: await keptConversations(journal) }),
        scope,
        meter,
        steps: new Steps(journal),
        depth: 0,
        maxValueBytes: this.#maxValueBytes,
        signal,
        ...(inside && { release: (outcome) => env.close(outcome) }),
      };
      return new OpenHarness(parts);
    };
  }

  async #host(): Promise<SandboxHost> {
    if (this.#givenHost) return this.#givenHost;
    this.#ownHost ??= SandboxHost.open({ logger: this.#logger });
    try {
      return await this.#ownHost;
    } catch (error) {
      this.#ownHost = undefined; // the engine may answer the next time
      throw error;
    }
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

function checkRuntime(options: RuntimeOptions): void {
  const problems = new Problems('The runtime');
  const record = problems.record(options, '', {
    known: [
      'host',
      'store',
      'runRetention',
      'models',
      'logger',
      'agents',
      'workflows',
      'discover',
      'sandbox',
      'env',
      'concurrency',
      'maxValueBytes',
    ],
  });
  problems.optional(record.concurrency, 'concurrency', (value, path) => problems.positiveInteger(value, path));
  problems.optional(record.maxValueBytes, 'maxValueBytes', (value, path) => problems.positiveInteger(value, path));
  problems.optional(record.runRetention, 'runRetention', (value, path) => {
    if (typeof value !== 'number' || !(value >= 0)) problems.add(path, 'must be milliseconds, 0 or more');
  });
  problems.optional(record.store, 'store', (value, path) => checkStore(problems, value, path));
  problems.optional(record.discover, 'discover', (value, path) => problems.text(value, path));
  problems.optional(record.sandbox, 'sandbox', (value, path) => checkFactory(problems, value, path));
  const registered = (field: 'agents' | 'workflows', isDefinition: (value: unknown) => boolean, what: string) => {
    const names = new Map<unknown, string>();
    for (const [name, definition] of problems.entries(record[field], field)) {
      const path = pathText(field, [name]);
      problems.name(name, path, agentNamePattern);
      const other = names.get(definition);
      if (!isDefinition(definition)) problems.add(path, `must be ${what}, not a copy`);
      else if (other !== undefined) problems.add(path, `is ${other} already: it can have one name only`);
      names.set(definition, name);
    }
  };
  registered('agents', isAgent, 'an agent made by defineAgent');
  registered('workflows', isWorkflow, 'a workflow made by defineWorkflow');
  problems.entries(record.models, 'models'); // `Models` looks at each
  if (typeof (record.env ?? {}) !== 'object') problems.add('env', 'must be an object'); // `process.env` is no plain one
  problems.throwIfAny();
}

function checkStore(problems: Problems, store: unknown, path: string): void {
  if (typeof store !== 'string' || store === '') problems.add(path, 'must be the path of a file, or :memory:');
  else if (/^[a-z][a-z0-9+.-]+:\/\//i.test(store)) problems.add(path, 'must be a file: other databases come later');
}

async function openIn(env: SandboxEnv, cwd: string): Promise<SandboxEnv> {
  try {
    return await env.open({ name: 'default', cwd });
  } catch (error) {
    await env.close('failed').catch(() => {}); // the first error is the one to report
    throw error;
  }
}

function reasonText(reason: unknown): string | undefined {
  if (reason instanceof Error) return reason.message;
  return typeof reason === 'string' ? reason : undefined;
}

/** The input as it is kept. The schema's output is made again when the run starts. */
function workflowInput(
  name: string,
  workflow: WorkflowDefinition,
  input: unknown,
  maxBytes: number,
): JsonValue | undefined {
  const { action } = workflow;
  if (input === undefined) {
    actionInput(action, undefined);
    return undefined;
  }
  if (!action.input) throw new WorkflowInputUnexpectedError({ workflow: name });
  let kept: JsonValue;
  try {
    kept = jsonSnapshot(input, 'input', maxBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    const { path, kind } = error;
    throw new WorkflowInputSerializationError({ workflow: name, path, kind }, { cause: error });
  }
  actionInput(action, kept);
  return kept;
}

function dispatchArguments(
  first: string | AgentDefinition | DispatchRequest,
  options: DispatchOptions | undefined,
): [target: string | AgentDefinition, options: DispatchOptions] {
  if (options !== undefined) return [first as string | AgentDefinition, options]; // the first overload
  if (typeof first === 'object' && first !== null && 'agent' in first) {
    const { agent, ...rest } = first;
    return [agent, rest];
  }
  throw new InvalidRequestError('dispatch needs an agent, an instance and a message or input');
}

function checkDispatch(options: DispatchOptions, maxBytes: number): { id: string; payload: Payload; key?: string } {
  checkOptions('dispatch', options, {
    instance: true,
    id: true,
    message: true,
    input: true,
    images: true,
    key: true,
  });
  const { message, input, images = [], key } = options;
  const id = options.instance ?? options.id;
  if (typeof id !== 'string' || id.trim() === '' || id.length > 256 || /\p{Cc}/u.test(id)) {
    throw new InvalidRequestError('the id of an instance has 1 to 256 characters and is not blank');
  }
  if (options.instance !== undefined && options.id !== undefined) {
    throw new InvalidRequestError('instance and id are the same: give one of them');
  }
  if ((message === undefined) === (input === undefined)) {
    throw new InvalidRequestError('exactly one of message and input is given');
  }
  if (message !== undefined && typeof message !== 'string') throw new InvalidRequestError('a message is a text');
  if (key !== undefined && typeof key !== 'string') throw new InvalidRequestError('a key is a text');
  checkImages(images);
  const content = message === undefined ? { input: dispatchInput(input, maxBytes) } : { message };
  const kept = images.map(({ data, mimeType }): ImagePart => ({ type: 'image', data, mimeType }));
  return { id, payload: { ...content, images: kept }, ...(key !== undefined && { key }) };
}

function dispatchInput(input: unknown, maxBytes: number): JsonValue {
  try {
    return jsonSnapshot(input, 'input', maxBytes);
  } catch (error) {
    if (!(error instanceof NotJson)) throw error;
    throw new InvalidRequestError(`${error.path} is ${error.kind}, which can't be kept as JSON`, { cause: error });
  }
}
