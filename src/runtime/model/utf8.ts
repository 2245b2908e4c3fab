/** The last place at or before `index` where a UTF-8 character starts, or the end: cutting there cuts no character. */
export function boundaryBefore(bytes: Uint8Array, index: number): number {
  let place = Math.min(index, bytes.length);
  while (place > 0 && isContinuation(bytes[place])) place--;
  return place;
}

/** The first such place at or after `index`. */
export function boundaryAfter(bytes: Uint8Array, index: number): number {
  let place = index;
  while (isContinuation(bytes[place])) place++;
  return place;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
