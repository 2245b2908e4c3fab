import { boundaryAfter } from '../model/utf8.ts';

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
  if (start === bytes.length) start = boundaryAfter(bytes, Math.max(0, bytes.length - CUT_BYTES));
  return { kept: bytes.subarray(start).toString(), missingBytes: start };
}

/** The first `length` UTF-16 units of a text, or one less so that no pair is cut. */
export function keepStart(text: string, length: number): string {
  if (text.length <= length) return text;
  const last = text.charCodeAt(length - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}
