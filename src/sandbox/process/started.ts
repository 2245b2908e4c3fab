import type { Readable, Writable } from 'node:stream';
import { WireStreamError } from '../../protocol/errors.ts';
import type { WireStream } from '../../protocol/mux.ts';
import type { ProcessEnd, ProcessStarted } from '../../protocol/process.ts';
import { OutputGoneError, ProcessEndedError, ProcessLostError } from '../errors.ts';
import { check, killOptions, signalName } from '../options.ts';
import type { Pause } from '../pause.ts';
import { requestError } from '../request-error.ts';
import { readable, writable } from '../streams.ts';
import { AnswerError, type Call, type Wire } from '../wire.ts';
import { listProcesses } from './list.ts';

/** How long a tree that was asked to end has for it. */
const usualGraceMs = 2_000;

/** A process that runs, or has run. */
export interface Started {
  processId: string;
  pid: number;
  /** Of one on a terminal. */
  view: ProcessStarted['view'];
  ended: Promise<ProcessEnd>;
  kill: (signal: string, killMs?: number) => Promise<void>;
}

/** Sends a signal. The one that is usual for its kind is followed by SIGKILL, another one where that is asked for. */
export async function sendSignal(
  { kill }: Started,
  pause: Pause,
  usual: string,
  signal = usual,
  options: { graceMs?: number } = {},
): Promise<void> {
  check('kill', signalName, signal);
  const { graceMs = signal === usual ? usualGraceMs : undefined } = check('kill', killOptions, options);
  await pause.now(kill(signal, graceMs));
}

/** For when nobody waits for it any more. Where the wire is gone nobody can. */
export function killNow({ kill }: Started): void {
  void kill('SIGKILL').catch(() => {});
}

/** As `killNow`, and waits until it is dead, for which its outputs must be read or given up. */
export async function killed(started: Started, pause: Pause): Promise<void> {
  const dead = started.kill('SIGKILL').then(() => started.ended);
  await pause.now(dead).catch(() => {}); // without the sandbox there is no process, and a paused one ends when resumed
}

/** Kills the process tree when `signal` aborts. @returns ends that */
export function killOnAbort(started: Started, signal: AbortSignal | undefined): () => void {
  const onAbort = () => killNow(started);
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort, { once: true });
  return () => signal?.removeEventListener('abort', onAbort);
}

/** Starts a process, or joins one. When that fails its streams are put away. */
export async function begin(
  wire: Wire,
  call: Extract<Call, { type: 'process.start' | 'process.attach' | 'pty.open' | 'pty.attach' }>,
  streams: readonly WireStream[],
): Promise<Started> {
  try {
    const [started, exited] = wire.call2(call, 'process.started', 'process.exited');
    const { processId, pid, view } = await started;
    const ended = exited.then(
      ({ end }) => end,
      (error: unknown) => {
        const isLost = error instanceof AnswerError && error.code === 'process_lost';
        throw isLost ? new ProcessLostError({ processId }, { cause: error }) : error;
      },
    );
    ended.catch(() => {}); // told to those who wait for it
    const kill = async (signal: string, killMs?: number) => {
      const grace = killMs !== undefined && { graceMs: killMs };
      try {
        await wire.call({ type: 'process.kill', processId, signal, ...grace }, 'ok');
      } catch (error) {
        throw requestError(error, 'send a signal');
      }
    };
    return { processId, pid, view, ended, kill };
  } catch (error) {
    for (const stream of streams) {
      stream.reset();
      stream.cancel();
    }
    throw explain(error);
  }
}

export function explain(error: unknown): unknown {
  return requestError(error, 'run the command');
}

export interface OutputOptions {
  processId: string;
  name: 'stdout' | 'stderr';
  /** The byte that comes first. */
  at: number;
  backpressure: boolean;
  rest: boolean;
}

/** One output of a process. */
export class Output {
  /** Told where bytes that are no longer kept are passed over. Left out: they are an error. */
  onGap: (() => void) | undefined;
  readonly #wire: Wire;
  readonly #options: OutputOptions;
  #stream: WireStream;
  #at: number;
  #isCancelled = false;

  constructor(wire: Wire, stream: WireStream, options: OutputOptions) {
    this.#wire = wire;
    this.#stream = stream;
    this.#options = options;
    this.#at = options.at;
  }

  /**
   * The next bytes, or `null` at the end.
   * @throws {OutputGoneError} they are no longer kept
   */
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      try {
        const chunk = await this.#stream.read();
        this.#at += chunk?.length ?? 0;
        return chunk;
      } catch (error) {
        const isGone = error instanceof WireStreamError && error.meta.reason === 'gone';
        if (!isGone) throw explain(error);
        const to = this.onGap && (await this.#endOfGap());
        if (to === undefined) {
          const { processId, name } = this.#options;
          throw new OutputGoneError({ processId, output: name, from: this.#at }, { cause: error });
        }
        await this.#goOnAt(to);
        this.onGap?.();
      }
    }
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#stream.cancel();
  }

  async #endOfGap(): Promise<number | undefined> {
    const { processId, name } = this.#options;
    const listed = (await listProcesses(this.#wire)).find(({ id }) => id === processId);
    return listed?.[name].gaps.find(([from, to]) => from <= this.#at && this.#at < to)?.[1];
  }

  async #goOnAt(from: number): Promise<void> {
    const { processId, name, backpressure, rest } = this.#options;
    this.#stream = this.#wire.openStream({ send: false, receive: true });
    this.#at = from;
    const output = { [name]: { stream: this.#stream.id, from } };
    await begin(this.#wire, { type: 'process.attach', processId, ...output, backpressure, rest }, [this.#stream]);
    if (this.#isCancelled) this.#stream.cancel();
  }
}

/** What a process writes. `watch` gets each chunk that is read. */
export function outputOf(source: Output, watch: (chunk: Uint8Array) => void): Readable {
  const output = readable(
    async () => {
      const chunk = await source.read();
      if (chunk) watch(chunk);
      return chunk;
    },
    () => source.cancel(),
  );
  // Who reads gets the error from the reading, and wait() tells it too; an event that nobody listens for would end the
  // host.
  output.on('error', () => {});
  return output;
}

/** What a process reads. `stream`: none for one that takes no input. */
export function inputOf(processId: string, stream: WireStream | undefined, hasEnded: () => boolean): Writable {
  const input = writable({
    write: async (chunk) => {
      try {
        if (!stream || hasEnded()) throw new WireStreamError('cancelled');
        await stream.write(chunk);
      } catch (error) {
        const isGone = error instanceof WireStreamError && error.meta.reason !== 'closed';
        throw isGone ? new ProcessEndedError({ processId }, { cause: error }) : explain(error);
      }
    },
    end: async () => stream?.end(),
    cancel: async () => stream?.reset(),
  });
  input.on('error', () => {}); // as above
  return input;
}

/** What nobody reads would keep the end from coming. Whoever reads has asked for it by now. @param before - it is read here */
export function readUnread(output: Readable, before = () => {}): void {
  if (output.readableFlowing !== null || output.listenerCount('readable') > 0) return;
  before();
  output.resume();
}

export function closed(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.readableEnded || stream.closed) resolve();
    stream.once('end', resolve).once('close', resolve);
  });
}
