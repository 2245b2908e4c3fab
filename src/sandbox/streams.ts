import { Readable, Writable } from 'node:stream';

/** Reads what `read` gives, until `null`: nothing is asked for that nobody reads. `cancel` tells that no more is wanted. */
export function readable(read: () => Promise<Uint8Array | null>, cancel: () => void): Readable {
  return new Readable({
    read() {
      read().then(
        (chunk) => this.push(chunk),
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done) {
      cancel();
      done(error);
    },
  });
}

/** Writes as fast as `write` takes it. `end` is awaited: what it rejects with is the error of the whole. */
export function writable(options: {
  write: (chunk: Uint8Array) => Promise<void>;
  end: () => Promise<unknown>;
  /** Called at every end, also a good one. The stream closes when this is done, so that what follows finds it done. */
  cancel: () => Promise<void>;
}): Writable {
  return new Writable({
    write(chunk: Uint8Array, _encoding, done) {
      options.write(chunk).then(() => done(), done);
    },
    final(done) {
      options.end().then(() => done(), done);
    },
    destroy(error, done) {
      options.cancel().then(
        () => done(error),
        (failure: Error) => done(error ?? failure),
      );
    },
  });
}
