import { Readable } from 'node:stream';
import { WireStreamError } from '../../protocol/errors.ts';
import type { WireStream } from '../../protocol/mux.ts';
import { InvalidOptionsError } from '../errors.ts';
import type { Input } from '../options.ts';
import { unlessEnded } from './unless-ended.ts';

/**
 * Gives all of `input` to a process, as fast as it reads, then the end. A process that wants no more, or ends first, is
 * no error, and its input is left where it is.
 * @throws what the input itself fails with
 */
export async function feed(stream: WireStream, input: Input, ended: Promise<unknown>): Promise<void> {
  try {
    if (typeof input === 'string') await stream.write(Buffer.from(input));
    else if (input instanceof Uint8Array) await stream.write(input);
    else await feedFrom(stream, input, ended);
    stream.end();
  } catch (error) {
    if (!(error instanceof WireStreamError)) throw error;
  } finally {
    stream.reset(); // nothing, after the end
  }
}

async function feedFrom(
  stream: WireStream,
  input: AsyncIterable<string | Uint8Array>,
  ended: Promise<unknown>,
): Promise<void> {
  const unlessOver = unlessEnded(ended);
  const chunks = input[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      // An input that waits for something must not outlive the process.
      const next = await unlessOver(() => chunks.next());
      finished = next === undefined ? false : (next.done ?? false);
      if (!next || next.done) return;
      await stream.write(bytesOf(next.value));
    }
  } finally {
    // `return` of a generator waits for what the generator waits for: nobody waits for that here.
    if (!finished) chunks.return?.().catch(() => {});
    if (!finished && input instanceof Readable) input.destroy();
  }
}

/** A stream can give anything. */
function bytesOf(chunk: unknown): Uint8Array {
  if (typeof chunk === 'string') return Buffer.from(chunk);
  if (chunk instanceof Uint8Array) return chunk;
  const issues = [{ path: 'stdin', message: `gives ${typeof chunk} in place of strings or bytes` }];
  throw new InvalidOptionsError({ operation: 'exec', issues });
}
