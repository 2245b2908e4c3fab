import { Duplex } from 'node:stream';

const headerBytes = 8;
const standardOutput = 1;
/** What is passed on of standard error: it tells why there is no wire, and may go on without end. */
const errorBytes = 4 * 1024;

type Done = (error?: Error | null) => void;

/**
 * The stream of a command that the engine runs in a container: what is written is its standard input, what is read its
 * standard output. The engine sends both outputs in pieces with a header each: 1 byte which, 3 unused, 4 the length,
 * big-endian. Nothing is gathered: a piece is passed on as it comes, cut where the network cut it.
 */
export class ExecStream extends Duplex {
  readonly #connection: Duplex;
  readonly #onStderr: (chunk: Buffer) => void;
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  #pieceLeft = 0;
  #errorLeft = errorBytes;

  constructor(connection: Duplex, onStderr: (chunk: Buffer) => void) {
    super();
    this.#connection = connection;
    this.#onStderr = onStderr;
    connection.on('data', (chunk: Buffer) => {
      if (!this.#pass(chunk)) connection.pause();
    });
    connection.once('end', () => this.push(null));
    // The command has ended, and nobody takes what is still to be written: waiting for that would be for ever.
    this.once('end', () => this.destroy());
    connection.once('error', (error) => this.destroy(error));
    connection.once('close', () => this.destroy());
  }

  override _read(): void {
    this.#connection.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: Done): void {
    this.#connection.write(chunk, encoding, done);
  }

  /** What waited while a write was under way leaves together. */
  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: Done): void {
    this.#connection.cork();
    chunks.forEach(({ chunk, encoding }, index) => {
      if (index === chunks.length - 1) this.#connection.write(chunk, encoding, done);
      else this.#connection.write(chunk, encoding);
    });
    this.#connection.uncork();
  }

  override _final(done: Done): void {
    this.#connection.end(() => done());
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#connection.destroy();
    done(error);
  }

  /** @returns whether the reader wants more now */
  #pass(chunk: Buffer): boolean {
    let wantsMore = true;
    for (let at = 0; at < chunk.length; ) {
      if (this.#pieceLeft > 0) {
        const piece = chunk.subarray(at, at + this.#pieceLeft);
        this.#pieceLeft -= piece.length;
        at += piece.length;
        if (this.#header[0] === standardOutput) wantsMore = this.push(piece);
        else this.#passError(piece);
        continue;
      }
      const copied = chunk.copy(this.#header, this.#headerFilled, at, at + headerBytes - this.#headerFilled);
      at += copied;
      this.#headerFilled += copied;
      if (this.#headerFilled === headerBytes) {
        this.#headerFilled = 0;
        this.#pieceLeft = this.#header.readUInt32BE(4);
      }
    }
    return wantsMore;
  }

  #passError(piece: Buffer): void {
    if (this.#errorLeft > 0) this.#onStderr(piece.subarray(0, this.#errorLeft));
    this.#errorLeft = Math.max(0, this.#errorLeft - piece.length);
  }
}
