import type { WireStream } from '../../src/protocol/mux.ts';
import { encodeRecord } from '../../src/protocol/records.ts';

/** Sends records, and what belongs to them, in pieces that are worth a frame. */
export class RecordWriter {
  readonly #stream: WireStream;
  readonly #signal: AbortSignal;
  readonly #batchBytes: number;
  #batch: Uint8Array[] = [];
  #bytes = 0;

  constructor(stream: WireStream, signal: AbortSignal, batchBytes = 32 * 1024) {
    this.#stream = stream;
    this.#signal = signal;
    this.#batchBytes = batchBytes;
  }

  async write(record: unknown): Promise<void> {
    await this.writeBytes(encodeRecord(record));
  }

  async writeBytes(bytes: Uint8Array): Promise<void> {
    this.#batch.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes >= this.#batchBytes) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#batch);
    this.#batch = [];
    this.#bytes = 0;
    await this.#stream.write(bytes, this.#signal);
  }
}
