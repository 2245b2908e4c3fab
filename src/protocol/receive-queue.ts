const smallBytes = 4 * 1024;

/**
 * What a stream has received and nobody has read. It takes no more than about twice the memory of its bytes, whatever
 * the frames: one of a single byte would keep the whole WebSocket message alive that it came in, and a window has room
 * for half a million of them. So small ones are copied into one chunk.
 */
export class ReceiveQueue {
  #chunks: Uint8Array[] = [];
  /** The last chunk, while there is room in it. */
  #tail: Uint8Array | undefined;
  #tailFilled = 0;

  push(bytes: Uint8Array): void {
    if (bytes.length >= smallBytes) {
      this.#seal();
      const isMostOfItsBuffer = bytes.length * 2 >= bytes.buffer.byteLength;
      this.#chunks.push(isMostOfItsBuffer ? bytes : new Uint8Array(bytes));
      return;
    }
    if (this.#tail === undefined || this.#tailFilled + bytes.length > this.#tail.length) {
      this.#seal();
      if (this.#chunks.length === 0) {
        // Who reads as it comes waits for nothing to join it.
        this.#chunks.push(new Uint8Array(bytes));
        return;
      }
      this.#tail = new Uint8Array(smallBytes);
      this.#tailFilled = 0;
    }
    this.#tail.set(bytes, this.#tailFilled);
    this.#tailFilled += bytes.length;
  }

  shift(): Uint8Array | undefined {
    if (this.#chunks.length === 0) this.#seal();
    return this.#chunks.shift();
  }

  shiftAll(): Uint8Array[] {
    this.#seal();
    const all = this.#chunks;
    this.#chunks = [];
    return all;
  }

  clear(): void {
    this.#chunks = [];
    this.#tail = undefined;
  }

  #seal(): void {
    if (this.#tail !== undefined) this.#chunks.push(this.#tail.subarray(0, this.#tailFilled));
    this.#tail = undefined;
  }
}
