import type { SandboxHost, Session } from '../../sandbox/index.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';

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
  /** Bytes kept per stream for the result, the newest ones; the rest is counted. Default: 16 MiB */
  maxOutput?: number;
  /** Called with each piece of output as it comes. */
  onStdout?: (chunk: Uint8Array) => void;
  onStderr?: (chunk: Uint8Array) => void;
}

/** What a path names, links followed. `size` is bytes, `mtime` a date; both are left out when not known. */
export interface EnvStat {
  isFile: boolean;
  isDirectory: boolean;
  isSymbolicLink?: boolean;
  size?: number;
  mtime?: Date;
}

export interface GlobOptions {
  /** The directory that the pattern is relative to. Default: `cwd` */
  path?: string;
  limit?: number;
}

/** One line that matched. `line` counts from 1. */
export interface GrepMatch {
  path: string;
  line: number;
  text: string;
}

export interface GrepOptions {
  path?: string;
  /** Only files whose name (or path, when it holds a `/`) matches this glob. */
  include?: string;
  /** The pattern is plain text, not a regular expression. Default: false */
  literal?: boolean;
  limit?: number;
}

/** What an author of a driver writes: runtime-contract.md, section 10.1. */
export interface SandboxDriver {
  exec(command: string, options?: EnvExecOptions): Promise<ExecResult>;
  readFile(path: string): Promise<string>;
  readFileBuffer(path: string): Promise<Uint8Array>;
  writeFile(path: string, content: string | Uint8Array): Promise<void>;
  stat(path: string): Promise<EnvStat>;
  readdir(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  mkdir(path: string, options?: { recursive?: boolean }): Promise<void>;
  rm(path: string, options?: { recursive?: boolean; force?: boolean }): Promise<void>;
  /** Bytes of a file from `start` to `end`, both counted from 0, `end` included. Left out: the whole file is read. */
  createReadStream?(path: string, options?: { start?: number; end?: number }): AsyncIterable<Uint8Array>;
  /** Paths relative to `path`, files only, newest first, without `.git`. Left out: the tools search by `exec`. */
  glob?(pattern: string, options?: GlobOptions): Promise<{ paths: string[]; truncated: boolean }>;
  /** Left out: the tools search by `exec`. */
  grep?(pattern: string, options?: GrepOptions): Promise<{ matches: GrepMatch[]; truncated: boolean; total?: number }>;
}

/** A sandbox as the runtime sees it. Relative paths resolve against `cwd`. */
export interface SandboxEnv extends SandboxDriver {
  readonly cwd: string;
  /** With `docker()`: the session on the wire, with all of its processes and files. */
  readonly session?: Session;
  resolvePath(path: string): string;
  /**
   * An environment for a child harness: the same files, its own process tree, working directory and variables. Its
   * `close` ends every command that it started.
   */
  open(options?: { name?: string; cwd?: string; env?: Record<string, string> }): Promise<SandboxEnv>;
  /** Ends every command that was started here; of the root environment also what the factory made for it. */
  close(): Promise<void>;
}

/** Makes the sandbox of one agent instance or run: runtime-contract.md, section 10.1. */
export interface SandboxFactory {
  /** What whoever runs the program must know; written to the log when a runtime first uses the factory. */
  readonly warning?: string;
  createSandbox(request: {
    id: string;
    kind: 'agent' | 'run';
    resume: boolean;
    signal: AbortSignal;
    /** The host of the runtime, opened when it is first asked for. */
    host: () => Promise<SandboxHost>;
  }): Promise<SandboxEnv>;
}
