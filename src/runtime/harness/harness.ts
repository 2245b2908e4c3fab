import type { ExecResult } from '../../sandbox/process/result.ts';
import type { ActionDefinition, Delivered, IsOptional } from '../define/action.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import type { Files } from '../sandbox/files.ts';
import type { JsonValue } from '../schema/snapshot.ts';
import type { Session } from '../session/session.ts';
import type { AttemptContext, AttemptOptions } from './attempt.ts';
import type { CallHandle } from './call-handle.ts';
import type { Checkpoint } from './checkpoint.ts';

/** Options of a command. Times are milliseconds, sizes bytes. */
export interface ShellOptions {
  /** Added to the environment. Events and records show the names only. */
  env?: Record<string, string>;
  /** Relative to the directory of the harness, or of the task whose session it is. Default: that directory */
  cwd?: string;
  /** Then the whole process tree is killed and the result says `timedOut`, with code 124. Default: none */
  timeoutMs?: number;
  /** Kills the whole process tree; the call then rejects with an `AbortError`. */
  signal?: AbortSignal;
  /** Kept per stream, the newest bytes. Default: 16 MiB */
  maxOutput?: number;
}

/** The input of a call may be left out where an empty object is one, or where there is none. */
export type OptionalInput<Input> =
  IsOptional<Input> extends true
    ? [input?: Input, options?: { signal?: AbortSignal }]
    : [input: Input, options?: { signal?: AbortSignal }];

/** The sandbox of one action run, and the conversations in it. It lives as long as the run. */
export interface Harness {
  /** `'default'` for a root harness, the scope of the action for another. */
  readonly name: string;
  /** Files, outside of any conversation. */
  readonly fs: Files;
  /** Also what is special to it: `sandbox.session` with `docker()`. */
  readonly sandbox: SandboxEnv;
  /** Sessions by their names, where it matters whether there is one already. The default name is `'default'`. */
  readonly sessions: {
    /** @throws {SessionNotFoundError} there is none of that name */
    get(name?: string): Promise<Session>;
    /** @throws {SessionAlreadyExistsError} there is one of that name */
    create(name?: string): Promise<Session>;
  };
  /**
   * The session of a name, made when it is asked for the first time.
   * @param name - 1 to 128 characters, not beginning with `task:` or `action:`. Default: `'default'`
   * @throws {InvalidRequestError} it is no name
   * @throws {HarnessClosedError} the run of the action has ended; all calls below then reject so
   */
  session(name?: string): Promise<Session>;
  /**
   * Runs a command, outside of any conversation.
   * @returns also for a command that fails: look at `exitCode`
   * @throws {InvalidRequestError} an option is not known, or not of its type
   * @throws {SandboxDiedError} the sandbox ended meanwhile
   */
  shell(command: string, options?: ShellOptions): CallHandle<ExecResult>;
  /**
   * Runs an action in a child harness: the same files, its own sessions and processes.
   * @throws {ActionInputValidationError} the input does not fit; the action was not started
   * @throws {ActionTimeoutError} its `timeoutMs` was over
   * @throws {DelegationDepthExceededError} actions are nested more than 4 deep
   */
  run<Input, Output>(
    action: ActionDefinition<Input, Output>,
    ...rest: OptionalInput<NoInfer<Input>>
  ): CallHandle<Output>;
  /**
   * Makes attempts at something, side by side, each in a child harness on a fork of the sandbox as it is now. The files of one
   * are put in place, all of what it changed or nothing; the others are thrown away.
   * @param run - gives a value that JSON holds
   * @param options.count - how many. Default: 1
   * @param options.choose - gives the number of the attempt to keep. Default: the first that completed, in their order
   * @returns what the attempt gave whose files are in place
   * @throws the error of the only one; {AttemptsFailedError} none of several completed: nothing is changed
   * @throws {FilesConflictError} other work has changed the same files meanwhile, in another way: nothing is changed
   * @throws {SandboxOperationUnsupportedError} the sandbox can't be forked
   * @throws {DelegationDepthExceededError} they would be nested more than 4 deep
   * @example
   * const { failing } = await harness.attempt(
   *   async ({ harness, attempt }) => {
   *     await (await harness.session()).prompt(`Mend the tests. ${hints[attempt - 1]}`);
   *     return { failing: Number((await harness.shell('npm test | grep -c "^not ok"')).stdout) };
   *   },
   *   { count: 3, choose: (all) => all.reduce((a, b) => (b.value.failing < a.value.failing ? b : a)).attempt },
   * );
   */
  attempt<Value>(
    run: (context: AttemptContext) => Value | Promise<Value>,
    options?: AttemptOptions<NoInfer<Value>>,
  ): CallHandle<Delivered<undefined, Value>>;
  /**
   * Remembers the files below the directory of the sandbox (or of the harness, where that lies outside of it) as they are now,
   * until the harness ends.
   * @throws {SandboxOperationUnsupportedError} the sandbox can't
   * @example
   * const before = await harness.checkpoint();
   * if ((await harness.shell('./upgrade.sh')).exitCode !== 0) await before.rollback();
   */
  checkpoint(options?: { signal?: AbortSignal }): CallHandle<Checkpoint>;
  /**
   * Does work of the application that code must not do twice: a request to another service, a decision. What it gives is
   * recorded before it is used. It is done at least once: a process that dies in it does it again.
   * @param name - 1 to 128 characters
   * @param work - gives a value that JSON holds as it is, or nothing; ends when the signal is aborted
   * @throws what `work` throws, unless it was aborted: then an `AbortError`
   * @throws {StepOutputSerializationError} JSON can't hold what it gave
   */
  step<Value>(
    name: string,
    work: (context: { signal: AbortSignal }) => Value | Promise<Value>,
    options?: { signal?: AbortSignal },
  ): CallHandle<Value>;
  /**
   * Waits for so many milliseconds from when it was called the first time. A run that only waits, and for long, is
   * suspended: it needs no memory then, and goes on by itself when the time is over, in whatever process has its workflow.
   * @throws {InvalidRequestError} it is no number of milliseconds
   */
  sleep(ms: number, options?: { signal?: AbortSignal }): CallHandle<void>;
  /**
   * Waits for what `send` of the run's handle gives under a name: the approval of a person, say. Each message is taken by
   * one call, in the order in which they came, those of before the call too. As with `sleep`, the run may be suspended.
   * @param name - 1 to 128 characters
   * @param options.timeoutMs - from when it was called the first time. Default: none
   * @throws {WaitTimeoutError} the time is over
   * @throws {InvalidRequestError} an argument is not valid, or the work is that of an agent instance
   * @example const { approved } = await harness.waitFor('review', { timeoutMs: 86_400_000 });
   */
  waitFor(name: string, options?: { timeoutMs?: number; signal?: AbortSignal }): CallHandle<JsonValue>;
  /** Milliseconds since 1970, recorded. */
  now(): Promise<number>;
  /** A random number from 0 to below 1, recorded. Not for secrets. */
  random(): Promise<number>;
  /** A random UUID (version 4), recorded. */
  uuid(): Promise<string>;
  /**
   * Writes a `data` event for user interfaces; a later one of the same name and id may replace it there.
   * @param data - anything; what JSON can't hold is written as text
   */
  emit(name: string, data: unknown, options?: { id?: string }): void;
}
