import { WireProtocolError } from './errors.ts';
import { limits } from './limits.ts';
import { Pace } from './pace.ts';

const newline = 0x0a;
const encoder = new TextEncoder();

/** A record stream is JSON values, a line each: what a list or a search gives, at any length. */
export function encodeRecord(record: unknown): Uint8Array {
  return encoder.encode(`${JSON.stringify(record)}\n`);
}

/** What records may take of a turn of the event loop: as long as there are more, nothing else would be done. */
const turnMs = 2;

/**
 * The records of a stream, parsed one by one.
 * @throws {WireProtocolError} a line that is too long, is not ended, or does not parse
 */
export async function* decodeRecords<Record>(
  chunks: AsyncIterable<Uint8Array>,
  parse: (line: Uint8Array) => Record,
): AsyncGenerator<Record> {
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  const pace = new Pace(undefined, turnMs);
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      const line = chunk.subarray(start, end);
      if (restBytes + line.length > limits.record) throw new WireProtocolError('a record that is too long');
      yield parse(rest.length === 0 ? line : Buffer.concat([...rest, line]));
      rest = [];
      restBytes = 0;
      start = end + 1;
      if (pace.isOver) await pace.turn();
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start));
      restBytes += chunk.length - start;
      if (restBytes > limits.record) throw new WireProtocolError('a record that is too long');
    }
  }
  if (restBytes > 0) throw new WireProtocolError('a record stream that ends inside a record');
}
