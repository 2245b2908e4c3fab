import { Duplex, finished } from 'node:stream';
import type { WireStream } from './mux.ts';

/** A stream of the wire that goes both ways, as what sockets are: each way ends by itself, and a failure ends both. */
export function duplexOf(stream: WireStream): Duplex {
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      stream.readAll().then(
        (chunks) => {
          for (const chunk of chunks ?? [null]) duplex.push(chunk);
        },
        (error: Error) => duplex.destroy(error),
      );
    },
    write(chunk: Uint8Array, _encoding, done) {
      stream.write(chunk).then(
        () => done(),
        (error: Error) => {
          // It ends both ways: of one that has sent all and takes no more, what is not read yet would be lost.
          if (stream.hasEnded) finished(duplex, { writable: false }, () => done(error));
          else done(error);
        },
      );
    },
    final(done) {
      stream.end();
      done();
    },
    destroy(error, done) {
      stream.reset();
      stream.cancel();
      done(error);
    },
  });
  return duplex;
}
