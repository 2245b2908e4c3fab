import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { abortError } from '../../errors.ts';
import { partBeside } from '../../sandbox/fs/part-beside.ts';
import { defaultMaxOutput, NewestOutput } from '../../sandbox/process/newest-output.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { after } from '../after.ts';
import { Problems } from '../define/checks.ts';
import { HarnessClosedError, SandboxGoneError } from '../errors.ts';
import { isPlainObject } from '../schema/snapshot.ts';
import type { EnvExecOptions, EnvStat, SandboxEnv, SandboxFactory, SandboxProcess } from './env.ts';
import { fileError } from './file-error.ts';

const passedOn = [
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'HOSTNAME', 'SHELL', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TERM'],
  ...['TMPDIR', 'TMP', 'TEMP'],
];
const termGraceMs = 2_000;

/** Options of `local()`. */
export interface LocalOptions {
  /** Where commands start, and relative paths too. Default: `process.cwd()`, when `local()` is called */
  cwd?: string;
  /** Added to the few variables of this process that commands get; `undefined` removes one. */
  env?: Record<string, string | undefined>;
}

/**
 * No sandbox at all: commands and files are those of the host, with the rights of this process. For development only.
 * @throws {DefinitionError} an option is not known, or not of its type
 */
export function local(options: LocalOptions = {}): SandboxFactory {
  const problems = new Problems('local()');
  const { cwd = process.cwd(), env = {} }: LocalOptions = problems.record(options, '', { known: ['cwd', 'env'] });
  problems.text(cwd, 'cwd');
  const values = typeof env === 'object' && env !== null && isPlainObject(env) ? Object.values(env) : [null];
  if (!values.every((value) => value === undefined || typeof value === 'string')) {
    problems.add('env', 'must be a record of strings');
  }
  problems.throwIfAny();
  const given = Object.fromEntries(passedOn.map((name) => [name, process.env[name]]));
  const variables = { ...given, ...env };
  return {
    warning: 'local() is no sandbox: what the model runs has all rights of this process. Use docker() for a boundary.',
    async createSandbox({ kind, id, resume }) {
      const env = new LocalEnv(resolve(cwd), variables);
      if (resume && !(await env.exists('.'))) {
        throw new SandboxGoneError({ kind, id, reason: `${env.cwd} is not there any more` });
      }
      return env;
    },
  };
}

class LocalEnv implements SandboxEnv {
  readonly cwd: string;
  readonly #variables: Record<string, string | undefined>;
  readonly #running = new Set<ChildProcess>();
  #closed = false;

  constructor(cwd: string, variables: Record<string, string | undefined>) {
    this.cwd = cwd;
    this.#variables = variables;
  }

  resolvePath(path: string): string {
    return resolve(this.cwd, path);
  }

  async exec(command: string, options: EnvExecOptions = {}): Promise<ExecResult> {
    const { signal, timeoutMs = Number.POSITIVE_INFINITY, maxOutput = defaultMaxOutput } = options;
    if (signal?.aborted) throw abortError(signal.reason);
    if (this.#closed) throw new HarnessClosedError(); // nobody would end the command
    const startedAt = performance.now();
    const cwd = this.resolvePath(options.cwd ?? '.');
    const child = spawn('/bin/sh', ['-c', command], {
      cwd,
      env: { ...this.#variables, ...options.env },
      detached: true, // a group of its own, so that all of it can be killed
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.add(child);
    const closed = new AbortController(); // its end and that of its output, which may come together
    child.once('close', () => closed.abort());
    const stdout = new NewestOutput(maxOutput);
    const stderr = new NewestOutput(maxOutput);
    let timedOut = false;
    let killed: Promise<void> | undefined;
    let failure: { error: unknown } | undefined;
    const kill = () => {
      killed ??= endGroup(child);
    };
    const collect = (kept: NewestOutput, watch?: (chunk: Uint8Array) => void) => (chunk: Buffer) => {
      kept.add(chunk);
      try {
        watch?.(chunk);
      } catch (error) {
        failure ??= { error }; // thrown out of here it would end the host
        kill();
      }
    };
    child.stdout.on('data', collect(stdout, options.onStdout));
    child.stderr.on('data', collect(stderr, options.onStderr));
    const stopTimer = after(timeoutMs, () => {
      timedOut = true;
      kill();
    });
    signal?.addEventListener('abort', kill, { once: true });
    try {
      const [exitCode, ended] = await new Promise<[number | null, NodeJS.Signals | null]>((settle, fail) => {
        child.once('error', (error) => fail(fileError(error, 'run a command in', cwd)));
        child.once('exit', (...end) => settle(end));
      });
      stopTimer();
      await lastOutput(closed.signal, () => stdout.total + stderr.total);
      await killed; // also what the command had started
      if (signal?.aborted) throw abortError(signal.reason);
      if (failure) throw failure.error;
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
        durationMs: Math.round(performance.now() - startedAt),
      };
    } finally {
      stopTimer();
      signal?.removeEventListener('abort', kill);
      child.stdout.removeAllListeners('data');
      child.stderr.removeAllListeners('data');
      child.stdout.resume(); // a process that was left behind must not wait for a reader
      child.stderr.resume();
      if (!(await isGroupAlive(child))) this.#running.delete(child);
    }
  }

  async spawn(
    [file = '', ...args]: readonly string[],
    options: { cwd?: string; env?: Record<string, string> } = {},
  ): Promise<SandboxProcess> {
    if (this.#closed) throw new HarnessClosedError();
    const cwd = this.resolvePath(options.cwd ?? '.');
    const child = spawn(file, args, {
      cwd,
      env: { ...this.#variables, ...options.env },
      detached: true, // as above
      stdio: 'pipe',
    });
    this.#running.add(child);
    const ended = new Promise<{ exitCode: number | null; signal: string | null }>((resolve, reject) => {
      child.once('error', (error) => reject(fileError(error, 'run a command in', cwd)));
      child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
    });
    ended.catch(() => {}); // told to those who wait for it
    const { stdin, stdout, stderr } = child;
    const wait = () => {
      for (const output of [stdout, stderr]) if (output.readableFlowing === null) output.resume();
      return ended;
    };
    const end = async () => {
      await endGroup(child);
      this.#running.delete(child);
    };
    return { stdin, stdout, stderr, wait, [Symbol.asyncDispose]: end };
  }

  readFile(path: string): Promise<string> {
    return this.#withFile('read', path, (file) => readFile(file, 'utf8'));
  }

  readFileBuffer(path: string): Promise<Uint8Array> {
    return this.#withFile('read', path, (file) => readFile(file));
  }

  writeFile(path: string, content: string | Uint8Array): Promise<void> {
    return this.#withFile('write', path, (file) => replace(file, content));
  }

  stat(path: string): Promise<EnvStat> {
    return this.#withFile('stat', path, async (file) => {
      const found = await stat(file);
      return { isFile: found.isFile(), isDirectory: found.isDirectory(), size: found.size, mtime: found.mtime };
    });
  }

  readdir(path: string): Promise<string[]> {
    return this.#withFile('readdir', path, (file) => readdir(file));
  }

  async exists(path: string): Promise<boolean> {
    return stat(this.resolvePath(path)).then(
      () => true,
      () => false,
    );
  }

  mkdir(path: string, { recursive = false }: { recursive?: boolean } = {}): Promise<void> {
    return this.#withFile('mkdir', path, async (file) => {
      await mkdir(file, { recursive });
    });
  }

  rm(path: string, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    return this.#withFile('rm', path, (file) => rm(file, options));
  }

  async *createReadStream(path: string, options: { start?: number; end?: number } = {}): AsyncGenerator<Uint8Array> {
    try {
      yield* createReadStream(this.resolvePath(path), options);
    } catch (error) {
      throw fileError(error, 'read', path);
    }
  }

  realpath(path: string): Promise<string> {
    return this.#withFile('realpath', path, (file) => realpath(file));
  }

  async open({ cwd, env }: { cwd?: string; env?: Record<string, string> } = {}): Promise<SandboxEnv> {
    return new LocalEnv(cwd === undefined ? this.cwd : this.resolvePath(cwd), { ...this.#variables, ...env });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#running].map(endGroup));
    this.#running.clear();
  }

  async #withFile<Result>(operation: string, path: string, work: (file: string) => Promise<Result>): Promise<Result> {
    try {
      return await work(this.resolvePath(path));
    } catch (error) {
      throw fileError(error, operation, path);
    }
  }
}

/** The old content or the new, at any time. The file of a link is replaced, and keeps its mode. */
async function replace(path: string, content: string | Uint8Array): Promise<void> {
  const named = await ifThere(lstat(path));
  const old = await ifThere(stat(path));
  // A device, a pipe, or a link to nothing is not replaced; a directory is refused.
  if (named && !old?.isFile()) return writeFile(path, content);
  const file = old ? await realpath(path) : path;
  if (!old) await mkdir(dirname(file), { recursive: true });
  const part = partBeside(file);
  try {
    await writeFile(part, content, { flag: 'wx' });
    if (old) await chmod(part, old.mode & 0o7777);
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

async function ifThere<Found>(found: Promise<Found>): Promise<Found | undefined> {
  try {
    return await found;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined; // of node:fs
    throw error;
  }
}

/** SIGTERM to the whole group, and SIGKILL to what is left of it after 2 s. */
async function endGroup(child: ChildProcess): Promise<void> {
  signalGroup(child, 'SIGTERM');
  const patience = performance.now() + termGraceMs;
  while (performance.now() < patience && (await isGroupAlive(child))) await sleep(20);
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

/** The dead that nobody has reaped do not count: in a container without an init they stay for ever. */
async function isGroupAlive(child: ChildProcess): Promise<boolean> {
  if (!signalGroup(child, 0)) return false;
  if (process.platform !== 'linux') return true;
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const line = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => ''); // it has ended meanwhile
    // Its name stands in brackets, and may hold any character.
    const [state, , group] = line.slice(line.lastIndexOf(')') + 2).split(' ');
    if (Number(group) === child.pid && state !== 'Z') return true;
  }
  return false;
}

/**
 * Waits for what a command that has ended wrote last. A process that it left behind may hold the pipes open, so this
 * ends also when nothing more comes; and when more comes for a second, that is of the process.
 */
async function lastOutput(closed: AbortSignal, total: () => number): Promise<void> {
  for (let tries = 0, before = -1; tries < 10 && before !== total() && !closed.aborted; tries++) {
    before = total();
    await sleep(100, undefined, { signal: closed }).catch(() => {}); // closed
    await immediate(); // also when the host was too busy to read in time: what is in the pipes is read before this
  }
}
