import type { Duplex } from 'node:stream';
import { duplexOf } from '../../protocol/duplex.ts';
import { requestError } from '../request-error.ts';
import { AnswerError, type Wire } from '../wire.ts';

/** Nothing listens at this port of the sandbox. */
export class NothingListens extends Error {}

/**
 * Connects to a server on the sandbox's loopback.
 * @throws {NothingListens}
 */
export async function dial(port: number, wire: () => Promise<Wire>): Promise<Duplex> {
  const connected = await wire();
  const stream = connected.openStream({ send: true, receive: true });
  const duplex = duplexOf(stream);
  duplex.on('error', () => {}); // it is destroyed, which whoever works on it notices
  try {
    await connected.call({ type: 'network.connect', port, stream: stream.id }, 'ok');
    return duplex;
  } catch (error) {
    duplex.destroy();
    if (error instanceof AnswerError && error.code === 'ECONNREFUSED') {
      throw new NothingListens(`nothing listens at port ${port} in the sandbox`, { cause: error });
    }
    throw requestError(error, `connect to its port ${port}`);
  }
}
