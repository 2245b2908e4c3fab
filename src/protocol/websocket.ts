import { WireProtocolError } from './errors.ts';
import { limits } from './limits.ts';

const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
/** RFC 6455, 5.5: of a control frame. */
const controlBytes = 125;
const headBytes = 4 * 1024;
/** What the bytes of one connection may take of a turn of the event loop. */
const turnMs = 2;
/** What of a message is passed on at once: the turn may be over behind it. */
const pieceBytes = 64 * 1024;
const path = '/wire';
/** RFC 6455, 1.3. */
const acceptSuffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** What it needs of a stream of Node. */
export interface ByteStream {
  on(event: 'data', take: (chunk: Buffer) => void): unknown;
  on(event: 'error', take: (error: Error) => void): unknown;
  on(event: 'end' | 'close', take: () => void): unknown;
  write(bytes: string | Uint8Array): boolean;
  pause(): unknown;
  resume(): unknown;
  cork(): void;
  uncork(): void;
  destroy(): unknown;
  readonly destroyed: boolean;
  readonly writableCorked: number;
  readonly writableNeedDrain: boolean;
}

export interface WebSocketOptions {
  sha1: (bytes: Buffer) => Buffer;
  /** The other side has taken the connection, or was taken. */
  onOpen: () => void;
  /**
   * A piece of a message, as the transport cut it; good only until this returns. What it throws ends the connection, and is
   * told to `onClose`.
   */
  onBytes: (piece: Uint8Array, isLast: boolean) => void;
  onPong: () => void;
  /**
   * Once, at every end but that by `close` or `terminate`.
   * @param code - the other side has closed it
   * @param error - left out: the transport has ended
   */
  onClose: (end: { code?: number; error?: Error }) => void;
}

/**
 * One end of a WebSocket connection, RFC 6455, for what the wire needs of it: binary messages, whose bytes are passed on as
 * they come. A message is not put together, as frames are taken out of it anyway: that would be a copy of every byte, in
 * memory of its own.
 *
 * The mask is zero: it protects proxies that take WebSocket for HTTP, and this connection, which meets none, from work.
 */
export class WebSocket {
  readonly #stream: ByteStream;
  readonly #side: 'client' | 'server';
  readonly #options: WebSocketOptions;
  /** Of a client. */
  #key = '';
  #head: Buffer | undefined = Buffer.alloc(0);
  #isClosed = false;
  // What has come of the frame that is read.
  readonly #header = Buffer.alloc(14);
  #headerFilled = 0;
  #opcode = 0;
  #isFinal = false;
  #left = 0;
  #mask: Buffer | undefined;
  #maskAt = 0;
  #control = Buffer.alloc(0);
  /** A message of several frames is under way. */
  #isInMessage = false;

  /** `stream` belongs to it from now on. */
  constructor(stream: ByteStream, side: 'client' | 'server', options: WebSocketOptions) {
    this.#stream = stream;
    this.#side = side;
    this.#options = options;
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#end({ error }));
    stream.on('end', () => this.#end({}));
    stream.on('close', () => this.#end({}));
    if (side === 'client') {
      this.#key = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('base64');
      stream.write(
        head(`GET ${path} HTTP/1.1`, { Host: 'berth', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': this.#key }),
      );
    }
  }

  /** The other side does not read as fast as it is sent to. */
  get isBehind(): boolean {
    return this.#stream.writableNeedDrain;
  }

  /** Sends one message, which consists of these pieces. They must not change afterwards. */
  send(pieces: readonly Uint8Array[]): void {
    if (this.#head === undefined) this.#write(opcodes.binary, pieces);
  }

  ping(): void {
    this.#write(opcodes.ping, []);
  }

  /** Tells the other side that nothing follows. It need not answer. */
  close(code: number): void {
    const status = Buffer.alloc(2);
    status.writeUInt16BE(code);
    this.#write(opcodes.close, [status]);
    this.#isClosed = true;
    setImmediate(() => this.#stream.destroy());
  }

  terminate(): void {
    this.#isClosed = true;
    this.#stream.destroy();
  }

  #end(end: { code?: number; error?: Error }): void {
    if (this.#isClosed) return;
    this.terminate();
    this.#options.onClose(end);
  }

  #write(opcode: number, pieces: readonly Uint8Array[]): void {
    const stream = this.#stream;
    if (this.#isClosed || stream.destroyed) return;
    // What is sent in one turn of the event loop leaves in one write.
    if (stream.writableCorked === 0) {
      stream.cork();
      process.nextTick(() => stream.uncork());
    }
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    stream.write(frameHeader(opcode, length, this.#side === 'client'));
    for (const piece of pieces) stream.write(piece);
  }

  #receive(chunk: Buffer): void {
    const end = performance.now() + turnMs;
    try {
      let rest = chunk;
      if (this.#head) rest = this.#takeHead(this.#head, chunk);
      while (rest.length > 0 && !this.#isClosed && performance.now() < end) rest = this.#take(rest);
      if (performance.now() >= end) this.#receiveLater(Buffer.from(rest));
    } catch (error) {
      this.#end({ error: error instanceof Error ? error : new Error(String(error)) });
    }
  }

  /** What takes long, as many small frames do, leaves the other connections their turn. */
  #receiveLater(rest: Buffer): void {
    this.#stream.pause();
    setImmediate(() => {
      this.#stream.resume();
      this.#receive(rest);
    });
  }

  /** @returns what comes behind it */
  #takeHead(before: Buffer, chunk: Buffer): Buffer {
    const all = Buffer.concat([before, chunk]);
    const end = all.indexOf('\r\n\r\n');
    if (end === -1 ? all.length > headBytes : end > headBytes) throw new WireProtocolError('a head that is too large');
    if (end === -1) {
      this.#head = all;
      return Buffer.alloc(0);
    }
    const [firstLine = '', ...lines] = all.toString('latin1', 0, end).split('\r\n');
    const fields = new Map(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    if (this.#side === 'client') this.#checkAnswer(firstLine, fields);
    else this.#answer(firstLine, fields);
    this.#head = undefined;
    this.#options.onOpen();
    return all.subarray(end + 4);
  }

  #checkAnswer(firstLine: string, fields: Map<string, string>): void {
    if (!firstLine.startsWith('HTTP/1.1 101 ')) throw new WireProtocolError('an answer that is not to a WebSocket');
    if (fields.get('sec-websocket-accept') !== this.#acceptOf(this.#key)) {
      throw new WireProtocolError('an answer to another WebSocket');
    }
  }

  #answer(firstLine: string, fields: Map<string, string>): void {
    const key = fields.get('sec-websocket-key');
    const isWebSocket = fields.get('upgrade')?.toLowerCase() === 'websocket' && key !== undefined;
    if (firstLine !== `GET ${path} HTTP/1.1` || !isWebSocket) {
      this.#stream.write('HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      throw new WireProtocolError('a request that is not for the wire');
    }
    this.#stream.write(head('HTTP/1.1 101 Switching Protocols', { 'Sec-WebSocket-Accept': this.#acceptOf(key) }));
  }

  #acceptOf(key: string): string {
    return this.#options.sha1(Buffer.from(`${key}${acceptSuffix}`)).toString('base64');
  }

  /** Takes a header, or what is here of a payload. @returns the rest */
  #take(bytes: Buffer): Buffer {
    if (this.#left === 0) {
      const copied = bytes.copy(this.#header, this.#headerFilled, 0, this.#headerMissing());
      this.#headerFilled += copied;
      if (this.#headerMissing() === 0) this.#beginFrame();
      return bytes.subarray(copied);
    }
    const piece = bytes.subarray(0, Math.min(this.#left, pieceBytes));
    this.#left -= piece.length;
    if (this.#mask) this.#unmask(piece, this.#mask);
    if (this.#opcode >= opcodes.close) this.#control = Buffer.concat([this.#control, piece]);
    else this.#options.onBytes(piece, this.#left === 0 && this.#isFinal);
    if (this.#left === 0) this.#endFrame();
    return bytes.subarray(piece.length);
  }

  /** Bytes until the header is whole, as far as is known. */
  #headerMissing(): number {
    if (this.#headerFilled < 2) return 2 - this.#headerFilled;
    const second = this.#header.readUInt8(1);
    const lengthBytes = { 126: 2, 127: 8 }[second & 0x7f] ?? 0;
    return 2 + lengthBytes + (second & 0x80 ? 4 : 0) - this.#headerFilled;
  }

  #beginFrame(): void {
    const header = this.#header;
    const first = header.readUInt8(0);
    const second = header.readUInt8(1);
    const isMasked = (second & 0x80) !== 0;
    let length = second & 0x7f;
    if (length === 126) length = header.readUInt16BE(2);
    else if (length === 127) length = header.readUInt32BE(2) * 2 ** 32 + header.readUInt32BE(6);
    const mask = header.subarray(this.#headerFilled - 4, this.#headerFilled);
    this.#mask = isMasked && mask.readUInt32BE(0) !== 0 ? Buffer.from(mask) : undefined;
    this.#maskAt = 0;
    this.#headerFilled = 0;
    this.#isFinal = (first & 0x80) !== 0;
    this.#opcode = first & 0x0f;
    this.#left = length;
    this.#checkFrame(first, isMasked);
    if (length > 0) return;
    if (this.#opcode < opcodes.close) this.#options.onBytes(header.subarray(0, 0), this.#isFinal);
    this.#endFrame();
  }

  #checkFrame(first: number, isMasked: boolean): void {
    if (first & 0x70) throw new WireProtocolError('a WebSocket frame with an extension');
    if (isMasked !== (this.#side === 'server')) throw new WireProtocolError('a WebSocket frame from the wrong side');
    switch (this.#opcode) {
      case opcodes.binary:
      case opcodes.continuation:
        if (this.#isInMessage !== (this.#opcode === opcodes.continuation)) {
          throw new WireProtocolError('a WebSocket message inside of another one');
        }
        this.#isInMessage = !this.#isFinal;
        if (this.#left > limits.webSocketFrame) throw new WireProtocolError('a WebSocket frame that is too large');
        return;
      case opcodes.close:
      case opcodes.ping:
      case opcodes.pong:
        if (this.#left > controlBytes || !this.#isFinal) throw new WireProtocolError('a large WebSocket control frame');
        return;
      case opcodes.text:
        throw new WireProtocolError('a text message');
      default:
        throw new WireProtocolError('a WebSocket frame of an unknown kind');
    }
  }

  #unmask(piece: Buffer, mask: Buffer): void {
    for (let at = 0; at < piece.length; at++) {
      piece[at] = (piece[at] ?? 0) ^ (mask[this.#maskAt] ?? 0);
      this.#maskAt = (this.#maskAt + 1) % 4;
    }
  }

  #endFrame(): void {
    const control = this.#control;
    this.#control = Buffer.alloc(0);
    if (this.#opcode === opcodes.ping) {
      // One who asks and reads no answer gets no more of them.
      if (!this.isBehind) this.#write(opcodes.pong, [control]);
    } else if (this.#opcode === opcodes.pong) {
      this.#options.onPong();
    } else if (this.#opcode === opcodes.close) {
      const code = control.length >= 2 ? control.readUInt16BE(0) : 1005;
      this.#write(opcodes.close, [control.subarray(0, 2)]);
      // Behind the answer.
      this.#isClosed = true;
      setImmediate(() => this.#stream.destroy());
      this.#options.onClose({ code });
    }
  }
}

function head(firstLine: string, fields: Record<string, string>): string {
  const all = { Connection: 'Upgrade', Upgrade: 'websocket', ...fields };
  return `${firstLine}\r\n${Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;
}

function frameHeader(opcode: number, length: number, isMasked: boolean): Buffer {
  const lengthBytes = length < 126 ? 0 : length < 2 ** 16 ? 2 : 8;
  const header = Buffer.alloc(2 + lengthBytes + (isMasked ? 4 : 0));
  const maskBit = isMasked ? 0x80 : 0;
  header.writeUInt8(0x80 | opcode, 0);
  header.writeUInt8(maskBit | (lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127), 1);
  if (lengthBytes === 2) header.writeUInt16BE(length, 2);
  else if (lengthBytes === 8) header.writeUInt32BE(length, 6);
  return header;
}
