import { type DeliveredFrame, Delivery } from './delivery.ts';
import { TooManyStreamsError, WireProtocolError, WireStreamError } from './errors.ts';
import { ReceiveWindow, SendWindow } from './flow.ts';
import type { ResetReason } from './frame.ts';
import { limits } from './limits.ts';
import { ReceiveQueue } from './receive-queue.ts';

export interface MuxOptions {
  /** The host opens streams with odd numbers, the sandbox-agent with even ones. */
  side: 'host' | 'agent';
  /** Takes pieces for the other side, in order; a WebSocket message together. */
  send: (pieces: readonly Uint8Array[]) => void;
  /** Whether the other side does not read as fast as it is sent to. Left out: never. */
  isBehind?: () => boolean;
  /** Called with each message. What it throws goes to the caller of `receive`. */
  onMessage: (payload: Uint8Array) => void;
}

/** Directions of a stream, as seen from this side. */
export interface StreamDirections {
  send: boolean;
  receive: boolean;
}

/**
 * Many streams and the messages on one connection. It does no I/O: bytes come in by `receive` and go out by `send`.
 * A stream whose reader stops fills its own window and stops its sender; no other stream notices.
 */
export class Mux {
  readonly #delivery: Delivery;
  readonly #options: MuxOptions;
  readonly #streams = new Map<number, WireStream>();
  #lastOwn: number;
  #lastOther = 0;
  #closed = false;

  constructor(options: MuxOptions) {
    this.#options = options;
    this.#lastOwn = options.side === 'host' ? -1 : 0;
    this.#delivery = new Delivery({
      send: options.send,
      isBehind: options.isBehind,
      onRoom: () => {
        for (const stream of this.#streams.values()) stream.onRoom();
      },
    });
  }

  /** Nothing is under way: what the connection was for is done. */
  get isIdle(): boolean {
    return this.#streams.size === 0 && !this.#delivery.isOwing;
  }

  /** Bytes that wait until the other side acknowledges others. */
  get unsentBytes(): number {
    return this.#delivery.heldBytes;
  }

  /** Frames that have come, over all transports: what the other side is told when it is joined again. */
  get received(): number {
    return this.#delivery.received;
  }

  /** The transport broke. What is sent now waits for `resume`. */
  detach(): void {
    this.#delivery.detach();
  }

  /**
   * There is a new transport: sends again what the other side has not received, and goes on.
   * @throws {WireProtocolError} it can't have received that
   */
  resume(received: number): void {
    this.#delivery.resume(received);
  }

  /**
   * Takes bytes of the other side.
   * @throws {WireProtocolError} they break the protocol: the caller closes the connection
   */
  receive(bytes: Uint8Array): void {
    if (this.#closed) return;
    for (const frame of this.#delivery.receive(bytes)) {
      if (frame.kind === 'message') this.#options.onMessage(frame.payload);
      else this.#find(frame.stream)?.receive(frame);
      if (this.#closed) return;
    }
  }

  sendMessage(payload: Uint8Array): void {
    if (payload.length > limits.message) throw new RangeError(`A message of ${payload.length} bytes is too large.`);
    this.#delivery.send({ kind: 'message', payload });
  }

  /**
   * A stream with the next number of this side; the other side accepts it when a message names it.
   * @throws {TooManyStreamsError}
   */
  open(directions: StreamDirections): WireStream {
    const [stream] = this.openAll(directions);
    return stream;
  }

  /** As `open`: all of them, or none. */
  openAll<const All extends readonly StreamDirections[]>(...all: All): { [Index in keyof All]: WireStream } {
    if (this.#streams.size + all.length > limits.streams) throw new TooManyStreamsError({ limit: limits.streams });
    const streams = all.map((directions) => {
      this.#lastOwn += 2;
      return this.#add(this.#lastOwn, directions);
    });
    return streams as { [Index in keyof All]: WireStream }; // one for each
  }

  /**
   * The stream that a message of the other side named.
   * @throws {WireProtocolError} the number is in use or not one of that side's, or there are too many streams
   */
  accept(id: number, directions: StreamDirections): WireStream {
    if (this.#streams.size >= limits.streams) throw new WireProtocolError('too many streams are open');
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
    this.#delivery.close();
  }

  #add(id: number, directions: StreamDirections): WireStream {
    const stream = new WireStream(id, directions, this.#delivery, () => this.#streams.delete(id));
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
}

/**
 * One stream. Its sender: `credit` and `send` (or `write`), then `end` or `reset`. Its reader: `read` until `null`, or
 * `cancel`. One writer and one reader at a time.
 */
export class WireStream {
  readonly id: number;
  readonly #delivery: Delivery;
  readonly #onClosed: () => void;
  readonly #sendWindow = new SendWindow();
  readonly #receiveWindow = new ReceiveWindow();
  #sending: 'open' | 'ended' | WireStreamError;
  #receiving: 'open' | 'ended' | WireStreamError;
  readonly #queue = new ReceiveQueue();
  #wakeReader: (() => void) | undefined;

  constructor(id: number, directions: StreamDirections, delivery: Delivery, onClosed: () => void) {
    this.id = id;
    this.#delivery = delivery;
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
        if (this.sendable > 0) return this.sendable;
        await this.#sendWindow.changed();
      }
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** What may be sent now without a wait; 0 also when nothing may be sent any more. */
  get sendable(): number {
    return this.#sending === 'open' && !this.#delivery.isFull ? Math.min(this.#sendWindow.available, limits.data) : 0;
  }

  /** Sends bytes that `credit` allowed; they must not change before `onReceived`, which may never be called. */
  send(chunk: Uint8Array, onReceived?: () => void): void {
    if (this.#sending !== 'open') throw this.#sendError();
    if (chunk.length === 0) return;
    if (chunk.length > this.#sendWindow.available || chunk.length > limits.data) {
      throw new RangeError(`${chunk.length} bytes were sent, ${this.sendable} were granted`);
    }
    this.#sendWindow.take(chunk.length);
    this.#delivery.send({ kind: 'data', stream: this.id, payload: chunk }, onReceived);
  }

  /** Sends all of `chunk`, as the reader grants it; `onReceived` as in `send`, for all of it. */
  async write(chunk: Uint8Array, signal?: AbortSignal, onReceived?: () => void): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      const granted = this.sendable || (await this.credit(signal));
      this.send(rest.subarray(0, granted), granted >= rest.length ? onReceived : undefined);
      rest = rest.subarray(granted);
    }
  }

  /** The other side has sent all, whether or not it was read. */
  get hasEnded(): boolean {
    return this.#receiving === 'ended';
  }

  /** No more will be sent. */
  end(): void {
    if (this.#sending !== 'open') return;
    this.#delivery.send({ kind: 'end', stream: this.id });
    this.#closeSending('ended');
  }

  /** Gives up sending: the reader gets a `WireStreamError` in place of an end. */
  reset(): void {
    if (this.#sending !== 'open') return;
    this.#delivery.send({ kind: 'reset', stream: this.id, reason: 'reset' });
    this.#closeSending(new WireStreamError('reset'));
  }

  /** What comes next is not there: the reader gets all that was sent, then a `WireStreamError`. */
  breakOff(): void {
    if (this.#sending !== 'open') return;
    this.#delivery.send({ kind: 'reset', stream: this.id, reason: 'gone' });
    this.#closeSending(new WireStreamError('gone'));
  }

  /**
   * The next bytes, or `null` at the end.
   * @throws {WireStreamError} the sender gave up, or the connection is gone
   */
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const chunk = this.#take();
      if (chunk) return chunk;
      if (this.#receiving === 'ended') return null;
      if (this.#receiving !== 'open') throw this.#receiving;
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
  }

  /** As `read`: all that has come, at least one chunk. */
  async readAll(): Promise<Uint8Array[] | null> {
    const first = await this.read();
    if (first === null) return null;
    const chunks = [first];
    for (let chunk = this.#take(); chunk; chunk = this.#take()) chunks.push(chunk);
    return chunks;
  }

  /** What was read is not used any more: what comes next may take its memory, in place of work for the collector. */
  recycle(chunk: Uint8Array): void {
    this.#delivery.recycle(chunk);
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
    this.#delivery.send({ kind: 'reset', stream: this.id, reason: 'cancelled' });
    this.#closeReceiving(new WireStreamError('cancelled'));
  }

  /** A frame of the other side. @internal */
  receive(frame: Exclude<DeliveredFrame, { kind: 'message' }>): void {
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

  /** There may be room again. @internal */
  onRoom(): void {
    this.#sendWindow.wake();
    this.#grant();
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

  #take(): Uint8Array | undefined {
    const chunk = this.#queue.shift();
    if (chunk) {
      this.#receiveWindow.read(chunk.length);
      this.#grant();
    }
    return chunk;
  }

  /** Where there is no room for it, one who acknowledges nothing would be granted more and more, all of it held here. */
  #grant(): void {
    if (this.#receiving !== 'open' || this.#delivery.isFull) return;
    const bytes = this.#receiveWindow.takeGrant();
    if (bytes > 0) this.#delivery.send({ kind: 'credit', stream: this.id, bytes });
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
