import type { Readable, Writable } from 'node:stream';
import type { GrepOptions, Match, SandboxHost, Session } from '../../sandbox/index.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import type { ToolDefinition } from '../define/tool.ts';
import type { SandboxEvent } from '../events/event.ts';

/** Options of one command. Times are milliseconds, sizes bytes. */
export interface EnvExecOptions {
  /** Relative paths resolve against the `cwd` of the environment. Default: that `cwd` */
  cwd?: string;
  /** Added to the environment of the sandbox or session. */
  env?: Record<string, string>;
  /** Then the whole process tree is killed and the result says `timedOut`. Default: none */
  timeoutMs?: number;
  /** Kills the whole process tree; the call then rejects with an `AbortError`. */
  signal?: AbortSignal;
  /** With `docker()`: the same key starts the command once, and later calls join it. Without effect elsewhere. */
  key?: string;
  /** Bytes kept per stream for the result, the newest ones; the rest is counted. Default: 16 MiB */
  maxOutput?: number;
  /** Called with each piece of output as it comes. */
  onStdout?: (chunk: Uint8Array) => void;
  /** As `onStdout`. */
  onStderr?: (chunk: Uint8Array) => void;
}

/** A process of a sandbox, with its input and outputs. Disposing it ends its whole tree. */
export interface SandboxProcess extends AsyncDisposable {
  /** What it reads. */
  readonly stdin: Writable;
  /** What it writes, as bytes. */
  readonly stdout: Readable;
  /** As `stdout`. */
  readonly stderr: Readable;
  /** Resolves when it has ended; output that nobody reads is read here. Rejects when it could not be started. */
  wait(): Promise<{ exitCode: number | null; signal: string | null }>;
}

/** What a path names, links followed. */
export interface EnvStat {
  /** A regular file. A device, a pipe or a socket is neither this nor a directory. */
  isFile: boolean;
  isDirectory: boolean;
  /** The path itself is a link. Left out by sandboxes that do not say, Berth's own among them. */
  isSymbolicLink?: boolean;
  /** Bytes. Left out when not known */
  size?: number;
  /** When its content last changed. Left out when not known */
  mtime?: Date;
}

/** Options of a search for names. */
export interface GlobOptions {
  /** The directory that the pattern is relative to. Default: `cwd` */
  path?: string;
  /** Most paths to give. Default: 1,000 */
  limit?: number;
}

/** What became of a command. What a driver does not say is filled in. */
export type DriverResult = Pick<ExecResult, 'stdout' | 'stderr' | 'exitCode'> & Partial<ExecResult>;

/**
 * What is done in a sandbox. Operations on files fail with a `FileError`, or with an error whose `code` is the POSIX name. What
 * can't be done exactly as asked is refused before any change, with `SandboxOperationUnsupportedError`.
 */
export interface SandboxOperations {
  /** Runs a shell line. A command that fails is a result. */
  exec(command: string, options?: EnvExecOptions): Promise<DriverResult>;
  /** The file as UTF-8; bytes that are not become U+FFFD. Fails with `ENOENT`, `EISDIR`. */
  readFile(path: string): Promise<string>;
  /** The bytes of a file, all of them in memory. Fails with `ENOENT`, `EISDIR`. */
  readFileBuffer(path: string): Promise<Uint8Array>;
  /** Creates or replaces a file. */
  writeFile(path: string, content: string | Uint8Array): Promise<void>;
  /** What a path names, links followed. Fails with `ENOENT`. */
  stat(path: string): Promise<EnvStat>;
  /** The names in a directory, in any order. Fails with `ENOENT`, `ENOTDIR`. */
  readdir(path: string): Promise<string[]>;
  /** Whether there is something at a path, links followed. */
  exists(path: string): Promise<boolean>;
  /** Makes a directory. Without `recursive` fails with `EEXIST`, or with `ENOENT` for want of a parent. */
  mkdir(path: string, options?: { recursive?: boolean }): Promise<void>;
  /** Removes a file. A directory needs `recursive`, else `EISDIR`. With `force` what is not there is fine. */
  rm(path: string, options?: { recursive?: boolean; force?: boolean }): Promise<void>;
  /** Bytes of a file from `start` to `end`, both counted from 0, `end` included. Left out: the whole file is read. */
  createReadStream?(path: string, options?: { start?: number; end?: number }): AsyncIterable<Uint8Array>;
  /** The path without links. Left out: those that lead out of the working directory are followed like others. */
  realpath?(path: string): Promise<string>;
  /**
   * Finds files by their names: paths relative to `path`, newest first, without `.git`; a pattern without `/` matches at
   * any depth. `truncated`: there are more than `limit`. Left out: the tools search by `exec`
   */
  glob?(pattern: string, options?: GlobOptions): Promise<{ paths: string[]; truncated: boolean }>;
  /**
   * Whether it has ended, and nothing can be done in it any more: asked before a message to an agent instance is worked
   * on, so that another one can be opened. Left out: it never has
   */
  isGone?(): Promise<boolean>;
  /**
   * Finds lines that match, without `.git` and what `.gitignore` names, at most `limit` of them; `total` counts all. Left
   * out: the tools search by `exec`
   */
  grep?(pattern: string, options?: GrepOptions): Promise<{ matches: Match[]; truncated: boolean; total?: number }>;
}

/** What the author of a driver writes, for `sandboxFromDriver`. */
export interface SandboxDriver extends SandboxOperations {
  /**
   * Makes copies of the sandbox, one for each name, with the files as they are now and without its processes. Left out: files
   * can't be a transaction here
   */
  fork?(request: ForkRequest): Promise<DriverFork[]>;
  /** Remembers the files below a directory as they are now. Left out: `harness.checkpoint` is refused */
  checkpoint?(request: CheckpointRequest): Promise<FilesCheckpoint>;
}

/** What forks are made by, or found again. */
export interface ForkRequest {
  /** One for each fork: 1 to 200 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`, and no other one's in this sandbox. */
  names: readonly string[];
  /** Absolute: what is changed below it can be put in place by `land`, all else ends with the fork. */
  root: string;
  /**
   * Interrupted work goes on: the forks must be there, with their files, else it fails with `SandboxGoneError`. Without it
   * what an interrupted call has left under the names is removed first
   */
  resume: boolean;
  /** Aborts when the forks are no longer wanted. */
  signal: AbortSignal;
}

/** A fork, as the author of a driver writes it. */
export interface DriverFork extends SandboxDriver {
  /**
   * Puts what was changed below `root` of the request in place in the sandbox that this is a fork of: all of it or, if it
   * fails, nothing. Paths that are the same there by now are no conflict, so it can be done again after an interruption.
   * Fails with `FilesConflictError` where the same path was changed there, too, in another way
   */
  land(options: { signal: AbortSignal }): Promise<void>;
  /** As that of `DriverOptions`. What was not put in place by then is thrown away, unless it is `suspended` or `left`. */
  dispose(outcome?: WorkOutcome): void | Promise<void>;
}

/** What a checkpoint is made by, or found again. */
export interface CheckpointRequest {
  /** As a name of a fork. One that was used is used anew. */
  name: string;
  /** Absolute: the directory that is remembered. */
  root: string;
  /** Interrupted work goes on: it was made before, and is not made anew. */
  resume: boolean;
  /** Aborts when it is no longer wanted. */
  signal: AbortSignal;
}

/** Files as they were. */
export interface FilesCheckpoint {
  /**
   * Puts them back as they were, and removes what has come since: all of it or, if it fails, nothing. Any number of times.
   * Fails with `SandboxGoneError` where it is no longer kept
   */
  rollback(options: { signal: AbortSignal }): Promise<void>;
  /** Forgets them. */
  drop(): Promise<void>;
}

/**
 * How the run or action ended that a sandbox was for. `suspended`: it goes on later, in this process or another one; `left`:
 * another process has gone on with it.
 */
export type WorkOutcome = 'completed' | 'failed' | 'cancelled' | 'suspended' | 'left';

/** A sandbox as the runtime sees it. Relative paths resolve against `cwd`. */
export interface SandboxEnv extends SandboxOperations {
  /** Absolute. */
  readonly cwd: string;
  /** Runs a shell line, with no input. A command that fails is a result. */
  exec(command: string, options?: EnvExecOptions): Promise<ExecResult>;
  /** With `docker()`: the session on the wire, with all of its processes and files. */
  readonly session?: Session;
  /**
   * Starts a command as it is, without a shell; it ends with the environment at the latest, and waits for who reads its
   * output. Left out where no process can be talked to.
   */
  spawn?(command: readonly string[], options?: { cwd?: string; env?: Record<string, string> }): Promise<SandboxProcess>;
  /** The absolute path that a relative one means here, without `.` and `..`. */
  resolvePath(path: string): string;
  /** Keeps a sandbox that ends when it is not used from doing so. @returns ends that */
  keepAwake?(): () => void;
  /**
   * An environment for a child harness: the same files, its own process tree, working directory and variables. Its
   * `close` ends every command that it started.
   * @param options.name - the same when the child is opened again, with `resume` too, and no other one's in this sandbox
   */
  open(options?: { name?: string; cwd?: string; env?: Record<string, string> }): Promise<SandboxEnv>;
  /**
   * Copies of the sandbox, one for each name, with the files as they are now and without its processes. What can be put in
   * place is what is changed below the directory of the sandbox, or below `cwd` where that lies outside of it. Left out where
   * there are none
   */
  fork?(request: Omit<ForkRequest, 'root'>): Promise<SandboxFork[]>;
  /** Remembers the files below that directory as they are now. Left out where that can't be done */
  checkpoint?(request: Omit<CheckpointRequest, 'root'>): Promise<FilesCheckpoint>;
  /**
   * Ends every command that was started here; of the root environment also what the factory made for it.
   * @param outcome - of the run or action that it was for, or of an agent instance that ends with its runtime. Left out: it
   * is asked for again by its key, and the files have to be there then. `suspended`: that too, with `resume`, and commands
   * with a key that can outlive this process, as with `docker()`, are left running, to be joined. `left`: nothing of it is
   * touched
   */
  close(outcome?: WorkOutcome): Promise<void>;
}

/** A copy of a sandbox, whose changes count when they are put in place. To close it otherwise throws them away. */
export interface SandboxFork extends SandboxEnv {
  /**
   * Puts what was changed in place, in the sandbox that this is a fork of: all of it or, if it fails, nothing. It can be done
   * again.
   * @throws {FilesConflictError} the same path was changed there, too, in another way
   */
  land(options: { signal: AbortSignal }): Promise<void>;
}

/** Makes the sandboxes of runs and agent instances: `docker()`, `local()` and `virtual()` give one. */
export interface SandboxFactory {
  /** What whoever runs the program must know; written to the log once per runtime. */
  readonly warning?: string;
  /** What its sandboxes never get, and is masked in what their work tells and keeps. */
  readonly secrets?: readonly string[];
  /**
   * Tools for the model in place of the six built-in ones, made for each prompt.
   * @param options.subagents - those that the agent may give tasks to
   */
  tools?(
    env: SandboxEnv,
    options: { subagents: readonly { name: string; description?: string }[] },
  ): readonly ToolDefinition[];
  /** Called once for each root harness; `close` of what it gives ends what it made. */
  createSandbox(request: SandboxRequest): Promise<SandboxEnv>;
}

/** What a sandbox is made for, or found again. */
export interface SandboxRequest {
  /** An agent instance, which may go on later, or a run. */
  kind: 'agent' | 'run';
  /** Of the agent instance or run. */
  id: string;
  /** The name of the agent, where `kind` is `agent`: instances of two agents may have one id. */
  agent?: string;
  /** The same whenever a sandbox is asked for this work, and another one for any other work of any store. */
  key: string;
  /** Later processes may ask for it again: the store is a file. */
  isDurable: boolean;
  /** Interrupted work goes on: the files of before must be there, else it fails with `SandboxGoneError`. */
  resume: boolean;
  /** Aborts when the sandbox is no longer wanted. */
  signal: AbortSignal;
  /** The host of the runtime, opened when it is first asked for. */
  host: () => Promise<SandboxHost>;
  /** Tells of a container in the events of the work. */
  onEvent: (event: SandboxEvent) => void;
}
