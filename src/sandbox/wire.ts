import { type KeyObject, sign } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { WireAuthenticationError, WireProtocolError, WireStreamError, WireVersionError } from '../protocol/errors.ts';
import { protocolVersion, signedText, type Welcome } from '../protocol/handshake.ts';
import { limits } from '../protocol/limits.ts';
import {
  type Answer,
  encodeMessage,
  parseAnswer,
  parseHello,
  parseWelcome,
  type Request,
} from '../protocol/messages.ts';
import { Mux, type StreamDirections, type WireStream } from '../protocol/mux.ts';

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
}

const handshakeMs = 10_000;
const cancelPatienceMs = 2_000;

/** One connection to a sandbox-agent: requests with their answers, and streams. */
export class Wire {
  readonly #options: WireOptions;
  readonly #socket: WebSocket;
  readonly #mux: Mux;
  readonly #pending = new Map<number, Expected[]>();
  #lastRequest = 0;
  /** Takes the next message until the handshake is over. */
  #onHandshake: ((payload: Uint8Array) => void) | undefined;
  #onHandshakeEnd: ((error: Error) => void) | undefined;
  #welcome: Welcome | undefined;
  #ending: Promise<Error> | undefined;

  private constructor(stream: Duplex, options: WireOptions) {
    this.#options = options;
    this.#mux = new Mux({
      side: 'host',
      send: (bytes) => {
        // What is sent in one turn of the event loop leaves in one write.
        if (!stream.writableCorked) {
          stream.cork();
          process.nextTick(() => stream.uncork());
        }
        this.#socket.send(bytes);
      },
      onMessage: (payload) => (this.#onHandshake ?? this.#onAnswer)(payload),
    });
    this.#mux.decoder.maxMessageBytes = limits.handshakeMessage;
    this.#socket = new WebSocket('ws://berth/wire', {
      createConnection: () => stream,
      perMessageDeflate: false,
      maxPayload: limits.webSocketMessage,
      // The mask is against proxies that take WebSocket for HTTP; there are none on a private socket, and it costs half
      // of the speed of an upload. ws leaves out the work for a mask of zeros.
      generateMask: (mask) => mask.fill(0),
    });
    this.#socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    this.#socket.on('error', (error: NodeJS.ErrnoException) => {
      // What the system says of a connection is ECONNRESET and the like; the rest is about what came over it.
      const isOfSystem = error.code?.startsWith('E') ?? false;
      void this.end(isOfSystem ? error : new WireProtocolError(error.message, { cause: error }));
    });
    this.#socket.on('close', () => void this.end());
  }

  /**
   * Opens the connection on a stream, and ends the stream when that fails.
   * @throws {WireVersionError}
   * @throws {WireAuthenticationError} the sandbox was made with another key
   * @throws {WireProtocolError} what is at the other end is no sandbox-agent
   */
  static async open(stream: Duplex, options: WireOptions): Promise<Wire> {
    const wire = new Wire(stream, options);
    const timer = setTimeout(() => void wire.end(new WireProtocolError('no handshake in time')), handshakeMs);
    try {
      await wire.#shakeHands();
      return wire;
    } catch (error) {
      // Why the connection ended says more than that it did.
      throw await wire.end(error instanceof Error ? error : undefined);
    } finally {
      clearTimeout(timer);
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

  openStream(directions: StreamDirections): WireStream {
    return this.#mux.open(directions);
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
    this.#socket.terminate();
    let error: Error;
    try {
      error = await this.#options.explainEnd(cause);
    } catch (failure) {
      error = failure instanceof Error ? failure : new Error(String(failure));
    }
    this.#onHandshakeEnd?.(error);
    this.#mux.close(error);
    for (const answers of this.#pending.values()) for (const answer of answers) answer.reject(error);
    this.#pending.clear();
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
    this.#mux.sendMessage(payload);
    if (signal) this.#cancelOnAbort(requestId, expected, answers.at(-1), signal);
    return answers;
  }

  /** A sandbox-agent that does not end the work in time is not waited for. */
  #cancelOnAbort(target: number, expected: Expected[], last: Promise<Answer> | undefined, signal: AbortSignal): void {
    let timer: NodeJS.Timeout | undefined;
    const cancel = () => {
      void this.call({ type: 'cancel', target }, 'ok').catch(() => {}); // the connection ended, and the work with it
      timer = setTimeout(() => {
        for (const { reject } of expected) reject(new AnswerError('cancelled', 'it may still be under way'));
      }, cancelPatienceMs);
    };
    const stop = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', cancel);
    };
    last?.then(stop, stop);
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  }

  #receive(data: unknown, isBinary: boolean): void {
    try {
      if (!isBinary || !Buffer.isBuffer(data)) throw new WireProtocolError('a text message');
      this.#mux.receive(data);
    } catch (error) {
      void this.end(error instanceof Error ? error : undefined);
    }
  }

  readonly #onAnswer = (payload: Uint8Array): void => {
    const answer = parseAnswer(payload);
    const expected = this.#pending.get(answer.requestId);
    const next = expected?.[0];
    if (!expected || !next) throw new WireProtocolError('an answer to nothing that was asked');
    if (answer.type === 'error') {
      this.#pending.delete(answer.requestId);
      for (const { reject } of expected) reject(new AnswerError(answer.code, answer.message, answer.entry));
      return;
    }
    // Thrown while it is still among those that wait, and so is told.
    if (answer.type !== next.type) throw new WireProtocolError('an answer to something else than what was asked');
    expected.shift();
    if (expected.length === 0) this.#pending.delete(answer.requestId);
    next.resolve(answer);
  };

  async #shakeHands(): Promise<void> {
    const { sandboxId, privateKey } = this.#options;
    const hello = parseHello(await this.#nextHandshakeMessage());
    if (hello.protocol !== protocolVersion) {
      throw new WireVersionError({ host: protocolVersion, agent: hello.protocol, agentVersion: hello.agentVersion });
    }
    const signature = sign(null, Buffer.from(signedText(sandboxId, hello.nonce)), privateKey).toString('hex');
    const answer = this.#nextHandshakeMessage();
    this.#mux.sendMessage(encodeMessage({ type: 'authenticate', protocol: protocolVersion, signature }));
    const welcome = parseWelcome(await answer);
    if (welcome.type === 'refused') throw new WireAuthenticationError({ sandboxId });
    this.#welcome = welcome;
    this.#onHandshake = undefined;
    this.#onHandshakeEnd = undefined;
    this.#mux.decoder.maxMessageBytes = limits.message;
  }

  /** One message is taken; a further one before it is asked for breaks the protocol. */
  #nextHandshakeMessage(): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#onHandshake = (payload) => {
        this.#onHandshake = () => {
          throw new WireProtocolError('a message that nobody waits for');
        };
        resolve(payload);
      };
      this.#onHandshakeEnd = reject;
    });
  }
}

/** What a broken stream means to its user: the reason why the connection ended, where that is the cause. */
export function streamFailure(error: unknown): unknown {
  return error instanceof WireStreamError && error.meta.reason === 'closed' && error.cause ? error.cause : error;
}
