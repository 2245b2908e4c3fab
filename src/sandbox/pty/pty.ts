import type { Readable, Writable } from 'node:stream';
import { abortError } from '../../errors.ts';
import type { WireStream } from '../../protocol/mux.ts';
import {
  type AttachPtyOptions,
  attachPtyOptions,
  check,
  type PtyOptions,
  type PtySize,
  processId as processIdSchema,
  ptyOptions,
  ptySize,
} from '../options.ts';
import { resolvePath } from '../path.ts';
import type { Pause } from '../pause.ts';
import { checkSize, type Place } from '../process/exec.ts';
import {
  begin,
  closed,
  explain,
  inputOf,
  killed,
  killOnAbort,
  Output,
  outputOf,
  readUnread,
  type Started,
  sendSignal,
} from '../process/started.ts';
import { requestError } from '../request-error.ts';
import type { Wire } from '../wire.ts';

/** How what ran on a terminal ended. Sizes are bytes. */
export interface PtyExit {
  /** `null` when a signal ended it. 127: not found; 126: not executable. */
  exitCode: number | null;
  /** The signal that ended it, as in `SIGKILL`, else `null`. */
  signal: string | null;
  /** It was killed when its `timeout` was over. */
  timedOut: boolean;
  /** The kernel killed a process of the sandbox for want of memory meanwhile. */
  oomKilled: boolean;
  /** What came on the terminal in all. */
  outputBytes: number;
  /** From its start to its end. */
  durationMs: number;
}

/**
 * A terminal in a sandbox. Disposing the one that `pty()` gave kills all that runs on it; disposing one of `attachPty()`
 * ends only that view of it.
 */
export interface Pty extends AsyncDisposable {
  /** For `attachPty`, and for `processes()`. */
  readonly id: string;
  /** Of the shell or command, inside of the sandbox; 0 when it could not be started. */
  readonly pid: number;
  /** When this view began. */
  readonly size: PtySize;
  /** How much at the start of `output` draws the screen as it was. 0 for who opened the terminal, and with `from`. */
  readonly screenBytes: number;
  /** Which byte of what the programs wrote follows on that. With what was read since it is the `from` of a later view. */
  readonly from: number;
  /** What comes on the screen, as it is: bytes with escape sequences, cut anywhere. */
  readonly output: Readable;
  /** What is typed. Its end is none for the program: Ctrl-D is the byte 4, Ctrl-C the byte 3. */
  readonly input: Writable;
  /**
   * Types on the terminal; resolves when there is room for more.
   * @throws {ProcessEndedError} nothing runs on it any more
   */
  write(data: string | Uint8Array): Promise<void>;
  /** The programs on it are told (SIGWINCH). One that has ended is no error. */
  resize(size: PtySize): Promise<void>;
  /**
   * Resolves when the shell or command has ended and its output was read; output that nobody reads is read here.
   * @throws {SandboxDiedError} the container ended meanwhile
   */
  wait(): Promise<PtyExit>;
  /**
   * Sends a signal to all that was started on it. One that has ended is no error.
   * @param signal - default: SIGHUP, as of a terminal that is closed
   * @param options.graceMs - then what is left gets SIGKILL. Default: 2,000 for SIGHUP, never for another signal
   */
  kill(signal?: string, options?: { graceMs?: number }): Promise<void>;
}

export async function openPty(place: Place, given: PtyOptions): Promise<Pty> {
  const { command, cols, rows, cwd = '.', env, user, umask, timeout, key, signal } = check('pty', ptyOptions, given);
  if (signal?.aborted) throw abortError(signal.reason);
  const directory = resolvePath(place.cwd, cwd);
  checkSize('pty', [command, env, directory]);
  const argv = typeof command === 'string' ? ['/bin/sh', '-c', command] : command;
  const wire = await place.wire();
  const [input, output] = streams(wire);
  const call = {
    type: 'pty.open',
    sessionId: place.sessionId,
    ...(argv !== undefined && { argv }),
    cwd: directory,
    env,
    ...(user !== undefined && { user }),
    ...(umask !== undefined && { umask }),
    ...(timeout !== undefined && { timeoutMs: timeout }),
    ...(key !== undefined && { key }),
    size: { columns: cols, rows },
    input: input.id,
    output: output.id,
  } as const;
  const started = await begin(wire, call, [input, output]);
  return new View(wire, place.pause, started, { input, output, signal, timeout, isOwner: true });
}

export async function attachPty(place: Place, ptyId: string, given: AttachPtyOptions = {}): Promise<Pty> {
  const processId = check('attachPty', processIdSchema, ptyId);
  const { size, from } = check('attachPty', attachPtyOptions, given);
  const wire = await place.wire();
  const [input, output] = streams(wire);
  const call = {
    type: 'pty.attach',
    processId,
    ...(size && { size: { columns: size.cols, rows: size.rows } }),
    input: input.id,
    output: { stream: output.id, ...(from !== undefined && { from }) },
  } as const;
  const started = await begin(wire, call, [input, output]);
  return new View(wire, place.pause, started, {
    input,
    output,
    signal: undefined,
    timeout: undefined,
    isOwner: false,
  });
}

function streams(wire: Wire): readonly [input: WireStream, output: WireStream] {
  return wire.openStreams({ send: true, receive: false }, { send: false, receive: true });
}

/** A sandbox-agent that says nothing of it lies: nothing then comes of it but a screen that may look wrong. */
const noView = { size: { columns: 80, rows: 24 }, screenBytes: 0, from: 0 };

interface ViewOptions {
  input: WireStream;
  output: WireStream;
  signal: AbortSignal | undefined;
  timeout: number | undefined;
  /** The terminal ends with it. */
  isOwner: boolean;
}

class View implements Pty {
  readonly id: string;
  readonly pid: number;
  readonly size: PtySize;
  readonly screenBytes: number;
  readonly from: number;
  readonly output: Readable;
  readonly input: Writable;
  readonly #wire: Wire;
  readonly #pause: Pause;
  readonly #started: Started;
  readonly #isOwner: boolean;
  readonly #exit: Promise<PtyExit>;
  #hasEnded = false;

  constructor(wire: Wire, pause: Pause, started: Started, { input, output, signal, timeout, isOwner }: ViewOptions) {
    this.#wire = wire;
    this.#pause = pause;
    this.#started = started;
    this.#isOwner = isOwner;
    this.id = started.processId;
    this.pid = started.pid;
    const { size, screenBytes, from } = started.view ?? noView;
    this.size = { cols: size.columns, rows: size.rows };
    this.screenBytes = screenBytes;
    this.from = from;
    const how = {
      processId: this.id,
      name: 'stdout',
      at: from - screenBytes,
      backpressure: false,
      rest: false,
    } as const;
    this.output = outputOf(new Output(wire, output, how), () => {});
    this.input = inputOf(this.id, input, () => this.#hasEnded);
    this.#exit = pause.unlessPaused(this.#finish(signal), { signal, timeoutMs: timeout });
    this.#exit.catch(() => {}); // who wants it awaits wait()
  }

  write(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      // After the first error Node only says that there was one.
      this.input.write(data, (error) => (error ? reject(this.input.errored ?? error) : resolve()));
    });
  }

  async resize(given: PtySize): Promise<void> {
    const { cols, rows } = check('resize', ptySize, given);
    try {
      await this.#wire.call({ type: 'pty.resize', processId: this.id, size: { columns: cols, rows } }, 'ok');
    } catch (error) {
      throw requestError(error, 'resize the terminal');
    }
  }

  wait(): Promise<PtyExit> {
    readUnread(this.output);
    return this.#exit;
  }

  kill(signal?: string, options?: { graceMs?: number }): Promise<void> {
    return sendSignal(this.#started, this.#pause, 'SIGHUP', signal, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.output.destroy();
    this.input.destroy();
    if (this.#isOwner) await killed(this.#started, this.#pause);
  }

  async #finish(signal: AbortSignal | undefined): Promise<PtyExit> {
    const stopListening = killOnAbort(this.#started, signal);
    try {
      const { exitCode, signal: endedBy, timedOut, oomKilled, stdoutBytes, durationMs } = await this.#started.ended;
      this.#hasEnded = true;
      await closed(this.output);
      if (signal?.aborted) throw abortError(signal.reason);
      return { exitCode, signal: endedBy, timedOut, oomKilled, outputBytes: stdoutBytes, durationMs };
    } catch (error) {
      throw signal?.aborted ? abortError(signal.reason) : explain(error);
    } finally {
      stopListening();
    }
  }
}
