import { createHash, randomBytes } from 'node:crypto';

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'; // Crockford's base 32, in which ULIDs are written

/** A new id: `newId('run')` is `run_` and a ULID, so that ids sort by the time of their making. */
export function newId(prefix: string): string {
  let time = Date.now();
  let stamp = '';
  for (let i = 0; i < 10; i++) {
    stamp = alphabet.charAt(time % 32) + stamp;
    time = Math.floor(time / 32);
  }
  let random = '';
  for (const byte of randomBytes(16)) random += alphabet.charAt(byte % 32);
  return `${prefix}_${stamp}${random}`;
}

/** An id that looks like a new one, and is the same for the same text. */
export function derivedId(prefix: string, text: string): string {
  const hash = createHash('sha256').update(text).digest().subarray(0, 26);
  return `${prefix}_${[...hash].map((byte) => alphabet.charAt(byte % 32)).join('')}`;
}
