import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError } from '../../errors.ts';
import { NewestOutput } from '../../sandbox/process/newest-output.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { DefinitionError } from '../define/errors.ts';
import type { EnvExecOptions, SandboxEnv, SandboxFactory } from './env.ts';

const passedOn = [
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'HOSTNAME', 'SHELL', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TERM'],
  ...['TMPDIR', 'TMP', 'TEMP'],
];
const termGraceMs = 2_000;
const defaultMaxOutput = 16 * 1024 * 1024;

export interface LocalOptions {
  /** Default: `process.cwd()` */
  cwd?: string;
  /** Added to the few variables of this process that commands get; `undefined` removes one. */
  env?: Record<string, string | undefined>;
}

/**
 * No sandbox at all: commands and files are those of the host, with the rights of this process. For development only.
 * @throws {DefinitionError} `env` is no record of strings
 */
export function local({ cwd = process.cwd(), env = {} }: LocalOptions = {}): SandboxFactory {
  if (typeof env !== 'object' || env === null || Array.isArray(env)) {
    throw new DefinitionError('local()', [{ path: 'env', message: 'must be a record of strings' }]);
  }
  const given = Object.fromEntries(passedOn.map((name) => [name, process.env[name]]));
  const variables = { ...given, ...env };
  return {
    warning: 'local() is no sandbox: what the model runs has all rights of this process. Use docker() for a boundary.',
    createSandbox: async () => new LocalEnv(resolve(cwd), variables),
  };
}

class LocalEnv implements SandboxEnv {
  readonly cwd: string;
  readonly #variables: Record<string, string | undefined>;
  readonly #running = new Set<ChildProcess>();

  constructor(cwd: string, variables: Record<string, string | undefined>) {
    this.cwd = cwd;
    this.#variables = variables;
  }

  resolvePath(path: string): string {
    return resolve(this.cwd, path);
  }

  async exec(command: string, options: EnvExecOptions = {}): Promise<ExecResult> {
    const { signal, timeoutMs, maxOutput = defaultMaxOutput } = options;
    if (signal?.aborted) throw abortError(signal.reason);
    const startedAt = performance.now();
    const child = spawn('/bin/sh', ['-c', command], {
      cwd: this.resolvePath(options.cwd ?? '.'),
      env: { ...this.#variables, ...options.env },
      detached: true, // a group of its own, so that all of it can be killed
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.add(child);
    const stdout = new NewestOutput(maxOutput);
    const stderr = new NewestOutput(maxOutput);
    child.stdout.on('data', (chunk: Buffer) => {
      stdout.add(chunk);
      options.onStdout?.(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr.add(chunk);
      options.onStderr?.(chunk);
    });
    let timedOut = false;
    const onAbort = () => void endGroup(child);
    const timer =
      timeoutMs !== undefined &&
      setTimeout(() => {
        timedOut = true;
        void endGroup(child);
      }, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const [exitCode, ended] = await new Promise<[number | null, NodeJS.Signals | null]>((settle, fail) => {
        child.once('error', fail);
        // A process that was left behind may hold the pipes open: what the command wrote has come a moment later.
        child.once('exit', (...end) => void Promise.race([closed(child), sleep(100)]).then(() => settle(end)));
      });
      if (signal?.aborted) throw abortError(signal.reason);
      return {
        exitCode: timedOut ? 124 : exitCode,
        signal: timedOut ? null : ended,
        stdout: stdout.text(),
        stderr: stderr.text(),
        stdoutBytes: stdout.total,
        stderrBytes: stderr.total,
        truncated: stdout.truncated || stderr.truncated,
        timedOut,
        oomKilled: false,
        durationMs: performance.now() - startedAt,
      };
    } finally {
      if (timer) clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      if (!isGroupAlive(child)) this.#running.delete(child);
    }
  }

  readFile(path: string): Promise<string> {
    return readFile(this.resolvePath(path), 'utf8');
  }

  readFileBuffer(path: string): Promise<Uint8Array> {
    return readFile(this.resolvePath(path));
  }

  async writeFile(path: string, content: string | Uint8Array): Promise<void> {
    const to = this.resolvePath(path);
    await mkdir(dirname(to), { recursive: true });
    await writeFile(to, content);
  }

  async stat(path: string) {
    const found = await stat(this.resolvePath(path));
    return { isFile: found.isFile(), isDirectory: found.isDirectory(), size: found.size, mtime: found.mtime };
  }

  readdir(path: string): Promise<string[]> {
    return readdir(this.resolvePath(path));
  }

  async exists(path: string): Promise<boolean> {
    return stat(this.resolvePath(path)).then(
      () => true,
      () => false,
    );
  }

  async mkdir(path: string, { recursive = false }: { recursive?: boolean } = {}): Promise<void> {
    await mkdir(this.resolvePath(path), { recursive });
  }

  rm(path: string, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    return rm(this.resolvePath(path), options);
  }

  createReadStream(path: string, options: { start?: number; end?: number } = {}): AsyncIterable<Uint8Array> {
    return createReadStream(this.resolvePath(path), options);
  }

  async open({ cwd, env }: { cwd?: string; env?: Record<string, string> } = {}): Promise<SandboxEnv> {
    return new LocalEnv(cwd === undefined ? this.cwd : this.resolvePath(cwd), { ...this.#variables, ...env });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running].map(endGroup));
    this.#running.clear();
  }
}

/** SIGTERM to the whole group, and SIGKILL to what is left of it after 2 s. */
async function endGroup(child: ChildProcess): Promise<void> {
  signalGroup(child, 'SIGTERM');
  for (let waited = 0; waited < termGraceMs && isGroupAlive(child); waited += 20) await sleep(20);
  signalGroup(child, 'SIGKILL');
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  if (pid === undefined) return false; // it could not be started
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false; // nothing of it is left
  }
}

function isGroupAlive(child: ChildProcess): boolean {
  return signalGroup(child, 0);
}

function closed(child: ChildProcess): Promise<void> {
  return new Promise((settle) => child.once('close', () => settle()));
}
