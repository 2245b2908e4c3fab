import type { WireStream } from '../../src/protocol/mux.ts';
import { OutputGoneError, type Spool } from './spool.ts';

/**
 * One output of a process, the byte from which the host wants it, behind what draws the screen of a terminal, whether the
 * process waits for the host, and whether that wants the rest, too: what comes after the end of the process.
 */
export interface Attachment {
  stream: WireStream;
  screen?: Uint8Array;
  from: number;
  holds: boolean;
  rest: boolean;
}

/**
 * Sends `screen`, if any, then kept output. A host that stops reading grants nothing; unless it `holds`, only this stream
 * then waits.
 */
export async function sendOutput(
  spool: Spool,
  { stream, screen, from, holds, rest }: Attachment,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (screen) await stream.write(screen, signal);
    for await (const { bytes, release } of spool.read(from, { holds, rest }, signal)) {
      await stream.write(bytes, signal, release);
    }
    stream.end();
  } catch (error) {
    if (error instanceof OutputGoneError) stream.breakOff();
    throw error;
  } finally {
    // A no-op after the end. The host then sees an abandoned stream, not a short output.
    stream.reset();
  }
}
