import { WireProtocolError, WireStreamError } from './errors.ts';
import { ReceiveWindow, SendWindow } from './flow.ts';
import { encodeFrame, type Frame, FrameDecoder, type ResetReason } from './frame.ts';
import { limits } from './limits.ts';
import { ReceiveQueue } from './receive-queue.ts';

export interface MuxOptions {
  /** The host opens streams with odd numbers, the sandbox-agent with even ones. */
  side: 'host' | 'agent';
  /** Takes bytes for the other side, whole and in order; a WebSocket message each. */
  send: (bytes: Uint8Array) => void;
  /** Called with each message. What it throws goes to the caller of `receive`. */
  onMessage: (payload: Uint8Array) => void;
}

/** Directions of a stream, as seen from this side. */
export interface StreamDirections {
  send: boolean;
  receive: boolean;
}

/** Pieces up to this size are joined with their neighbours into one WebSocket message. */
const joinBytes = 8 * 1024;

/**
 * Many streams and the messages on one connection. It does no I/O: bytes come in by `receive` and go out by `send`.
 * A stream whose reader stops fills its own window and stops its sender; no other stream notices.
 */
export class Mux {
  readonly decoder = new FrameDecoder();
  readonly #options: MuxOptions;
  readonly #streams = new Map<number, WireStream>();
  #lastOwn: number;
  #lastOther = 0;
  #outgoing: Uint8Array[] = [];
  #closed = false;

  constructor(options: MuxOptions) {
    this.#options = options;
    this.#lastOwn = options.side === 'host' ? -1 : 0;
  }

  /**
   * Takes bytes of the other side.
   * @throws {WireProtocolError} they break the protocol: the caller closes the connection
   */
  receive(bytes: Uint8Array): void {
    if (this.#closed) return;
    for (const frame of this.decoder.push(bytes)) {
      if (frame.kind === 'message') this.#options.onMessage(frame.payload);
      else this.#find(frame.stream)?.receive(frame);
      if (this.#closed) return;
    }
  }

  sendMessage(payload: Uint8Array): void {
    if (payload.length > limits.message) throw new RangeError(`A message of ${payload.length} bytes is too large.`);
    this.#send({ kind: 'message', payload });
  }

  /** A stream with the next number of this side; the other side accepts it when a message names it. */
  open(directions: StreamDirections): WireStream {
    this.#lastOwn += 2;
    return this.#add(this.#lastOwn, directions);
  }

  /**
   * The stream that a message of the other side named.
   * @throws {WireProtocolError} the number is in use or not one of that side's, or there are too many streams
   */
  accept(id: number, directions: StreamDirections): WireStream {
    if (this.#isOwn(id)) throw new WireProtocolError(`stream ${id} is not the sender's to open`);
    if (this.#streams.has(id)) throw new WireProtocolError(`stream ${id} was opened twice`);
    this.#lastOther = Math.max(this.#lastOther, id);
    return this.#add(id, directions);
  }

  /** The connection is gone: every open stream fails with `WireStreamError`, and nothing is sent any more. */
  close(cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const stream of this.#streams.values()) stream.fail(new WireStreamError('closed', { cause }));
    this.#streams.clear();
    this.#outgoing = [];
  }

  #add(id: number, directions: StreamDirections): WireStream {
    if (this.#streams.size >= limits.streams) throw new WireProtocolError('too many streams are open');
    const stream = new WireStream(
      id,
      directions,
      (frame) => this.#send(frame),
      () => this.#streams.delete(id),
    );
    if (this.#closed) stream.fail(new WireStreamError('closed'));
    else this.#streams.set(id, stream);
    return stream;
  }

  #isOwn(id: number): boolean {
    return id % 2 === (this.#options.side === 'host' ? 1 : 0);
  }

  /** `undefined` for a stream that this side has closed: frames that were under way then are dropped. */
  #find(id: number): WireStream | undefined {
    const stream = this.#streams.get(id);
    if (stream) return stream;
    const last = this.#isOwn(id) ? this.#lastOwn : this.#lastOther;
    if (id > last) throw new WireProtocolError(`a frame for stream ${id}, which was never opened`);
    return undefined;
  }

  /** Frames of one turn of the event loop leave together. */
  #send(frame: Frame): void {
    if (this.#closed) return;
    if (this.#outgoing.length === 0) queueMicrotask(() => this.#flush());
    this.#outgoing.push(...encodeFrame(frame));
  }

  #flush(): void {
    const pieces = this.#outgoing;
    this.#outgoing = [];
    let small: Uint8Array[] = [];
    const sendSmall = () => {
      if (small.length > 0) this.#options.send(small.length === 1 && small[0] ? small[0] : Buffer.concat(small));
      small = [];
    };
    let smallBytes = 0;
    for (const piece of pieces) {
      if (piece.length <= joinBytes && smallBytes + piece.length <= limits.data) {
        small.push(piece);
        smallBytes += piece.length;
      } else {
        sendSmall();
        smallBytes = 0;
        if (piece.length <= joinBytes) {
          small.push(piece);
          smallBytes = piece.length;
        } else {
          this.#options.send(piece);
        }
      }
    }
    sendSmall();
  }
}

/**
 * One stream. Its sender: `credit` and `send` (or `write`), then `end` or `reset`. Its reader: `read` until `null`, or
 * `cancel`. One writer and one reader at a time.
 */
export class WireStream {
  readonly id: number;
  readonly #emit: (frame: Frame) => void;
  readonly #onClosed: () => void;
  readonly #sendWindow = new SendWindow();
  readonly #receiveWindow = new ReceiveWindow();
  #sending: 'open' | 'ended' | WireStreamError;
  #receiving: 'open' | 'ended' | WireStreamError;
  readonly #queue = new ReceiveQueue();
  #wakeReader: (() => void) | undefined;

  constructor(id: number, directions: StreamDirections, emit: (frame: Frame) => void, onClosed: () => void) {
    this.id = id;
    this.#emit = emit;
    this.#onClosed = onClosed;
    this.#sending = directions.send ? 'open' : 'ended';
    this.#receiving = directions.receive ? 'open' : 'ended';
  }

  /**
   * Waits until something may be sent.
   * @returns bytes that `send` takes at once, at least 1
   * @throws {WireStreamError} the reader wants no more, or the connection is gone
   */
  async credit(signal?: AbortSignal): Promise<number> {
    const onAbort = () => this.#sendWindow.wake();
    signal?.addEventListener('abort', onAbort);
    try {
      for (;;) {
        signal?.throwIfAborted();
        if (this.#sending !== 'open') throw this.#sendError();
        if (this.#sendWindow.available > 0) return Math.min(this.#sendWindow.available, limits.data);
        await this.#sendWindow.changed();
      }
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** What may be sent now without a wait; 0 also when nothing may be sent any more. */
  get sendable(): number {
    return this.#sending === 'open' ? Math.min(this.#sendWindow.available, limits.data) : 0;
  }

  /** Sends bytes that `credit` allowed; they must not change afterwards. */
  send(chunk: Uint8Array): void {
    if (this.#sending !== 'open') throw this.#sendError();
    if (chunk.length === 0) return;
    if (chunk.length > this.#sendWindow.available || chunk.length > limits.data) {
      throw new RangeError(`${chunk.length} bytes were sent, ${this.sendable} were granted`);
    }
    this.#sendWindow.take(chunk.length);
    this.#emit({ kind: 'data', stream: this.id, payload: chunk });
  }

  /** Sends all of `chunk`, as the reader grants it. */
  async write(chunk: Uint8Array, signal?: AbortSignal): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      const granted = this.sendable || (await this.credit(signal));
      this.send(rest.subarray(0, granted));
      rest = rest.subarray(granted);
    }
  }

  /** No more will be sent. */
  end(): void {
    if (this.#sending !== 'open') return;
    this.#emit({ kind: 'end', stream: this.id });
    this.#closeSending('ended');
  }

  /** Gives up sending: the reader gets a `WireStreamError` in place of an end. */
  reset(): void {
    if (this.#sending !== 'open') return;
    this.#emit({ kind: 'reset', stream: this.id, reason: 'reset' });
    this.#closeSending(new WireStreamError('reset'));
  }

  /** What comes next is not there: the reader gets all that was sent, then a `WireStreamError`. */
  breakOff(): void {
    if (this.#sending !== 'open') return;
    this.#emit({ kind: 'reset', stream: this.id, reason: 'gone' });
    this.#closeSending(new WireStreamError('gone'));
  }

  /**
   * The next bytes, or `null` at the end.
   * @throws {WireStreamError} the sender gave up, or the connection is gone
   */
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const chunk = this.#queue.shift();
      if (chunk) {
        const grant = this.#receiveWindow.read(chunk.length);
        if (grant > 0 && this.#receiving === 'open') this.#emit({ kind: 'credit', stream: this.id, bytes: grant });
        return chunk;
      }
      if (this.#receiving === 'ended') return null;
      if (this.#receiving !== 'open') throw this.#receiving;
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
  }

  /** Reads to the end; leaving early cancels. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const chunk = await this.read();
        if (chunk === null) return;
        yield chunk;
      }
    } finally {
      this.cancel();
    }
  }

  /** Wants no more: what has come is dropped, and the sender is told. */
  cancel(): void {
    this.#queue.clear();
    if (this.#receiving !== 'open') return;
    this.#emit({ kind: 'reset', stream: this.id, reason: 'cancelled' });
    this.#closeReceiving(new WireStreamError('cancelled'));
  }

  /** A frame of the other side. @internal */
  receive(frame: Exclude<Frame, { kind: 'message' }>): void {
    switch (frame.kind) {
      case 'data':
        if (this.#receiving === 'ended') throw new WireProtocolError(`data on stream ${this.id} after its end`);
        if (this.#receiving !== 'open') return;
        this.#receiveWindow.received(frame.payload.length);
        this.#queue.push(frame.payload);
        this.#wake();
        return;
      case 'end':
        if (this.#receiving === 'ended') throw new WireProtocolError(`a second end of stream ${this.id}`);
        if (this.#receiving === 'open') this.#closeReceiving('ended');
        return;
      case 'credit':
        if (this.#sending === 'open') this.#sendWindow.grant(frame.bytes);
        return;
      case 'reset':
        this.#receiveReset(frame.reason);
        return;
    }
  }

  /** The connection is gone. @internal */
  fail(error: WireStreamError): void {
    if (this.#sending === 'open') this.#closeSending(error);
    // What has come stays readable: the end of it is then the error.
    if (this.#receiving === 'open') this.#closeReceiving(error);
  }

  #receiveReset(reason: ResetReason): void {
    if (reason !== 'cancelled') {
      if (this.#receiving !== 'open') return;
      // What came before an abandoned end is not to be taken for a whole.
      if (reason === 'reset') this.#queue.clear();
      this.#closeReceiving(new WireStreamError(reason));
    } else if (this.#sending === 'open') {
      this.#closeSending(new WireStreamError('cancelled'));
    }
  }

  #closeSending(state: 'ended' | WireStreamError): void {
    this.#sending = state;
    this.#sendWindow.wake();
    if (this.#receiving !== 'open') this.#onClosed();
  }

  #closeReceiving(state: 'ended' | WireStreamError): void {
    this.#receiving = state;
    this.#wake();
    if (this.#sending !== 'open') this.#onClosed();
  }

  #sendError(): Error {
    return this.#sending instanceof WireStreamError ? this.#sending : new WireStreamError('reset');
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = undefined;
  }
}
