/** Images that models take. */
export const imageTypes = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp']);

const signatures: { kind: string; at?: number; bytes: string }[] = [
  { kind: 'image/png', bytes: '\x89PNG\r\n\x1a\n' },
  { kind: 'image/jpeg', bytes: '\xff\xd8\xff' },
  { kind: 'image/gif', bytes: 'GIF87a' },
  { kind: 'image/gif', bytes: 'GIF89a' },
  { kind: 'image/webp', at: 8, bytes: 'WEBP' },
  { kind: 'application/pdf', bytes: '%PDF-' },
  { kind: 'application/zip', bytes: 'PK\x03\x04' },
  { kind: 'application/gzip', bytes: '\x1f\x8b' },
  { kind: 'ELF executable', bytes: '\x7fELF' },
  { kind: 'SQLite database', bytes: 'SQLite format 3\0' },
];

/** What a file is, by its first bytes: names lie, and a sandbox may have written anything. */
export function contentKind(head: Buffer): string {
  const text = head.subarray(0, 16).toString('latin1');
  return signatures.find(({ at = 0, bytes }) => text.startsWith(bytes, at))?.kind ?? 'binary';
}
