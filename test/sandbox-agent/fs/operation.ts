import type { WireStream } from '../../../src/protocol/mux.ts';
import { decodeRecords } from '../../../src/protocol/records.ts';
import { muxPair } from '../../support/mux-pair.ts';

/** A signal that never comes: the host stays. */
export const present = new AbortController().signal;

/** Runs an operation that sends, and gives its answer and all that it sent. */
export async function receiving<Answer>(
  operation: (stream: WireStream) => Promise<Answer>,
): Promise<{ answer: Answer; bytes: Buffer }> {
  const { host, agent } = muxPair();
  const incoming = host.open({ send: false, receive: true });
  const answer = operation(agent.accept(incoming.id, { send: true, receive: false }));
  const [bytes] = await Promise.all([collect(incoming).catch(() => Buffer.alloc(0)), answer.catch(() => {})]);
  return { answer: await answer, bytes };
}

/** The same, for records. */
export async function receivingRecords<Answer>(
  operation: (stream: WireStream) => Promise<Answer>,
): Promise<{ answer: Answer; records: unknown[] }> {
  const { answer, bytes } = await receiving(operation);
  const records: unknown[] = [];
  for await (const record of decodeRecords(one(bytes), (line) => JSON.parse(Buffer.from(line).toString()))) {
    records.push(record);
  }
  return { answer, records };
}

/** Runs an operation that receives. `chunks` may throw: then the stream is reset. */
export async function sending<Answer>(
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  operation: (stream: WireStream) => Promise<Answer>,
): Promise<Answer> {
  const { host, agent } = muxPair();
  const outgoing = host.open({ send: true, receive: false });
  const answer = operation(agent.accept(outgoing.id, { send: false, receive: true }));
  const sent = (async () => {
    try {
      for await (const chunk of chunks) await outgoing.write(chunk);
      outgoing.end();
    } catch {
      outgoing.reset();
    }
  })();
  await Promise.all([sent, answer.catch(() => {})]);
  return answer;
}

async function collect(stream: WireStream): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
