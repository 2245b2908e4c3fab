import { createHash, type KeyObject, sign } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { BerthError } from '../errors.ts';
import {
  WireAuthenticationError,
  WireProtocolError,
  WireResumeError,
  WireStreamError,
  WireVersionError,
} from '../protocol/errors.ts';
import { closedCode, protocolVersion, resumeMs, signedText, type Welcome } from '../protocol/handshake.ts';
import { limits } from '../protocol/limits.ts';
import {
  type Answer,
  encodeHandshake,
  encodeMessage,
  HandshakeReader,
  isLimited,
  parseAnswer,
  parseHello,
  parseResumed,
  parseWelcome,
  type Request,
} from '../protocol/messages.ts';
import { Mux, type StreamDirections, type WireStream } from '../protocol/mux.ts';
import { WebSocket } from '../protocol/websocket.ts';

type AnswerType = Exclude<Answer['type'], 'error'>;
type AnswerOf<Type extends AnswerType> = Extract<Answer, { type: Type }>;
type WithoutId<Message> = Message extends unknown ? Omit<Message, 'requestId'> : never;
/** A request, before it has a number. */
export type Call = WithoutId<Request>;

/** The sandbox-agent's `error`: the feature that asked makes an error of ours of it. */
export class AnswerError extends Error {
  readonly code: string;
  /** Of an archive: the entry at which it failed. */
  readonly entry: string | undefined;
  constructor(code: string, message: string, entry?: string) {
    super(message);
    this.code = code;
    this.entry = entry;
  }
}

interface Expected {
  type: AnswerType;
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

export interface WireOptions {
  sandboxId: string;
  privateKey: KeyObject;
  /** Says why the connection ended, for all that wait: by then the container may have ended too. */
  explainEnd: (cause: Error | undefined) => Promise<Error>;
  /** Ends it, at any time; its reason is the cause. */
  signal?: AbortSignal;
  /** How to go on when the transport breaks. Left out: the connection ends with it. */
  rejoin?: Rejoin;
}

export interface Rejoin {
  /** Makes a new transport; tries once. */
  connect: () => Promise<Duplex>;
  /** What the engine says now. */
  state: () => Promise<'running' | 'paused' | 'ended'>;
  /** Aborts when the container ends. */
  ended: AbortSignal;
}

/** As the sandbox-agent's: on a machine that is overloaded, a new sandbox takes ten seconds and more for its part. */
const handshakeMs = 30_000;
const cancelPatienceMs = 2_000;
const firstRetryMs = 50;
const maxRetryMs = 1_000;
/** While something is under way: what was not heard of for this long is asked, ... */
const heartbeatMs = 10_000;
/** ... and when it is still not heard of after so many times more, the transport is taken for broken. */
const missedHeartbeats = 3;

/**
 * One connection to a sandbox-agent: requests with their answers, and streams. When its transport breaks it is joined
 * again over a new one, and nobody notices but by the time.
 */
export class Wire {
  readonly #options: WireOptions;
  readonly #mux: Mux;
  readonly #pending = new Map<number, Expected[]>();
  /** Of `limits.requests`: those that were sent, ... */
  readonly #underWay = new Set<number>();
  /** ... and the payloads of those for which there is no room yet. */
  readonly #keptBack = new Map<number, Uint8Array>();
  readonly #stop = new AbortController();
  #socket: WebSocket | undefined;
  /** Takes the transport for broken. */
  #lose: (() => void) | undefined;
  /** Ends the wait for a handshake. */
  #giveUp: ((cause?: Error) => void) | undefined;
  #lastRequest = 0;
  #welcome: Welcome | undefined;
  #ending: Promise<Error> | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #heard = true;
  #missed = 0;
  #lastJoined = 0;

  private constructor(options: WireOptions) {
    this.#options = options;
    this.#mux = new Mux({
      side: 'host',
      send: (pieces) => this.#socket?.send(pieces),
      isBehind: () => this.#socket?.isBehind ?? false,
      onMessage: this.#onAnswer,
    });
  }

  /**
   * Opens the connection on a stream, and ends the stream when that fails.
   * @throws {WireVersionError}
   * @throws {WireAuthenticationError} the sandbox was made with another key
   * @throws {WireProtocolError} what is at the other end is no sandbox-agent
   */
  static async open(stream: Duplex, options: WireOptions): Promise<Wire> {
    const { signal } = options;
    const wire = new Wire(options);
    signal?.addEventListener('abort', () => void wire.end(signal.reason), { signal: wire.#stop.signal });
    try {
      const joining = wire.#join(stream);
      if (signal?.aborted) void wire.end(signal.reason);
      await joining;
      return wire;
    } catch (error) {
      // Why the connection ended says more than that it did.
      throw await wire.end(error instanceof Error ? error : undefined);
    }
  }

  /** What the sandbox said of itself. */
  get welcome(): Welcome {
    if (!this.#welcome) throw new TypeError('The handshake is not over.');
    return this.#welcome;
  }

  get isOpen(): boolean {
    return this.#ending === undefined;
  }

  /** @throws {TooManyStreamsError} */
  openStream(directions: StreamDirections): WireStream {
    return this.#mux.open(directions);
  }

  /** As `openStream`: all of them, or none. */
  openStreams<const All extends readonly StreamDirections[]>(...all: All): { [Index in keyof All]: WireStream } {
    return this.#mux.openAll(...all);
  }

  /**
   * Sends a request.
   * @param signal - of an operation on files: asks the sandbox-agent to end it, which is then an `AnswerError`
   * @throws {AnswerError} the sandbox-agent could not do it
   */
  call<Type extends AnswerType>(call: Call, answer: Type, signal?: AbortSignal): Promise<AnswerOf<Type>> {
    // The cast is proven by #onAnswer, which takes no other type of answer for it.
    return this.#send(call, [answer], signal)[0] as Promise<AnswerOf<Type>>;
  }

  /** Sends a request that is answered twice; when the first answer is an error, both promises reject with it. */
  call2<First extends AnswerType, Second extends AnswerType>(
    call: Call,
    first: First,
    second: Second,
    signal?: AbortSignal,
  ): [Promise<AnswerOf<First>>, Promise<AnswerOf<Second>>] {
    return this.#send(call, [first, second], signal) as [Promise<AnswerOf<First>>, Promise<AnswerOf<Second>>]; // as in `call`
  }

  /** Closes the connection; what waits on it is told why. Twice is once. */
  end(cause?: Error): Promise<Error> {
    this.#ending ??= this.#end(cause);
    return this.#ending;
  }

  async #end(cause: Error | undefined): Promise<Error> {
    this.#stop.abort();
    clearTimeout(this.#heartbeat);
    this.#close();
    this.#giveUp?.(cause);
    let error: Error;
    try {
      error = await this.#options.explainEnd(cause);
    } catch (failure) {
      error = failure instanceof Error ? failure : new Error(String(failure));
    }
    this.#mux.close(error);
    for (const answers of this.#pending.values()) for (const answer of answers) answer.reject(error);
    this.#pending.clear();
    this.#keptBack.clear();
    return error;
  }

  #send(call: Call, types: AnswerType[], signal?: AbortSignal): Promise<Answer>[] {
    if (this.#ending) {
      const ended = this.#ending.then((error) => Promise.reject(error));
      ended.catch(() => {});
      return types.map(() => ended);
    }
    do this.#lastRequest = (this.#lastRequest + 1) >>> 0;
    while (this.#pending.has(this.#lastRequest));
    const requestId = this.#lastRequest;
    const payload = encodeMessage({ ...call, requestId } as Request); // what `Call` is without its number
    const expected: Expected[] = [];
    const answers = types.map((type) => {
      const answer = new Promise<Answer>((resolve, reject) => expected.push({ type, resolve, reject }));
      answer.catch(() => {}); // who asked may look later, or only at the other one
      return answer;
    });
    this.#pending.set(requestId, expected);
    if (!isLimited(call)) this.#mux.sendMessage(payload);
    else if (this.#underWay.size < limits.requests) this.#sendLimited(requestId, payload);
    else this.#keptBack.set(requestId, payload);
    this.#heartbeat ??= this.#beat();
    if (signal) this.#cancelOnAbort(requestId, expected, answers.at(-1), signal);
    return answers;
  }

  #sendLimited(requestId: number, payload: Uint8Array): void {
    this.#underWay.add(requestId);
    this.#mux.sendMessage(payload);
  }

  /** A sandbox-agent that does not end the work in time is not waited for. */
  #cancelOnAbort(target: number, expected: Expected[], last: Promise<Answer> | undefined, signal: AbortSignal): void {
    let timer: NodeJS.Timeout | undefined;
    const giveUp = (reason: string) => {
      for (const { reject } of expected) reject(new AnswerError('cancelled', reason));
    };
    const cancel = () => {
      if (this.#keptBack.delete(target)) {
        this.#pending.delete(target);
        giveUp('it was not begun');
        return;
      }
      void this.call({ type: 'cancel', target }, 'ok').catch(() => {}); // the connection ended, and the work with it
      timer = setTimeout(() => giveUp('it may still be under way'), cancelPatienceMs);
    };
    const stop = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', cancel);
    };
    last?.then(stop, stop);
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  }

  readonly #onAnswer = (payload: Uint8Array): void => {
    const answer = parseAnswer(payload);
    const expected = this.#pending.get(answer.requestId);
    const next = expected?.[0];
    const isAsked = !this.#keptBack.has(answer.requestId);
    if (!expected || !next || !isAsked) throw new WireProtocolError('an answer to nothing that was asked');
    if (answer.type === 'error') {
      this.#settle(answer.requestId);
      for (const { reject } of expected) reject(new AnswerError(answer.code, answer.message, answer.entry));
      return;
    }
    // Thrown while it is still among those that wait, and so is told.
    if (answer.type !== next.type) throw new WireProtocolError('an answer to something else than what was asked');
    expected.shift();
    if (expected.length === 0) this.#settle(answer.requestId);
    next.resolve(answer);
  };

  /** It has all its answers, and may leave room for another one. */
  #settle(requestId: number): void {
    this.#pending.delete(requestId);
    if (!this.#underWay.delete(requestId)) return;
    const [next] = this.#keptBack;
    if (!next) return;
    this.#keptBack.delete(next[0]);
    this.#sendLimited(...next);
  }

  /** Resolves when the handshake is over; from then on what becomes of the transport is looked after here. */
  #join(stream: Duplex): Promise<void> {
    return new Promise((resolve, reject) => {
      let isJoined = false;
      this.#giveUp = (error) => {
        clearTimeout(timer);
        reject(error ?? new Error('the connection was closed'));
      };
      const lose = (error?: Error) => {
        this.#giveUp?.(error);
        socket.terminate();
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        if (isJoined) this.#onLost(error);
      };
      const timer = setTimeout(() => {
        const late = 'no handshake in time';
        lose(this.#welcome ? new Error(late) : new WireProtocolError(late));
      }, handshakeMs);
      const answer = (payload: Uint8Array) => {
        if (this.#welcome) this.#resume(payload);
        else this.#begin(payload);
        clearTimeout(timer);
        isJoined = true;
        this.#lastJoined = performance.now();
        resolve();
      };
      let step = (payload: Uint8Array) => {
        socket.send([this.#authenticate(payload)]);
        step = answer;
      };
      const handshake = new HandshakeReader();
      const socket = new WebSocket(stream, 'client', {
        sha1: (bytes) => createHash('sha1').update(bytes).digest(),
        onOpen: () => {},
        onBytes: (piece, isLast) => {
          this.#heard = true;
          try {
            if (isJoined) return this.#mux.receive(piece);
            const payload = handshake.take(piece, isLast);
            if (payload) step(payload);
          } catch (error) {
            lose(error instanceof Error ? error : undefined);
          }
        },
        onPong: () => {
          this.#heard = true;
        },
        onClose: ({ error }) => {
          // On the way back in, what is at the other end may be the engine, which says that it can't reach the sandbox now.
          const isOfEngine = this.#welcome && !isJoined && error instanceof WireProtocolError;
          lose(isOfEngine ? new Error(error.message, { cause: error }) : error);
        },
      });
      this.#socket = socket;
      this.#lose = lose;
    });
  }

  #authenticate(payload: Uint8Array): Uint8Array {
    const { sandboxId, privateKey } = this.#options;
    const hello = parseHello(payload);
    if (hello.protocol !== protocolVersion) {
      throw new WireVersionError({ host: protocolVersion, agent: hello.protocol, agentVersion: hello.agentVersion });
    }
    const signature = sign(null, Buffer.from(signedText(sandboxId, hello.nonce)), privateKey).toString('hex');
    const resume = this.#welcome && { connection: this.#welcome.connection, received: this.#mux.received };
    return encodeHandshake({ type: 'authenticate', protocol: protocolVersion, signature, ...(resume && { resume }) });
  }

  #begin(payload: Uint8Array): void {
    const welcome = parseWelcome(payload);
    if (welcome.type === 'refused') throw new WireAuthenticationError({ sandboxId: this.#options.sandboxId });
    this.#welcome = welcome;
  }

  #resume(payload: Uint8Array): void {
    const { sandboxId } = this.#options;
    const answer = parseResumed(payload);
    if (answer.type === 'refused') throw new WireAuthenticationError({ sandboxId });
    if (answer.type === 'unknown_connection') {
      const reason = answer.boot === this.welcome.boot ? 'expired' : 'restarted';
      throw new WireResumeError({ sandboxId, reason });
    }
    this.#mux.resume(answer.received);
  }

  #onLost(error: Error | undefined): void {
    const { rejoin } = this.#options;
    if (this.#ending) return;
    if (error instanceof BerthError || !rejoin) void this.end(error);
    else void this.#rejoin(rejoin, error);
  }

  /**
   * The first try is at once: most often it is only the transport that has gone. One that breaks as soon as it is joined
   * must not keep the host busy.
   */
  async #rejoin({ connect, state, ended }: Rejoin, cause: Error | undefined): Promise<void> {
    this.#mux.detach();
    const signal = AbortSignal.any([ended, this.#stop.signal]);
    let failure = cause;
    let since = performance.now();
    const firstMs = since - this.#lastJoined < firstRetryMs ? firstRetryMs : 0;
    for (let waitMs = firstMs; !this.#ending; waitMs = Math.min(2 * waitMs || firstRetryMs, maxRetryMs)) {
      if (waitMs > 0) {
        await wait(waitMs, undefined, { signal }).catch(() => {}); // looked at now
        const now = ended.aborted ? 'ended' : await state().catch(() => 'unknown');
        if (now === 'ended' || performance.now() - since > resumeMs) return void this.end(failure);
        if (now === 'paused') {
          // Time stands still in there.
          since = performance.now();
          continue;
        }
      }
      let stream: Duplex;
      try {
        stream = await connect();
      } catch (error) {
        failure = error instanceof Error ? error : failure;
        if (error instanceof WireProtocolError) return void this.end(error);
        continue;
      }
      if (this.#ending) return void stream.destroy();
      try {
        return await this.#join(stream);
      } catch (error) {
        failure = error instanceof Error ? error : failure;
        if (error instanceof BerthError) return void this.end(error);
      }
    }
  }

  /** Says to the sandbox-agent that nobody comes back. */
  #close(): void {
    this.#socket?.close(closedCode);
    this.#socket = undefined;
  }

  /**
   * A transport may hang and say nothing of it. Looked at only while something is under way, so that an idle sandbox is
   * left alone; counted, not timed, as the host may have slept.
   */
  #beat(): NodeJS.Timeout {
    return setTimeout(async () => {
      const isIdle = this.#pending.size === 0 && this.#mux.isIdle;
      this.#missed = this.#heard ? 0 : this.#missed + 1;
      this.#heard = false;
      if (this.#missed > missedHeartbeats) {
        // What is frozen says nothing, and is not broken.
        const state = await this.#options.rejoin?.state().catch(() => 'unknown');
        if (state !== 'paused') this.#lose?.();
        this.#missed = 0;
      } else if (!isIdle) {
        this.#socket?.ping();
      }
      this.#heartbeat = isIdle || this.#ending ? undefined : this.#beat();
    }, heartbeatMs).unref();
  }
}

/** What a broken stream means to its user: the reason why the connection ended, where that is the cause. */
export function streamFailure(error: unknown): unknown {
  return error instanceof WireStreamError && error.meta.reason === 'closed' && error.cause ? error.cause : error;
}
