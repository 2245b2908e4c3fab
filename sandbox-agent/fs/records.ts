import type { WireStream } from '../../src/protocol/mux.ts';
import { encodeRecord } from '../../src/protocol/records.ts';

const batchBytes = 32 * 1024;

/** Sends records in pieces that are worth a frame. */
export class RecordWriter {
  readonly #stream: WireStream;
  readonly #signal: AbortSignal;
  #batch: Uint8Array[] = [];
  #bytes = 0;

  constructor(stream: WireStream, signal: AbortSignal) {
    this.#stream = stream;
    this.#signal = signal;
  }

  async write(record: unknown): Promise<void> {
    const line = encodeRecord(record);
    this.#batch.push(line);
    this.#bytes += line.length;
    if (this.#bytes >= batchBytes) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#batch);
    this.#batch = [];
    this.#bytes = 0;
    await this.#stream.write(bytes, this.#signal);
  }
}
