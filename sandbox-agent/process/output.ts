import type { WireStream } from '../../src/protocol/mux.ts';
import type { Spool } from './spool.ts';

/** Sends kept output from byte `from` on. A host that stops reading grants nothing; only this stream then waits. */
export async function sendOutput(spool: Spool, from: number, stream: WireStream, signal: AbortSignal): Promise<void> {
  try {
    for await (const chunk of spool.read(from, signal)) await stream.write(chunk, signal);
    stream.end();
  } finally {
    // A no-op after the end. The host then sees an abandoned stream, not a short output.
    stream.reset();
  }
}
