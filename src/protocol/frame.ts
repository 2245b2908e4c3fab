import { WireProtocolError } from './errors.ts';
import { frameHeaderBytes, limits } from './limits.ts';

/**
 * The wire is a sequence of frames, whatever the borders of the WebSocket messages that carry them:
 *
 *     1 byte   kind
 *     4 bytes  stream (0 for message and ack) unsigned, big-endian
 *     4 bytes  length of the payload          unsigned, big-endian
 *     n bytes  payload
 */
export type Frame =
  | { kind: 'message'; payload: Uint8Array }
  | { kind: 'data'; stream: number; payload: Uint8Array }
  | { kind: 'end'; stream: number }
  | { kind: 'credit'; stream: number; bytes: number }
  | { kind: 'reset'; stream: number; reason: ResetReason }
  /** So many more frames have come; it is not one that counts itself. */
  | { kind: 'ack'; frames: number };

/**
 * `reset`: the sender gives the stream up. `cancelled`: the receiver wants no more. `gone`: what was sent is good, but what
 * comes next is not there.
 */
export type ResetReason = 'reset' | 'cancelled' | 'gone';

const kinds = { message: 1, data: 2, end: 3, credit: 4, reset: 5, ack: 6 } as const;
const resetReasons: readonly ResetReason[] = ['reset', 'cancelled', 'gone'];

const none = new Uint8Array(0);

/** Smaller payloads cost the collector little. */
const recycledBytes = 16 * 1024;
/** As many of the largest as a window holds. */
const mostSpare = limits.window / limits.data;

/** The frame in one or two pieces; a payload is not copied. */
export function encodeFrame(frame: Frame): Uint8Array[] {
  switch (frame.kind) {
    case 'message':
      return [header(kinds.message, 0, frame.payload.length), frame.payload];
    case 'data':
      return [header(kinds.data, frame.stream, frame.payload.length), frame.payload];
    case 'end':
      return [header(kinds.end, frame.stream, 0)];
    case 'credit':
      return [header(kinds.credit, frame.stream, 4, frame.bytes)];
    case 'reset':
      return [header(kinds.reset, frame.stream, 4, resetReasons.indexOf(frame.reason))];
    case 'ack':
      return [header(kinds.ack, 0, 4, frame.frames)];
  }
}

function header(kind: number, stream: number, length: number, word?: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + (word === undefined ? 0 : 4));
  bytes.writeUInt8(kind, 0);
  bytes.writeUInt32BE(stream, 1);
  bytes.writeUInt32BE(length, 5);
  if (word !== undefined) bytes.writeUInt32BE(word, frameHeaderBytes);
  return bytes;
}

/**
 * Makes frames out of bytes that come in pieces of any size. The same bytes give the same frames, or the same error at
 * the same place, whatever the cuts. After an error every further call throws it again.
 */
export class FrameDecoder {
  #header = new Uint8Array(frameHeaderBytes);
  #headerFilled = 0;
  /** Of the payload. */
  #length = 0;
  /** A payload that comes in pieces. */
  #payload: Uint8Array = none;
  #filled = 0;
  /** Payloads that nobody uses any more. */
  #spare: Uint8Array[] = [];
  #error: WireProtocolError | undefined;

  /**
   * Payloads have memory of their own, so that `chunk` can be used again.
   * @throws {WireProtocolError} the bytes are no frames; those before the error were yielded
   */
  *push(chunk: Uint8Array): Generator<Frame> {
    if (this.#error) throw this.#error;
    let at = 0;
    while (at < chunk.length) {
      if (this.#headerFilled < frameHeaderBytes) {
        const piece = chunk.subarray(at, at + frameHeaderBytes - this.#headerFilled);
        this.#header.set(piece, this.#headerFilled);
        this.#headerFilled += piece.length;
        at += piece.length;
        if (this.#headerFilled < frameHeaderBytes) return;
        this.#length = this.#checkHeader();
        if (this.#length === 0) yield this.#frame(none);
      } else {
        if (this.#filled === 0) this.#payload = this.#room(this.#length);
        const piece = chunk.subarray(at, at + this.#length - this.#filled);
        this.#payload.set(piece, this.#filled);
        this.#filled += piece.length;
        at += piece.length;
        if (this.#filled === this.#length) yield this.#frame(this.#payload);
      }
    }
  }

  /** Another payload may be in the memory of this one from now on. */
  recycle(payload: Uint8Array): void {
    // What has a small part of its memory would keep all of that.
    const isAll = payload.length === payload.buffer.byteLength;
    if (isAll && payload.length >= recycledBytes && this.#spare.length < mostSpare) this.#spare.push(payload);
  }

  /** Most frames of a stream are of one size: a spare one of another is left to the collector. */
  #room(length: number): Uint8Array {
    const spare = this.#spare.pop();
    return spare?.length === length ? spare : Buffer.allocUnsafe(length);
  }

  /** @throws {WireProtocolError} the bytes ended inside a frame */
  end(): void {
    if (this.#error) throw this.#error;
    if (this.#headerFilled > 0) this.#fail('the bytes end inside a frame');
  }

  /** Checks as soon as the header is complete, so that nothing is reserved for a payload that will be refused. */
  #checkHeader(): number {
    const view = new DataView(this.#header.buffer);
    const kind = view.getUint8(0);
    const stream = view.getUint32(1);
    const length = view.getUint32(5);
    switch (kind) {
      case kinds.message:
        if (stream !== 0) this.#fail(`a message on stream ${stream}`);
        if (length > limits.message) this.#fail(`a message of ${length} bytes`);
        break;
      case kinds.data:
        if (length > limits.data) this.#fail(`a data frame of ${length} bytes`);
        // An empty data frame costs no credit: a peer could send them for ever.
        if (length === 0) this.#fail('an empty data frame');
        break;
      case kinds.end:
        if (length !== 0) this.#fail('an end frame with a payload');
        break;
      case kinds.ack:
        if (stream !== 0) this.#fail(`an ack on stream ${stream}`);
        if (length !== 4) this.#fail(`an ack of ${length} bytes`);
        return length;
      case kinds.credit:
      case kinds.reset:
        if (length !== 4) this.#fail(`a frame of kind ${kind} with ${length} bytes`);
        break;
      default:
        this.#fail(`a frame of unknown kind ${kind}`);
    }
    if (kind !== kinds.message && stream === 0) this.#fail(`a frame of kind ${kind} without a stream`);
    return length;
  }

  #frame(payload: Uint8Array): Frame {
    const view = new DataView(this.#header.buffer);
    const kind = view.getUint8(0);
    const stream = view.getUint32(1);
    this.#headerFilled = 0;
    this.#payload = none;
    this.#filled = 0;
    switch (kind) {
      case kinds.message:
        return { kind: 'message', payload };
      case kinds.data:
        return { kind: 'data', stream, payload };
      case kinds.end:
        return { kind: 'end', stream };
      case kinds.credit: {
        const bytes = word(payload);
        if (bytes === 0 || bytes > limits.window) this.#fail(`a grant of ${bytes} bytes`);
        return { kind: 'credit', stream, bytes };
      }
      case kinds.ack: {
        const frames = word(payload);
        if (frames === 0) this.#fail('an ack of nothing');
        return { kind: 'ack', frames };
      }
      default: {
        const reason = resetReasons[word(payload)];
        if (reason === undefined) this.#fail(`a reset with reason ${word(payload)}`);
        return { kind: 'reset', stream, reason };
      }
    }
  }

  #fail(reason: string): never {
    this.#error = new WireProtocolError(reason);
    throw this.#error;
  }
}

function word(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(0);
}
