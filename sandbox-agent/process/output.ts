import type { WireStream } from '../../src/protocol/mux.ts';
import type { Spool } from './spool.ts';

/** One output of a process, and the byte from which the host wants it, behind what draws the screen of a terminal. */
export interface Attachment {
  stream: WireStream;
  screen?: Uint8Array;
  from: number;
}

/**
 * Sends `screen`, if any, then kept output from byte `from` on. A host that stops reading grants nothing; only this stream
 * then waits.
 */
export async function sendOutput(
  spool: Spool,
  { stream, screen, from }: Attachment,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (screen) await stream.write(screen, signal);
    for await (const chunk of spool.read(from, signal)) await stream.write(chunk, signal);
    stream.end();
  } finally {
    // A no-op after the end. The host then sees an abandoned stream, not a short output.
    stream.reset();
  }
}
