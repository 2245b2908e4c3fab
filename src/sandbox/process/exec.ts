import type { Readable, Writable } from 'node:stream';
import { abortError } from '../../errors.ts';
import { limits } from '../../protocol/limits.ts';
import type { WireStream } from '../../protocol/mux.ts';
import type { ProcessEnd } from '../../protocol/process.ts';
import { InvalidOptionsError, OutputGoneError } from '../errors.ts';
import {
  type AttachOptions,
  attachOptions,
  type CheckedExecOptions as Checked,
  type Command,
  check,
  command as commandSchema,
  type ExecOptions,
  execOptions,
  processId as processIdSchema,
} from '../options.ts';
import { resolvePath } from '../path.ts';
import type { Pause } from '../pause.ts';
import type { Wire } from '../wire.ts';
import { feed } from './input.ts';
import { NewestOutput } from './newest-output.ts';
import { oomKills, watchOomKills } from './oom.ts';
import type { ExecResult } from './result.ts';
import {
  begin,
  closed,
  explain,
  inputOf,
  killed,
  killNow,
  killOnAbort,
  Output,
  outputOf,
  readUnread,
  type Started,
  sendSignal,
} from './started.ts';

/** Where commands of a session start. */
export interface Place {
  wire: () => Promise<Wire>;
  pause: Pause;
  sessionId: string;
  cwd: string;
}

/** A process in a sandbox. Disposing it kills it. */
export interface Process extends AsyncDisposable {
  /** For `attach`, and that of `processes()`. */
  readonly id: string;
  /** Inside of the sandbox; 0 when the command could not be started. */
  readonly pid: number;
  /** What it writes, as bytes. Fails with `OutputGoneError` when its reader is too far behind. */
  readonly stdout: Readable;
  /** As `stdout`. */
  readonly stderr: Readable;
  /** Takes what the process reads. After its end a write fails with `ProcessEndedError`. */
  readonly stdin: Writable;
  /**
   * Resolves when the process has ended and its output was read; output that nobody reads is read here.
   * @throws {SandboxDiedError} the container ended meanwhile
   */
  wait(): Promise<ExecResult>;
  /**
   * Sends a signal to the whole process tree. One that has ended is no error. In a paused sandbox it arrives when that
   * is resumed, which is not waited for.
   * @throws {SandboxPausedError}
   * @param signal - default: SIGTERM
   * @param options.graceMs - then what is left gets SIGKILL. Default: 2,000 for SIGTERM, never for another signal
   * @example await server.kill('SIGINT', { graceMs: 10_000 });
   */
  kill(signal?: string, options?: { graceMs?: number }): Promise<void>;
}

interface OnPipes extends Started {
  stdin: WireStream | undefined;
  stdout: Output;
  stderr: Output;
}

export async function exec(place: Place, command: Command, given: ExecOptions = {}): Promise<ExecResult> {
  const options = check('exec', execOptions, given);
  return place.pause.unlessPaused(run(place, command, options), { ...options, timeoutMs: options.timeout });
}

async function run(place: Place, command: Command, options: Checked): Promise<ExecResult> {
  const { signal } = options;
  const started = await start('exec', place, command, options, options.stdin !== undefined);
  const stopListening = killOnAbort(started, signal);
  const stdout = new NewestOutput(options.maxOutput);
  const stderr = new NewestOutput(options.maxOutput);
  try {
    const [end] = await Promise.all([
      started.ended,
      collect(started.stdout, stdout, options.onStdout),
      collect(started.stderr, stderr, options.onStderr),
      started.stdin && options.stdin !== undefined && feed(started.stdin, options.stdin, started.ended),
    ]);
    if (signal?.aborted) throw abortError(signal.reason);
    return toResult(end, stdout, stderr);
  } catch (error) {
    // The output could not be read, or the input or a callback failed: nobody is left to wait for the process.
    started.stdout.cancel();
    started.stderr.cancel();
    // Of what has a key others may have the whole output, or ask for it.
    if (!(error instanceof OutputGoneError && options.key !== undefined)) await killed(started, place.pause);
    throw signal?.aborted ? abortError(signal.reason) : explain(error);
  } finally {
    stopListening();
  }
}

export async function spawn(place: Place, command: Command, given: ExecOptions = {}): Promise<Process> {
  const options = check('spawn', execOptions, given);
  const { signal } = options;
  const starting = start('spawn', place, command, options, true);
  // Given up on in a paused sandbox: nobody is left to have the process.
  starting.then((started) => signal?.aborted && killNow(started)).catch(() => {});
  return new RunningProcess(place.pause, await place.pause.unlessPaused(starting, { signal }), options);
}

/** Follows a process that was started before, from these bytes of its output on. */
export async function attach(place: Place, id: string, given: AttachOptions = {}): Promise<Process> {
  const processId = check('attach', processIdSchema, id);
  const options = check('attach', attachOptions, given);
  const wire = await place.wire();
  const [stdout, stderr] = wire.openStreams({ send: false, receive: true }, { send: false, receive: true });
  const call = {
    type: 'process.attach',
    processId,
    stdout: { stream: stdout.id, from: options.stdout },
    stderr: { stream: stderr.id, from: options.stderr },
    backpressure: options.backpressure,
    rest: options.rest,
  } as const;
  const started = await begin(wire, call, [stdout, stderr]);
  const { backpressure, rest } = options;
  const how = { processId: started.processId, backpressure, rest };
  return new RunningProcess(
    place.pause,
    {
      ...started,
      stdin: undefined,
      stdout: new Output(wire, stdout, { ...how, name: 'stdout', at: options.stdout }),
      stderr: new Output(wire, stderr, { ...how, name: 'stderr', at: options.stderr }),
    },
    options,
  );
}

class RunningProcess implements Process {
  readonly id: string;
  readonly pid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable;
  readonly #pause: Pause;
  readonly #started: OnPipes;
  readonly #kept: readonly [stdout: NewestOutput, stderr: NewestOutput];
  readonly #result: Promise<ExecResult>;
  #hasEnded = false;
  /** What a callback threw. */
  #failure: { error: unknown } | undefined;

  constructor(pause: Pause, started: OnPipes, options: Pick<Checked, 'maxOutput'> & Partial<Checked>) {
    this.#pause = pause;
    this.#started = started;
    this.id = started.processId;
    this.pid = started.pid;
    this.#kept = [new NewestOutput(options.maxOutput), new NewestOutput(options.maxOutput)];
    this.stdout = this.#output(started.stdout, this.#kept[0], options.onStdout);
    this.stderr = this.#output(started.stderr, this.#kept[1], options.onStderr);
    this.stdin = inputOf(this.id, started.stdin, () => this.#hasEnded);
    let fed: Promise<void> = Promise.resolve();
    if (started.stdin && options.stdin !== undefined) fed = feed(started.stdin, options.stdin, started.ended);
    const { signal, timeout } = options;
    this.#result = pause.unlessPaused(this.#finish(fed, signal), { signal, timeoutMs: timeout });
    this.#result.catch(() => {}); // who wants it awaits wait()
  }

  wait(): Promise<ExecResult> {
    const { stdout, stderr } = this.#started;
    const [keptStdout, keptStderr] = this.#kept;
    readUnread(this.stdout, () => {
      stdout.onGap = () => keptStdout.restart();
    });
    readUnread(this.stderr, () => {
      stderr.onGap = () => keptStderr.restart();
    });
    return this.#result;
  }

  kill(signal?: string, options?: { graceMs?: number }): Promise<void> {
    return sendSignal(this.#started, this.#pause, 'SIGTERM', signal, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stdout.destroy();
    this.stderr.destroy();
    this.stdin.destroy();
    await killed(this.#started, this.#pause);
  }

  async #finish(fed: Promise<void>, signal: AbortSignal | undefined): Promise<ExecResult> {
    const stopListening = killOnAbort(this.#started, signal);
    try {
      const [end] = await Promise.all([this.#started.ended, fed]);
      this.#hasEnded = true;
      await Promise.all([closed(this.stdout), closed(this.stderr)]);
      if (signal?.aborted) throw abortError(signal.reason);
      if (this.#failure) throw this.#failure.error;
      return toResult(end, ...this.#kept);
    } catch (error) {
      await killed(this.#started, this.#pause);
      throw signal?.aborted ? abortError(signal.reason) : explain(error);
    } finally {
      stopListening();
    }
  }

  #output(source: Output, kept: NewestOutput, watch: ((chunk: Uint8Array) => void) | undefined): Readable {
    const output = outputOf(source, (chunk) => {
      kept.add(chunk);
      try {
        watch?.(chunk);
      } catch (error) {
        this.#failure ??= { error };
        killNow(this.#started); // nobody else may be waiting for it
        throw error;
      }
    });
    if (watch) output.resume();
    return output;
  }
}

async function start(
  operation: string,
  place: Place,
  command: Command,
  options: Checked,
  withStdin: boolean,
): Promise<OnPipes> {
  const argv = check(operation, commandSchema, command);
  if (options.login && typeof argv !== 'string') {
    const message = 'is for a string, which a shell runs: an array is started without one';
    throw new InvalidOptionsError({ operation, issues: [{ path: 'login', message }] });
  }
  if (options.signal?.aborted) throw abortError(options.signal.reason);
  const cwd = resolvePath(place.cwd, options.cwd ?? '.');
  checkSize(operation, [argv, options.env, cwd]);
  const wire = await place.wire();
  const outputs = [
    { send: false, receive: true },
    { send: false, receive: true },
  ] as const;
  const [stdout, stderr, stdin] = withStdin
    ? wire.openStreams(...outputs, { send: true, receive: false })
    : [...wire.openStreams(...outputs), undefined];
  const call = {
    type: 'process.start',
    sessionId: place.sessionId,
    argv: typeof argv === 'string' ? ['/bin/sh', ...(options.login ? ['-l'] : []), '-c', argv] : argv,
    env: options.env,
    detached: options.detached,
    backpressure: options.backpressure,
    stdout: stdout.id,
    stderr: stderr.id,
    ...(stdin && { stdin: stdin.id }),
    cwd,
    ...(options.user !== undefined && { user: options.user }),
    ...(options.umask !== undefined && { umask: options.umask }),
    ...(options.timeout !== undefined && { timeoutMs: options.timeout }),
    ...(options.key !== undefined && { key: options.key }),
  } as const;
  const { onOomKill } = options;
  const killsBefore = onOomKill && (await oomKills(wire));
  const started = await begin(wire, call, stdin ? [stdin, stdout, stderr] : [stdout, stderr]);
  const how = { processId: started.processId, at: 0, backpressure: options.backpressure, rest: false };
  const ended =
    onOomKill && killsBefore !== undefined
      ? watchOomKills(wire, killsBefore, started.ended, onOomKill).then(() => started.ended)
      : started.ended;
  ended.catch(() => {}); // told to those who wait for it; who gave up while it started does not
  return {
    ...started,
    ended,
    stdin,
    stdout: new Output(wire, stdout, { ...how, name: 'stdout' }),
    stderr: new Output(wire, stderr, { ...how, name: 'stderr' }),
  };
}

/** What the wire could not carry is refused before a stream is opened for it. */
export function checkSize(operation: string, parts: unknown): void {
  const rest = 4 * 1024; // of the message: its ids and names
  if (Buffer.byteLength(JSON.stringify(parts)) + rest > limits.message) {
    const message = `arguments and environment are more than ${limits.message} bytes together`;
    throw new InvalidOptionsError({ operation, issues: [{ path: '', message }] });
  }
}

async function collect(output: Output, kept: NewestOutput, watch?: (chunk: Uint8Array) => void): Promise<void> {
  // The result has the newest bytes, wherever those before them are; who gets each piece must know that one is missing.
  if (!watch) output.onGap = () => kept.restart();
  for (let chunk = await output.read(); chunk; chunk = await output.read()) {
    kept.add(chunk);
    watch?.(chunk);
  }
}

function toResult(end: ProcessEnd, stdout: NewestOutput, stderr: NewestOutput): ExecResult {
  return {
    ...end,
    stdout: stdout.text(),
    stderr: stderr.text(),
    truncated: stdout.keptBytes < end.stdoutBytes || stderr.keptBytes < end.stderrBytes,
  };
}
