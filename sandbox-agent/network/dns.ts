// What RFC 1035 says of messages, as far as a server needs it that has addresses of IPv4 only.

const headerBytes = 12;
const codes = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3 } as const;
const types = { A: 1, AAAA: 28 } as const;
const classIn = 1;

export interface Question {
  id: number;
  /** The flags of the query that the answer repeats: opcode and recursion desired. */
  flags: number;
  /** In lower case. */
  name: string;
  type: keyof typeof types | 'other';
  /** As it stood in the query. */
  bytes: Uint8Array;
}

/** `undefined`: it is no query with one question, and is not answered. */
export function readQuestion(message: Buffer): Question | undefined {
  if (message.length < headerBytes) return undefined;
  const flags = message.readUInt16BE(2);
  const isQuery = (flags & 0xf800) === 0;
  if (!isQuery || message.readUInt16BE(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = headerBytes;
  for (;;) {
    const length = message[at];
    // A question has no compression, which would have the two highest bits.
    if (length === undefined || length > 63 || at + length >= message.length) return undefined;
    at += 1;
    if (length === 0) break;
    labels.push(message.toString('latin1', at, at + length));
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  const number = message.readUInt16BE(at);
  if (message.readUInt16BE(at + 2) !== classIn) return undefined;
  const type = number === types.A ? 'A' : number === types.AAAA ? 'AAAA' : 'other';
  return {
    id: message.readUInt16BE(0),
    flags: flags & 0x7900,
    name: labels.join('.').toLowerCase(),
    type,
    bytes: message.subarray(headerBytes, at + 4),
  };
}

export function answer(
  { id, flags, bytes }: Question,
  code: keyof typeof codes,
  found?: { address: string; ttl: number },
): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt16BE(id, 0);
  // It is an answer, of an authority, and recursion is available.
  header.writeUInt16BE(0x8480 | flags | codes[code], 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(found ? 1 : 0, 6);
  if (!found) return Buffer.concat([header, bytes]);
  const record = Buffer.alloc(16);
  record.writeUInt16BE(0xc000 | headerBytes, 0); // the name of the question
  record.writeUInt16BE(types.A, 2);
  record.writeUInt16BE(classIn, 4);
  record.writeUInt32BE(found.ttl, 6);
  record.writeUInt16BE(4, 10);
  for (const [i, part] of found.address.split('.').entries()) record[12 + i] = Number(part);
  return Buffer.concat([header, bytes, record]);
}
