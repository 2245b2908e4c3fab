/** What a tool gives to a model at most, whichever comes first. */
export const CUT_LINES = 2_000;
export const CUT_BYTES = 50 * 1024;

const NEWLINE = 0x0a;

/** The end of a text, whole lines where that is possible. `missingBytes` were left out before it. */
export function keepEnd(text: string): { kept: string; missingBytes: number } {
  const bytes = Buffer.from(text);
  let start = bytes.length;
  for (let lines = 0; start > 0 && lines < CUT_LINES; lines++) {
    const lineStart = start < 2 ? 0 : bytes.lastIndexOf(NEWLINE, start - 2) + 1;
    if (bytes.length - lineStart > CUT_BYTES) break;
    start = lineStart;
  }
  // Not even the last line fits.
  if (start === bytes.length) start = characterStart(bytes, Math.max(0, bytes.length - CUT_BYTES));
  return { kept: bytes.subarray(start).toString(), missingBytes: start };
}

/** The first place at or after `index` where a UTF-8 character starts. */
function characterStart(bytes: Uint8Array, index: number): number {
  let start = index;
  while (start < bytes.length && isContinuation(bytes[start])) start++;
  return start;
}

/** The last place at or before `index` where a UTF-8 character ends. */
export function characterEnd(bytes: Uint8Array, index: number): number {
  let end = Math.min(index, bytes.length);
  while (end > 0 && end < bytes.length && isContinuation(bytes[end])) end--;
  return end;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

/** The first `length` UTF-16 units of a text, or one less so that no pair is cut. */
export function keepStart(text: string, length: number): string {
  if (text.length <= length) return text;
  const last = text.charCodeAt(length - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}
