import { WireProtocolError } from './errors.ts';
import { encodeFrame, type Frame, FrameDecoder } from './frame.ts';
import { limits } from './limits.ts';

export type DeliveredFrame = Exclude<Frame, { kind: 'ack' }>;

/** Pieces up to this size are joined with their neighbours: a copy takes less than what each of them takes on its way. */
const joinBytes = 8 * 1024;
/** An ack wakes the other side up, which costs little beside so much, ... */
const ackBytes = 1024 * 1024;
const ackFrames = 512;
/** ... and what comes alone is acknowledged a little later, so that its sender need not keep it. */
const ackDelayMs = 200;
/** What a frame takes of memory beside its payload. */
const frameOverhead = 128;

export interface DeliveryOptions {
  /** Takes pieces for the other side, in order; a WebSocket message together. Not called while detached. */
  send: (pieces: readonly Uint8Array[]) => void;
  /** Whether the other side does not read as fast as it is sent to. Left out: never. */
  isBehind?: (() => boolean) | undefined;
  /** What was full is no longer. */
  onRoom: () => void;
}

interface Sent {
  frame: DeliveredFrame;
  /** The other side has it. */
  onReceived: (() => void) | undefined;
}

/** A frame that may have to be sent again. */
interface Kept {
  pieces: readonly Uint8Array[];
  /** With what it takes of memory beside them. */
  bytes: number;
  onReceived: (() => void) | undefined;
}

/**
 * Brings the frames of one side to the other, each once and in order, over as many transports as it takes. Frames are
 * counted, and kept until the other side has acknowledged them: after a break it says how many it has, and gets the rest
 * again. What an unlucky cut left of a frame is dropped, as the whole of it comes again.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  #decoder = new FrameDecoder();
  #received = 0;
  #unackedFrames = 0;
  #unackedBytes = 0;
  #ackTimer: NodeJS.Timeout | undefined;
  /** Sent and not acknowledged, from `#oldest` on. */
  #kept: (Kept | undefined)[] = [];
  #oldest = 0;
  #keptBytes = 0;
  /** Frames of this side that the other has. */
  #acknowledged = 0;
  /** Those for which there is no room among the kept. */
  #held: Sent[] = [];
  #heldBytes = 0;
  #outgoing: Uint8Array[] = [];
  #attached = true;
  #closed = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  get received(): number {
    return this.#received;
  }

  /** Who has more to send waits for `onRoom`: a side that acknowledges nothing must not fill the memory of the other. */
  get isFull(): boolean {
    return this.#keptBytes >= limits.unacknowledged || this.#held.length > 0;
  }

  /** Bytes of frames that wait for room, with what each takes of memory beside its payload. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Something that was sent is not acknowledged. */
  get isOwing(): boolean {
    return this.#kept.length > this.#oldest || this.#held.length > 0;
  }

  /**
   * Payloads are not copied: they must not change before `onReceived`, which tells that the other side has them. It may never
   * be called.
   */
  send(frame: DeliveredFrame, onReceived?: () => void): void {
    if (this.#closed) return;
    const sent = { frame, onReceived };
    if (this.isFull) {
      this.#held.push(sent);
      this.#heldBytes += bytesOf(frame);
    } else {
      this.#sendNow(sent);
    }
  }

  /** A payload that was received is not used any more. */
  recycle(payload: Uint8Array): void {
    this.#decoder.recycle(payload);
  }

  /**
   * The frames in bytes of the other side.
   * @throws {WireProtocolError}
   */
  *receive(bytes: Uint8Array): Generator<DeliveredFrame> {
    for (const frame of this.#decoder.push(bytes)) {
      if (frame.kind === 'ack') {
        this.#takeAck(frame.frames);
        continue;
      }
      this.#received += 1;
      this.#unackedFrames += 1;
      if ('payload' in frame) this.#unackedBytes += frame.payload.length;
      if (this.#unackedBytes >= ackBytes || this.#unackedFrames >= ackFrames) this.#ack();
      else this.#ackTimer ??= setTimeout(() => this.#ack(), ackDelayMs).unref();
      yield frame;
    }
  }

  detach(): void {
    this.#attached = false;
    this.#outgoing = [];
    this.#decoder = new FrameDecoder();
    this.#forgetAck();
  }

  /** @throws {WireProtocolError} the other side can't have received that */
  resume(received: number): void {
    this.#drop(received - this.#acknowledged);
    this.#attached = true;
    for (const kept of this.#kept.slice(this.#oldest)) if (kept) this.#emit(kept.pieces);
    this.#fill();
  }

  close(): void {
    this.#closed = true;
    this.detach();
    this.#kept = [];
    this.#oldest = 0;
    this.#held = [];
    this.#heldBytes = 0;
  }

  #sendNow({ frame, onReceived }: Sent): void {
    // What is small is copied: a buffer of its own takes several times the memory, and one that it is a part of all of that.
    const pieces = joinSmall(encodeFrame(frame));
    const bytes = pieces.reduce((sum, { length }) => sum + length, frameOverhead);
    this.#kept.push({ pieces, bytes, onReceived });
    this.#keptBytes += bytes;
    if (this.#attached) this.#emit(pieces);
  }

  #takeAck(frames: number): void {
    const wasFull = this.isFull;
    this.#drop(frames);
    if (wasFull) this.#fill();
  }

  /** The first `frames` of the kept ones have come. */
  #drop(frames: number): void {
    if (frames < 0 || frames > this.#kept.length - this.#oldest) {
      throw new WireProtocolError('frames were acknowledged that were not sent, or not again');
    }
    this.#acknowledged += frames;
    const end = this.#oldest + frames;
    for (; this.#oldest < end; this.#oldest++) {
      const kept = this.#kept[this.#oldest];
      this.#kept[this.#oldest] = undefined;
      this.#keptBytes -= kept?.bytes ?? 0;
      kept?.onReceived?.();
    }
    if (this.#oldest * 2 < this.#kept.length) return;
    this.#kept = this.#kept.slice(this.#oldest);
    this.#oldest = 0;
  }

  #fill(): void {
    const held = this.#held;
    let next = 0;
    for (; next < held.length && this.#keptBytes < limits.unacknowledged; next++) {
      const sent = held[next];
      if (!sent) continue;
      this.#heldBytes -= bytesOf(sent.frame);
      this.#sendNow(sent);
    }
    this.#held = held.slice(next);
    if (!this.isFull) this.#options.onRoom();
  }

  #ack(): void {
    // One who sends and does not read would fill the memory with them; in the end one says as much as many.
    if (this.#options.isBehind?.()) {
      clearTimeout(this.#ackTimer);
      this.#ackTimer = setTimeout(() => this.#ack(), ackDelayMs).unref();
      return;
    }
    const frames = this.#unackedFrames;
    this.#forgetAck();
    this.#emit(encodeFrame({ kind: 'ack', frames }));
  }

  #forgetAck(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#unackedFrames = 0;
    this.#unackedBytes = 0;
  }

  /** Frames of one turn of the event loop leave together. */
  #emit(pieces: readonly Uint8Array[]): void {
    if (this.#outgoing.length === 0) queueMicrotask(() => this.#flush());
    this.#outgoing.push(...pieces);
  }

  #flush(): void {
    const pieces = joinSmall(this.#outgoing);
    this.#outgoing = [];
    let message: Uint8Array[] = [];
    let bytes = 0;
    for (const piece of pieces) {
      if (bytes + piece.length > limits.webSocketFrame) {
        this.#options.send(message);
        message = [];
        bytes = 0;
      }
      message.push(piece);
      bytes += piece.length;
    }
    if (bytes > 0) this.#options.send(message);
  }
}

function bytesOf(frame: DeliveredFrame): number {
  return frameOverhead + ('payload' in frame ? frame.payload.length : 0);
}

function joinSmall(pieces: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  let smallBytes = 0;
  const join = () => {
    if (small.length > 0) joined.push(small.length === 1 && small[0] ? small[0] : Buffer.concat(small));
    small = [];
    smallBytes = 0;
  };
  for (const piece of pieces) {
    if (piece.length <= joinBytes) {
      // What is sent again at once is more than a message may have.
      if (smallBytes + piece.length > limits.webSocketFrame) join();
      small.push(piece);
      smallBytes += piece.length;
    } else {
      join();
      joined.push(piece);
    }
  }
  join();
  return joined;
}
