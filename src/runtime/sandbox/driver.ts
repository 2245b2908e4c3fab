import { posix } from 'node:path';
import { abortError, BerthError } from '../../errors.ts';
import { FileError } from '../../sandbox/errors.ts';
import { resolvePath } from '../../sandbox/path.ts';
import { defaultMaxOutput, NewestOutput } from '../../sandbox/process/newest-output.ts';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { Problems } from '../define/checks.ts';
import { HarnessClosedError } from '../errors.ts';
import { LinkedAbort } from '../linked-abort.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import type {
  DriverFork,
  DriverResult,
  EnvExecOptions,
  EnvStat,
  SandboxDriver,
  SandboxEnv,
  SandboxFork,
  WorkOutcome,
} from './env.ts';
import { fileError } from './file-error.ts';
import { filesRoot } from './files-root.ts';

const required = 'exec readFile readFileBuffer writeFile stat readdir exists mkdir rm'.split(' ');
const optional = ['createReadStream', 'realpath', 'isGone', 'glob', 'grep', 'fork', 'checkpoint'];
/** How long an aborted driver may take to say that the command has ended. */
const confirmationMs = 1_000;
const longestTimeoutMs = 2 ** 31 - 1; // drivers use timers, and a longer one of Node fires at once

/** What `sandboxFromDriver` needs to know besides the operations. */
export interface DriverOptions {
  /** The working directory, absolute. */
  cwd: string;
  /**
   * Ends what the driver works with; called once, when the commands that were under way have ended.
   * @param outcome - how the work in it ended. Left out, or `suspended`: it will be asked for again by its key, with its files
   */
  dispose?: (outcome?: WorkOutcome) => void | Promise<void>;
}

/**
 * Makes a sandbox of the few operations that a driver has: what a `SandboxFactory` of your own gives. The driver gets
 * absolute paths without `.` and `..`. Commands under way are aborted with the harness that started them; what they left
 * in the background ends when the driver ends it, in `dispose` at the latest.
 * @throws {DefinitionError} an operation is missing, or an option is not known or not of its type
 * @example
 * const remote: SandboxFactory = {
 *   async createSandbox({ id }) {
 *     const machine = await rent(id);
 *     return sandboxFromDriver(machine.driver, { cwd: '/home/me', dispose: () => machine.giveBack() });
 *   },
 * };
 */
export function sandboxFromDriver(driver: SandboxDriver, options: DriverOptions): SandboxEnv {
  const problems = new Problems('The sandbox driver');
  const operations: Record<string, unknown> = Object(driver); // any value: only the types of its fields are looked at
  for (const name of required) problems.function(operations[name], name);
  for (const name of optional)
    problems.optional(operations[name], name, (value, path) => problems.function(value, path));
  const { cwd, dispose } = problems.record(options, 'options', { known: ['cwd', 'dispose'] });
  if (typeof cwd !== 'string' || !cwd.startsWith('/')) problems.add('options.cwd', 'must be an absolute path');
  problems.optional(dispose, 'options.dispose', (value, path) => problems.function(value, path));
  problems.throwIfAny();
  const root = resolvePath('/', options.cwd);
  return new DriverEnv(driver, { root, cwd: root, variables: {}, dispose: options.dispose });
}

class DriverEnv implements SandboxEnv {
  readonly cwd: string;
  readonly #driver: SandboxDriver;
  /** The directory of the sandbox. */
  readonly #root: string;
  readonly #variables: Record<string, string>;
  readonly #dispose: DriverOptions['dispose'];
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;
  /** There when the driver has them: the tools have other ways without. */
  readonly createReadStream?: NonNullable<SandboxDriver['createReadStream']>;
  readonly realpath?: NonNullable<SandboxDriver['realpath']>;
  readonly isGone?: NonNullable<SandboxDriver['isGone']>;
  readonly glob?: NonNullable<SandboxDriver['glob']>;
  readonly grep?: NonNullable<SandboxDriver['grep']>;
  readonly fork?: NonNullable<SandboxEnv['fork']>;
  readonly checkpoint?: NonNullable<SandboxEnv['checkpoint']>;

  /** @param options.dispose - left out for child harnesses */
  constructor(
    driver: SandboxDriver,
    options: {
      root: string;
      cwd: string;
      variables: Record<string, string>;
      dispose?: DriverOptions['dispose'];
    },
  ) {
    const { root, cwd, variables, dispose } = options;
    this.cwd = cwd;
    this.#driver = driver;
    this.#root = root;
    this.#variables = variables;
    this.#dispose = dispose;
    const { createReadStream, realpath, isGone, glob, grep, fork, checkpoint } = driver;
    if (isGone) this.isGone = () => isGone.call(driver);
    if (createReadStream) {
      this.createReadStream = (path, options) =>
        this.#reading(path, (at) => createReadStream.call(driver, at, options));
    }
    if (realpath) this.realpath = (path) => this.#withFile('realpath', path, (at) => realpath.call(driver, at));
    if (glob) {
      this.glob = (pattern, { path = '.', ...options } = {}) =>
        this.#withFile('glob', path, (at) => glob.call(driver, pattern, { ...options, path: at }));
    }
    if (grep) {
      this.grep = (pattern, { path = '.', ...options } = {}) =>
        this.#withFile('grep', path, (at) => grep.call(driver, pattern, { ...options, path: at }));
    }
    if (fork) {
      this.fork = async (request) => {
        const forks = await fork.call(driver, { ...request, root: this.#filesRoot });
        return forks.map((made) => new ForkedDriverEnv(made, { root, cwd, variables }));
      };
    }
    if (checkpoint) this.checkpoint = (request) => checkpoint.call(driver, { ...request, root: this.#filesRoot });
  }

  get #filesRoot(): string {
    return filesRoot(this.#root, this.cwd);
  }

  resolvePath(path: string): string {
    return resolvePath(this.cwd, path);
  }

  async exec(command: string, options: EnvExecOptions = {}): Promise<ExecResult> {
    const { signal, cwd = '.', env, timeoutMs, key, maxOutput = defaultMaxOutput } = options;
    if (signal?.aborted) throw abortError(signal.reason);
    if (this.#closing) throw new HarnessClosedError(); // nobody would end the command
    const at = this.resolvePath(cwd);
    const stop = new LinkedAbort(signal, this.#stop.signal);
    const startedAt = performance.now();
    const told = new Set<'stdout' | 'stderr'>();
    let failure: { error: unknown } | undefined;
    let unconfirmed: DOMException | undefined;
    let over = false;
    const tell = (stream: 'stdout' | 'stderr', chunk: Uint8Array) => {
      if (over) return; // a driver that was given up may still be at work
      told.add(stream);
      try {
        (stream === 'stdout' ? options.onStdout : options.onStderr)?.(chunk);
      } catch (error) {
        failure ??= { error }; // thrown out of here it would end in the driver
        stop.abort(error);
      }
    };
    // Asynchronous, so that a driver that throws at once is like one that rejects.
    const running = (async () =>
      this.#driver.exec(command, {
        cwd: at,
        env: { ...this.#variables, ...env },
        signal: stop.signal,
        maxOutput,
        onStdout: (chunk) => tell('stdout', chunk),
        onStderr: (chunk) => tell('stderr', chunk),
        ...(key !== undefined && { key }),
        // After 24 days is taken for never, which is late but not early.
        ...(timeoutMs !== undefined && timeoutMs <= longestTimeoutMs && { timeoutMs }),
      }))();
    const ended = unlessIgnored(running, stop.signal, {
      graceMs: confirmationMs,
      giveUp: () => {
        unconfirmed = abortError(
          stop.signal.reason,
          'The command was aborted, but the sandbox did not confirm that it has ended: it may still run.',
        );
        return unconfirmed;
      },
    });
    this.#running.add(ended);
    try {
      const result = await ended;
      for (const stream of ['stdout', 'stderr'] as const) {
        // A driver that shows nothing while it comes has shown nothing of it yet.
        if (!told.has(stream) && result[stream] !== '') tell(stream, Buffer.from(result[stream]));
      }
      stop.signal.throwIfAborted();
      return filledIn(result, maxOutput, Math.round(performance.now() - startedAt));
    } catch (error) {
      if (failure) throw failure.error;
      throw (
        unconfirmed ?? (stop.signal.aborted ? abortError(stop.signal.reason) : fileError(error, 'run a command in', at))
      );
    } finally {
      over = true;
      this.#running.delete(ended);
      stop.release();
    }
  }

  readFile(path: string): Promise<string> {
    return this.#withFile('read', path, (at) => this.#driver.readFile(at));
  }

  readFileBuffer(path: string): Promise<Uint8Array> {
    return this.#withFile('read', path, (at) => this.#driver.readFileBuffer(at));
  }

  writeFile(path: string, content: string | Uint8Array): Promise<void> {
    return this.#withFile('write', path, async (at) => {
      try {
        await this.#driver.writeFile(at, content);
      } catch (error) {
        // Of ours only those about files: others say that nothing can or may be done.
        if (error instanceof BerthError && !(error instanceof FileError)) throw error;
        await this.#driver.mkdir(posix.dirname(at), { recursive: true }).catch(() => {
          throw error; // the first error is the one to report
        });
        await this.#driver.writeFile(at, content);
      }
    });
  }

  stat(path: string): Promise<EnvStat> {
    return this.#withFile('stat', path, (at) => this.#driver.stat(at));
  }

  readdir(path: string): Promise<string[]> {
    return this.#withFile('readdir', path, (at) => this.#driver.readdir(at));
  }

  async exists(path: string): Promise<boolean> {
    try {
      return await this.#driver.exists(this.resolvePath(path));
    } catch {
      return false; // it never fails
    }
  }

  mkdir(path: string, options?: { recursive?: boolean }): Promise<void> {
    return this.#withFile('mkdir', path, (at) => this.#driver.mkdir(at, options));
  }

  rm(path: string, options?: { recursive?: boolean; force?: boolean }): Promise<void> {
    return this.#withFile('rm', path, (at) => this.#driver.rm(at, options));
  }

  async open({ cwd = '.', env }: { cwd?: string; env?: Record<string, string> } = {}): Promise<SandboxEnv> {
    const variables = { ...this.#variables, ...env };
    return new DriverEnv(this.#driver, { root: this.#root, cwd: this.resolvePath(cwd), variables });
  }

  close(outcome?: WorkOutcome): Promise<void> {
    this.#closing ??= this.#close(outcome);
    return this.#closing;
  }

  async #close(outcome: WorkOutcome | undefined): Promise<void> {
    this.#stop.abort(new HarnessClosedError());
    await Promise.allSettled(this.#running);
    await this.#dispose?.(outcome);
  }

  async *#reading(path: string, read: (at: string) => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* read(this.resolvePath(path));
    } catch (error) {
      throw fileError(error, 'read', path);
    }
  }

  async #withFile<Result>(operation: string, path: string, work: (at: string) => Promise<Result>): Promise<Result> {
    try {
      return await work(this.resolvePath(path));
    } catch (error) {
      throw fileError(error, operation, path);
    }
  }
}

class ForkedDriverEnv extends DriverEnv implements SandboxFork {
  readonly #fork: DriverFork;

  constructor(fork: DriverFork, options: { root: string; cwd: string; variables: Record<string, string> }) {
    super(fork, { ...options, dispose: (outcome) => fork.dispose(outcome) });
    this.#fork = fork;
  }

  land(options: { signal: AbortSignal }): Promise<void> {
    return this.#fork.land(options);
  }
}

function filledIn(given: DriverResult, maxOutput: number, durationMs: number): ExecResult {
  const stdout = newest(given.stdout, maxOutput);
  const stderr = newest(given.stderr, maxOutput);
  return {
    signal: null,
    stdoutBytes: stdout.total,
    stderrBytes: stderr.total,
    timedOut: false,
    oomKilled: false,
    durationMs,
    ...given,
    stdout: stdout.text(),
    stderr: stderr.text(),
    truncated: given.truncated === true || stdout.truncated || stderr.truncated,
    ...(given.timedOut && { exitCode: 124, signal: null }),
  };
}

/** Also of a driver that keeps all of it. */
function newest(text: string, maxOutput: number): NewestOutput {
  const output = new NewestOutput(maxOutput);
  output.add(Buffer.from(text));
  return output;
}
