import { isIP, Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';

const connectMs = 30_000;

/** Why a program can't have a connection. */
export class Refusal extends Error {
  readonly hint: string;
  /** It was allowed, and could not be made. */
  readonly isFailure: boolean;
  constructor(reason: string, hint = '', { isFailure = false } = {}) {
    super(reason);
    this.hint = hint;
    this.isFailure = isFailure;
  }
}

/** Passes on what comes, both ways, until both have ended. */
export function relay(one: Duplex, other: Duplex): void {
  pipeline(one, other, one, () => {
    one.destroy();
    other.destroy();
  });
}

/** To the first of these addresses that answers. */
export function connect(addresses: readonly string[], port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new Socket({ allowHalfOpen: true });
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    const patience = setTimeout(() => socket.destroy(new Error(`no answer within ${connectMs / 1000} s`)), connectMs);
    const failed = (error: Error) => {
      clearTimeout(patience);
      reject(error);
    };
    socket.once('error', failed);
    socket.connect({
      host: 'resolved.invalid',
      port,
      noDelay: true,
      autoSelectFamily: true,
      // These and no others: the name is not asked for again.
      lookup: (_host, _options, done) => done(null, found),
    });
    socket.once('connect', () => {
      clearTimeout(patience);
      socket.off('error', failed);
      socket.on('error', () => {}); // it is destroyed, which whoever works on it notices
      resolve(socket);
    });
  });
}
