import { isIP, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { relay as relayStreams } from '../../protocol/relay.ts';

const connectMs = 30_000;

/** Why a program can't have a connection. */
export class Refusal extends Error {
  readonly hint: string;
  /** It was allowed, and could not be made. */
  readonly isFailure: boolean;
  /** It came to a connection that leads somewhere else. */
  readonly isMisdirected: boolean;
  constructor(
    reason: string,
    hint = '',
    {
      isFailure = false,
      isMisdirected = false,
      cause,
    }: { isFailure?: boolean; isMisdirected?: boolean; cause?: unknown } = {},
  ) {
    super(reason, cause === undefined ? undefined : { cause });
    this.isMisdirected = isMisdirected;
    this.hint = hint;
    this.isFailure = isFailure;
  }
}

/** Passes on what comes, both ways; what breaks off on one side does so on the other, and does not look like an end. */
export function relay(one: Duplex, other: Duplex, through: readonly Duplex[] = []): void {
  relayStreams(one, other, { through, abort });
}

function abort(stream: Duplex): void {
  if (stream instanceof Socket && !(stream instanceof TLSSocket)) stream.resetAndDestroy();
  else stream.destroy();
}

/**
 * Connects to the first of these addresses that answers.
 * @throws {Refusal} none does
 */
export async function connectTo(to: { host: string; addresses: readonly string[]; port: number }): Promise<Socket> {
  try {
    return await connect(to.addresses, to.port);
  } catch (error) {
    const reason = `${to.host}:${to.port} could not be reached: ${(error as Error).message}`;
    throw new Refusal(reason, '', { isFailure: true, cause: error });
  }
}

function connect(addresses: readonly string[], port: number): Promise<Socket> {
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
