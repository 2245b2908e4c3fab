import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError } from '../../errors.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { actionTool } from '../action/action-tool.ts';
import { executeAction } from '../action/execute.ts';
import { type ActionDefinition, type Delivered, isAction } from '../define/action.ts';
import type { ResolvedAgent } from '../define/agent.ts';
import { ToolNameConflictError } from '../define/errors.ts';
import { frameworkToolNames } from '../define/names.ts';
import { toTool } from '../define/tool.ts';
import {
  DelegationDepthExceededError,
  HarnessClosedError,
  InvalidRequestError,
  SessionAlreadyExistsError,
  SessionNotFoundError,
} from '../errors.ts';
import type { Emit, EventScope } from '../events/event.ts';
import { eventLog, type Log } from '../events/log.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import { LinkedAbort } from '../linked-abort.ts';
import { AgentServers } from '../mcp/agent-servers.ts';
import type { Models } from '../model/providers.ts';
import type { LoopTool } from '../model/tool.ts';
import { checkOptions } from '../options.ts';
import type { Mailbox } from '../run/mailbox.ts';
import type { OwnerJournal } from '../run/owner-journal.ts';
import { never, type Rest, Suspension } from '../run/rest.ts';
import type { SandboxEnv, SandboxFactory, SandboxFork, WorkOutcome } from '../sandbox/env.ts';
import { type Files, RecordedFiles } from '../sandbox/files.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import { Conversation, type KeptConversations } from '../session/conversation.ts';
import { OpenSession } from '../session/open-session.ts';
import { subagentList } from '../subagents/subagent.ts';
import { builtinTools } from '../tools/builtin.ts';
import { customTool } from '../tools/custom-tool.ts';
import { SandboxTools, type ToolEnvironment } from '../tools/tool-environment.ts';
import { type AttemptContext, type AttemptOptions, type Choose, checkAttempt, runAttempts } from './attempt.ts';
import { type CallHandle, callHandle } from './call-handle.ts';
import { type Checkpoint, checkCheckpoint, NamedCheckpoint } from './checkpoint.ts';
import type { Forks, Transaction } from './forks.ts';
import { graceMs } from './grace.ts';
import type { Harness, OptionalInput, ShellOptions } from './harness.ts';
import { type Call, maxDepth, type Operation, type Place } from './operation.ts';
import { checkShell, recordedShell, shellAbout, shellDetails } from './shell.ts';
import { checkStep, runStep } from './step.ts';
import { checkSleep, checkWait, runSleep, runWait } from './wait.ts';

/** `env` is its own: closed with the harness. */
export interface HarnessParts extends Place {
  /** `'default'` for a root harness, `action:<id>` for another. */
  name: string;
  models: Models;
  /** What the built-in tools keep for the sandbox. */
  shared: SandboxTools;
  /** Gives the tools of the sandbox, in place of the built-in ones. */
  sandboxTools?: SandboxFactory['tools'] | undefined;
  /** Adds events to the run or instance, whatever harness they are of. */
  emit: Emit;
  /** Where all that is put and emitted is written. */
  journal: OwnerJournal;
  /** Those that were there when the work was claimed. */
  conversations: KeptConversations;
  /** Of the run or instance. */
  rest: Rest;
  /** Of the run; an agent instance has none. */
  mailbox: Mailbox | undefined;
  /** Of the run or instance. */
  forks: Forks;
  /** Of the action whose harness it is. Default: it works on the files themselves */
  transaction?: Transaction | undefined;
  /** Aborts all that is done in the harness. */
  signal: AbortSignal;
  /** Ends what was made for the harness besides `env`. */
  release?: (outcome?: WorkOutcome) => Promise<void>;
}

/** Tools, and what a conflict of their names calls them. */
type ToolSource = readonly [source: string, tools: readonly LoopTool[]];

/** A harness at work: everything that it starts is known to it, and ended by `close`. */
export class OpenHarness implements Harness {
  readonly name: string;
  readonly sandbox: SandboxEnv;
  readonly fs: Files;
  readonly parts: HarnessParts;
  readonly sessions = {
    get: async (name = 'default') => this.#getSession(name),
    create: async (name = 'default') => this.#createSession(name),
  };
  /** With the scope of the event only, for child harnesses. */
  readonly #emitPlain: Emit;
  readonly #emit: Emit;
  readonly #stop: LinkedAbort;
  readonly #open = new Set<Promise<unknown>>();
  readonly #sessions = new Map<string, OpenSession>();
  readonly #servers: AgentServers;
  readonly #checkpoints = new Set<NamedCheckpoint>();
  /** How many there were of each name. */
  readonly #conversations = new Map<string, number>();
  #closing: Promise<void> | undefined;
  #ended = false;

  constructor(parts: HarnessParts) {
    this.parts = parts;
    this.name = parts.name;
    this.sandbox = parts.env;
    this.#emitPlain = (body, scope) => {
      if (!this.#ended) parts.emit(body, scope); // work that ignores its end may still say something
    };
    this.#emit = within(this.#emitPlain, parts.scope);
    this.#stop = new LinkedAbort(parts.signal);
    this.fs = this.#files(parts);
    this.#servers = new AgentServers(parts.env, this.#stop.signal);
  }

  /** Of the whole run, where its agent limits it. */
  get timeoutMs(): number {
    const { depth, agent } = this.parts;
    return (depth === 0 ? agent.durability.timeoutMs : undefined) ?? Number.POSITIVE_INFINITY;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  log(added: Record<string, unknown> = {}): Log {
    return eventLog(this.#emit, added);
  }

  async session(name = 'default'): Promise<OpenSession> {
    return this.#sessions.get(name) ?? this.#createSession(name);
  }

  /**
   * A session for a task: below `parent`, as a part of an operation of it, with a conversation of its own. What it does
   * not get is that of the operation. An `env` of its own is closed by whoever opened it.
   * @throws {DelegationDepthExceededError} tasks and actions are nested more than 4 deep
   */
  childSession(
    parent: OpenSession,
    { place, meter, step }: Operation,
    { taskId, ...own }: { taskId: string; agent?: ResolvedAgent; env?: SandboxEnv },
  ): OpenSession {
    if (this.#closing) throw new HarnessClosedError();
    if (place.depth >= maxDepth) throw new DelegationDepthExceededError({ maxDepth });
    const name = `task:${parent.name}:${taskId}`;
    const below = { ...place, ...own, depth: place.depth + 1, meter, steps: step.below };
    const child = this.#addSession(name, below, { parentSession: parent.name, taskId }, parent);
    parent.children.add(child);
    return child;
  }

  shell(command: string, options: ShellOptions = {}): CallHandle<ExecResult> {
    const work = async (operation: Operation) => {
      const toolCallId = operation.step.id('call');
      const { result } = await recordedShell(this.sandbox, command, options, operation, { toolCallId });
      return result;
    };
    return this.operation({
      kind: 'shell',
      about: shellAbout(command, options),
      options,
      check: () => checkShell(command, options),
      work,
      shown: shellDetails,
      isWhole: true,
    });
  }

  run<Input, Output>(
    action: ActionDefinition<Input, Output>,
    ...rest: OptionalInput<NoInfer<Input>>
  ): CallHandle<Output> {
    const [input, options = {}] = rest;
    const check = () => {
      checkOptions('run', options, { signal: true });
      if (!isAction(action)) throw new InvalidRequestError('an action is made by defineAction, not a copy');
    };
    const work = async (operation: Operation) => {
      // What the action's output schema gave, which is what `Output` was inferred from.
      return (await this.runAction(action, input, operation)) as Output;
    };
    return this.operation({ kind: 'action', about: [action?.name, input], options, check, work });
  }

  attempt<Value>(
    run: (context: AttemptContext) => Value | Promise<Value>,
    options: AttemptOptions<NoInfer<Value>> = {},
  ): CallHandle<Delivered<undefined, Value>> {
    const { count = 1, choose } = options ?? {}; // what is no object is refused below
    return this.operation({
      kind: 'attempt',
      about: [count],
      options,
      check: () => checkAttempt(run, options, this.sandbox),
      work: async (operation) => {
        // What is delivered is a copy of what `run` gave, and so is what `choose` gets.
        const chosenBy = { count, choose: choose as Choose | undefined };
        return (await runAttempts(this, run, chosenBy, operation)) as Delivered<undefined, Value>;
      },
    });
  }

  checkpoint(options: { signal?: AbortSignal } = {}): CallHandle<Checkpoint> {
    return this.operation<Checkpoint & { name: string }>({
      kind: 'checkpoint',
      about: [],
      options,
      check: () => checkCheckpoint(this.sandbox, options),
      work: async ({ step, signal }) => {
        const checkpoint = new NamedCheckpoint(this.sandbox, step.id('checkpoint'));
        await checkpoint.make(signal);
        return this.#checkpointOf(checkpoint);
      },
      shown: () => undefined,
      recorded: ({ name }) => name,
      restored: (name) => this.#checkpointOf(new NamedCheckpoint(this.sandbox, name as string)), // it was recorded so
      isWhole: true,
    });
  }

  step<Value>(
    name: string,
    work: (context: { signal: AbortSignal }) => Value | Promise<Value>,
    options: { signal?: AbortSignal } = {},
  ): CallHandle<Value> {
    return this.operation({
      kind: 'step',
      about: [name],
      name,
      options,
      check: () => checkStep(name, work, options),
      // JSON of what `work` gave, whose type this is as far as JSON holds it.
      work: async (operation) => (await runStep(name, work, operation)) as Value,
      isWhole: true,
    });
  }

  sleep(ms: number, options: { signal?: AbortSignal } = {}): CallHandle<void> {
    return this.operation({
      kind: 'sleep',
      about: [ms],
      options,
      check: () => checkSleep(ms, options),
      work: (operation) => runSleep(ms, this.parts, operation),
    });
  }

  waitFor(name: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}): CallHandle<JsonValue> {
    let seq = 0;
    return this.operation({
      kind: 'wait',
      about: [name, options?.timeoutMs],
      name,
      options,
      check: () => checkWait(name, options, this.parts),
      work: async (operation) => {
        const taken = await runWait(name, options.timeoutMs, this.parts, operation);
        seq = taken.seq;
        return taken.data;
      },
      alsoWritten: () => ({ kind: 'mail.take', seq }),
    });
  }

  now(): Promise<number> {
    return this.#given('now', () => Date.now());
  }

  random(): Promise<number> {
    return this.#given('random', () => Math.random());
  }

  uuid(): Promise<string> {
    return this.#given('uuid', () => randomUUID());
  }

  emit(name: string, data: unknown, options: { id?: string } = {}): void {
    if (this.#closing) throw new HarnessClosedError();
    checkOptions('emit', options, { id: true });
    if (typeof name !== 'string' || name === '') throw new InvalidRequestError('the name of what is emitted is a text');
    const { id } = options;
    if (id !== undefined && typeof id !== 'string')
      throw new InvalidRequestError('the id of what is emitted is a text');
    this.#emit({ type: 'data', name, data, ...(id !== undefined && { id }) });
  }

  /**
   * Runs an action in a child harness, as a part of `operation`.
   * @param call.fork - where it works. Default: where the operation does
   */
  async runAction(
    action: ActionDefinition,
    input: unknown,
    { signal, emit, meter, place, step }: Operation,
    { fork, ...call }: { toolCallId?: string; attempt?: number; fork?: SandboxFork } = {},
  ): Promise<JsonValue> {
    const { models, sandboxTools, forks } = this.parts;
    const { agent, env, depth } = place;
    if (depth >= maxDepth) throw new DelegationDepthExceededError({ maxDepth });
    const actionId = step.id('action');
    const head = { action: action.name, ...call };
    const scope = { ...place.scope, harness: `action:${actionId}`, actionId };
    const startedAt = performance.now();
    emit({ type: 'action_start', ...head }, { actionId });
    const own = new UsageMeter(meter);
    const end = (outcome: { result: unknown } | { error: unknown }) => {
      const failed = 'error' in outcome;
      emit(
        {
          type: 'action',
          ...head,
          ...(failed ? { error: recordedError(outcome.error) } : { result: outcome.result }),
          durationMs: Math.round(performance.now() - startedAt),
          isError: failed,
          usage: own.total,
        },
        { actionId },
      );
    };
    try {
      const result = await executeAction({
        action,
        input,
        // A model can't know that there is nothing to say.
        ignoreInput: call.toolCallId !== undefined,
        signal,
        logAttributes: head,
        graceMs: graceMs(depth + 1),
        openHarness: async (actionSignal) => {
          const steps = step.below;
          const transaction =
            action.files === 'transaction'
              ? await forks.transaction(env, { steps, name: actionId, signal: actionSignal })
              : undefined;
          const ownFork = transaction?.fork;
          return new OpenHarness({
            name: `action:${actionId}`,
            env: ownFork ?? (await (fork ?? env).open({ name: actionId })),
            agent,
            models,
            shared: ownFork || fork ? new SandboxTools() : this.parts.shared,
            sandboxTools,
            emit: this.#emitPlain,
            journal: this.parts.journal,
            conversations: this.parts.conversations,
            rest: this.parts.rest,
            mailbox: this.parts.mailbox,
            forks,
            transaction,
            scope,
            meter: own,
            steps,
            depth: depth + 1,
            maxValueBytes: place.maxValueBytes,
            signal: actionSignal,
            ...(ownFork && { release: (outcome: WorkOutcome = 'cancelled') => forks.close(ownFork, outcome) }),
          });
        },
      });
      end({ result });
      return result;
    } catch (error) {
      end({ error });
      throw error;
    }
  }

  /**
   * The one place that every call with an effect goes through: it is refused, without a trace, when it can't be right or
   * the harness has ended; then it is told of by events, abortable, and awaited by `close`.
   */
  operation<Result>(call: Call<Result>): CallHandle<Result> {
    if (this.parts.rest.over) return callHandle([], () => never());
    try {
      if (this.#closing) throw new HarnessClosedError();
      call.check();
    } catch (refusal) {
      return callHandle([], () => Promise.reject(refusal));
    }
    return callHandle([this.signal, call.options.signal], async (signal) => {
      if (signal.aborted) throw abortError(signal.reason);
      const running = this.#runOperation(call, signal);
      this.#open.add(running);
      try {
        return await running;
      } finally {
        this.#open.delete(running);
      }
    });
  }

  /**
   * The tools of a model at work in an operation.
   * @param options.skills - those whose files can be read
   * @param options.further - besides those of the sandbox and the agent, by where they are from
   * @param options.framework - with the names that are reserved for them
   * @throws {ToolNameConflictError} two have one name, or one has a name that is reserved
   */
  tools(
    operation: Operation,
    {
      further,
      framework,
      ...environment
    }: Pick<ToolEnvironment, 'seesImages' | 'skills'> & {
      further: readonly ToolSource[];
      framework: LoopTool[];
    },
  ): LoopTool[] {
    const { agent } = operation.place;
    const sources: ToolSource[] = [
      this.#sandboxTools(operation, environment),
      ['tools of the agent', agent.tools.map((tool) => customTool(tool, operation))],
      ['actions of the agent', agent.actions.map((action) => actionTool(action, this, operation))],
      ...further,
    ];
    checkToolNames(sources.map(([source, tools]) => [source, tools.map(({ name }) => name)]));
    return [...sources.flatMap(([, tools]) => tools), ...framework];
  }

  /**
   * The tools of the MCP servers of the agent at work, which are connected when they are not yet.
   * @throws {McpConnectionError} one can't be reached
   */
  async mcpTools(operation: Operation): Promise<ToolSource[]> {
    const { place, emit, signal } = operation;
    const warn = (message: string) => eventLog(emit).warn(message);
    const servers = await this.#servers.connected(place.agent.mcpServers, { signal, warn });
    return servers.map(({ name, tools }) => [`MCP server ${name}`, tools.map((tool) => customTool(tool, operation))]);
  }

  #sandboxTools(operation: Operation, environment: Pick<ToolEnvironment, 'seesImages' | 'skills'>): ToolSource {
    const { agent, env } = operation.place;
    const { shared, sandboxTools } = this.parts;
    if (sandboxTools) {
      return [
        'tools of the sandbox',
        sandboxTools(env, { subagents: subagentList(agent.subagents) }).map((tool) =>
          customTool(toTool(tool), operation),
        ),
      ];
    }
    const key = (toolCallId: string) => operation.step.toolCall(toolCallId).key;
    const all = builtinTools({ env, shared, key, ...environment });
    return ['built-in', all.filter(({ name }) => (agent.builtinTools as readonly string[]).includes(name))];
  }

  /**
   * Checks, before a sandbox is made for it, what a model of the agent would see.
   * @throws {ToolNameConflictError} two tools have one name, or one has a name that is reserved
   */
  static checkTools(
    { builtinTools: builtin, tools, actions }: ResolvedAgent,
    { tools: ofSandbox }: SandboxFactory,
  ): void {
    checkToolNames([
      ['built-in', ofSandbox ? [] : builtin.filter((name) => name !== 'task')],
      ['tools of the agent', tools.map(({ name }) => name)],
      ['actions of the agent', actions.map(({ name }) => name)],
    ]);
  }

  /** Ends all that was started here, and awaits it; nothing is told of it afterwards. */
  close(outcome?: WorkOutcome): Promise<void> {
    this.#closing ??= this.#close(outcome);
    return this.#closing;
  }

  async #close(outcome: WorkOutcome | undefined): Promise<void> {
    const { env, journal, shared, depth, forks, release, rest } = this.parts;
    if (rest.over) return this.#letGo(rest.over);
    this.#stop.abort(new HarnessClosedError());
    this.#stop.release();
    const patience = new AbortController();
    const over = await Promise.race([
      Promise.allSettled(this.#open).then(() => true),
      sleep(graceMs(depth), false, { signal: patience.signal }).catch(() => false),
    ]);
    patience.abort();
    if (!over) this.log().warn(`${this.#open.size} operations did not end when their harness did`);
    if (depth === 0) await this.#end(() => journal.hold());
    if (rest.over) return this.#letGo(rest.over);
    if (depth === 0) await this.#end(() => forks.closeAll(outcome ?? 'cancelled')); // of work that was not waited for
    for (const checkpoint of this.#checkpoints) await this.#end(() => checkpoint.drop());
    await this.#end(() => (depth === 0 ? shared.removeOutputs(env) : undefined));
    await this.#end(() => this.#servers.close());
    await this.#end(() => env.close(outcome));
    await this.#end(() => release?.(outcome));
    this.#ended = true;
  }

  /** Lets go of what goes on in a later attempt, without an end. */
  async #letGo(how: 'suspended' | 'left'): Promise<void> {
    const { env, release, depth, forks } = this.parts;
    // First, so that commands that are under way are not ended by the abort.
    if (depth === 0) await this.#end(() => forks.closeAll(how));
    await this.#end(() => env.close(how));
    await this.#end(() => release?.(how));
    this.#ended = true;
    this.#stop.abort(new Suspension());
    this.#stop.release();
    await this.#end(() => this.#servers.close());
  }

  /** What the work gave is not lost when something that was made for it can't be removed, nor is the rest kept. */
  async #end(step: () => Promise<void> | undefined): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.log().warn('Something that was made for the work could not be removed', { error });
    }
  }

  async #runOperation<Result>(call: Call<Result>, signal: AbortSignal): Promise<Result> {
    const { kind: operationKind, name, place = this.parts, scope, work } = call;
    const { shown = (result) => result, recorded = (result) => result, alsoWritten, isWhole = false } = call;
    const { restored = (given) => given as Result } = call; // what was recorded is the result
    const { journal, rest } = this.parts;
    journal.masker.addNamed(call.options.env);
    const head = { operationKind, ...(name !== undefined && { name }) };
    const step = place.steps.next(operationKind, ...call.about);
    const { outcome } = step;
    if (outcome) {
      if (outcome.usage) place.meter.restore(outcome.usage);
      if (outcome.error) throw restoredError(outcome.error);
      return restored(outcome.result);
    }
    const held = isWhole ? rest.admit(signal) : undefined;
    if (held) await held;
    const meter = new UsageMeter(place.meter);
    let over = false;
    const emitUntilEnd: Emit = (body, own) => {
      if (!over) this.#emitPlain(body, own); // a tool that was given up may still be at work
    };
    const emit = within(emitUntilEnd, { ...place.scope, ...scope, operationId: step.id('op') });
    const startedAt = performance.now();
    step.begin();
    if (!step.isResumed) emit({ type: 'operation_start', ...head });
    const end = (outcome: { result: unknown } | { error: unknown }) => {
      const failed = 'error' in outcome;
      emit({
        type: 'operation',
        ...head,
        ...(failed ? { error: recordedError(outcome.error) } : { result: outcome.result }),
        durationMs: Math.round(performance.now() - startedAt),
        isError: failed,
        usage: meter.total,
      });
      emit({ type: 'idle' });
      over = true;
    };
    try {
      const operation: Operation = { signal, emit: meter.counting(emit), meter, place, step };
      const result = await (isWhole ? rest.busy(() => work(operation)) : work(operation));
      if (rest.over) return never();
      end({ result: shown(result) });
      step.end({ result: recorded(result) }, meter.total);
      if (alsoWritten) journal.put(alsoWritten(result));
      await journal.flush(); // a result is used only when it is recorded
      return result;
    } catch (error) {
      if (rest.over) return never();
      if (!over) {
        end({ error });
        // What the code itself has stopped is so again when it runs again; what ended with its harness was not.
        if (this.signal.aborted) step.abandon();
        else step.end({ error }, meter.total);
      }
      await journal.flush();
      throw error;
    }
  }

  #checkpointOf(checkpoint: NamedCheckpoint): Checkpoint & { name: string } {
    const { name } = checkpoint;
    this.#checkpoints.add(checkpoint);
    const rollback = (options: { signal?: AbortSignal } = {}) =>
      this.operation({
        kind: 'rollback',
        about: [name],
        options,
        check: () => checkOptions('rollback', options, { signal: true }),
        work: ({ signal }) => checkpoint.rollback(signal),
        isWhole: true,
      });
    return { name, rollback };
  }

  #getSession(name: string): OpenSession {
    const session = this.#sessions.get(name);
    if (!session) throw new SessionNotFoundError({ session: name });
    return session;
  }

  #createSession(name: string): OpenSession {
    if (this.#closing) throw new HarnessClosedError();
    checkSessionName(name);
    if (this.#sessions.has(name)) throw new SessionAlreadyExistsError({ session: name });
    return this.#addSession(name, this.parts);
  }

  #addSession(name: string, place: Place, scope: EventScope = {}, parent?: OpenSession): OpenSession {
    const session: OpenSession = new OpenSession({
      name,
      harness: this,
      place: { ...place, steps: place.steps.session(name) },
      conversation: this.#conversation(name),
      fs: place.env === this.parts.env ? this.fs : this.#files(place),
      scope,
      onDelete: () => {
        if (this.#sessions.get(name) === session) this.#sessions.delete(name);
        parent?.children.delete(session);
      },
    });
    this.#sessions.set(name, session);
    return session;
  }

  #conversation(session: string): Conversation {
    const { journal, conversations: kept } = this.parts;
    const before = this.#conversations.get(session) ?? 0;
    this.#conversations.set(session, before + 1);
    return new Conversation({ journal, kept, harness: this.name, session, before });
  }

  #files({ env, steps }: Place): Files {
    const check = () => {
      if (this.#closing) throw new HarnessClosedError();
    };
    return new RecordedFiles(env, steps, { check, signal: this.signal, rest: this.parts.rest });
  }

  /** What code asks for besides its effects, recorded so that it gets the same when it runs again. */
  async #given<Value>(kind: string, make: () => Value): Promise<Value> {
    if (this.parts.rest.over) return never();
    if (this.#closing) throw new HarnessClosedError();
    try {
      const value = await this.parts.steps.next(kind).perform(make);
      return this.parts.rest.over ? await never() : value;
    } catch (error) {
      if (this.parts.rest.over) return never();
      throw error;
    }
  }
}

function checkSessionName(name: string): void {
  const refuse = (reason: string) => {
    throw new InvalidRequestError(`the name of a session ${reason}`);
  };
  if (typeof name !== 'string' || name.length < 1 || name.length > 128) refuse('must have 1 to 128 characters');
  if (/\p{Cc}/u.test(name)) refuse('can not hold control characters');
  if (/^(task|action):/.test(name)) refuse('can not begin with task: or action:');
}

/** @throws {ToolNameConflictError} two tools have one name, or one has a name that is reserved */
function checkToolNames(sources: readonly (readonly [source: string, names: readonly string[]])[]): void {
  const seen = new Map<string, string>();
  for (const [source, names] of sources) {
    for (const name of names) {
      if (frameworkToolNames.has(name))
        throw new ToolNameConflictError({ name, conflict: 'reserved', sources: [source] });
      const other = seen.get(name);
      if (other !== undefined)
        throw new ToolNameConflictError({ name, conflict: 'duplicate', sources: [other, source] });
      seen.set(name, source);
    }
  }
}
