// A name of Linux is bytes; one of the API is a string. Where bytes are no UTF-8, each is a lone surrogate, U+DC80 to
// U+DCFF, as in Python's `surrogateescape`: no text has those, so that what a list gives names the same file again.

const escapes = /([\udc80-\udcff])/u; // with `u` it matches only what is not a half of a pair
const replacement = '\ufffd';

/** The string for bytes that the kernel gave. */
export function nameOfBytes(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
  return text.includes(replacement) ? decode(bytes) : text;
}

function decode(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const character = Buffer.from(bytes.subarray(at, at + characterBytes(bytes[at] ?? 0)));
    const decoded = character.toString();
    if (Buffer.from(decoded).equals(character)) {
      text += decoded;
      at += character.length;
    } else {
      text += String.fromCharCode(0xdc00 + (bytes[at] ?? 0));
      at += 1;
    }
  }
  return text;
}

/** How long a character is that begins so. */
function characterBytes(first: number): number {
  if (first < 0xc0) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

export function hasEscapes(name: string): boolean {
  return escapes.test(name);
}

/** The bytes for the kernel. What is no name (see `isName`) gets U+FFFD, as in any text. */
export function bytesOfName(name: string): Buffer {
  if (!hasEscapes(name)) return Buffer.from(name);
  const parts = name.split(escapes);
  // Every second one is an escape.
  return Buffer.concat(
    parts.map((part, at) => (at % 2 === 0 ? Buffer.from(part) : Buffer.of(part.charCodeAt(0) & 0xff))),
  );
}

export function nameBytes(name: string): number {
  // Elsewhere a lone surrogate counts as U+FFFD, three bytes.
  return hasEscapes(name) ? bytesOfName(name).length : Buffer.byteLength(name);
}

/** Whether it stands for bytes: other lone surrogates do not. */
export function isName(name: string): boolean {
  return !/[\ud800-\udc7f\udd00-\udfff]/u.test(name);
}
