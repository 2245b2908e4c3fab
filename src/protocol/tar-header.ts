import { bytesOfName, hasEscapes, nameBytes, nameOfBytes } from './names.ts';

export interface TarEntry {
  name: string;
  kind: 'file' | 'directory' | 'symlink';
  size: number;
  mode: number;
  uid: number;
  gid: number;
  modifiedMs: number;
  linkTarget: string;
}

export const tarBlockBytes = 512;

const typeFlags = { file: '0', symlink: '2', directory: '5', pax: 'x', longName: 'L', longLink: 'K' } as const;

/**
 * The header of an entry: POSIX ustar, with a pax header before it for what has no room there. `tar-stream` writes
 * headers too, but as a stream that wants to be drained, which would need a buffer between it and the wire; and it
 * wraps times after 2038. A pax header is UTF-8: a long name that is none has a header of GNU's.
 */
export function tarHeader(entry: TarEntry): Buffer {
  const name = entry.kind === 'directory' ? `${entry.name}/` : entry.name;
  const seconds = Math.floor(entry.modifiedMs / 1000);
  const records = [
    wantsPax(name) ? paxRecord('path', name) : '',
    wantsPax(entry.linkTarget) ? paxRecord('linkpath', entry.linkTarget) : '',
    entry.size > 0o77777777777 ? paxRecord('size', entry.size) : '',
    entry.uid > 0o7777777 ? paxRecord('uid', entry.uid) : '',
    entry.gid > 0o7777777 ? paxRecord('gid', entry.gid) : '',
    seconds < 0 || seconds > 0o77777777777 ? paxRecord('mtime', seconds) : '',
  ];
  const pax = Buffer.from(records.join(''));
  const header = ustar(typeFlags[entry.kind], name, entry.linkTarget, entry.size, entry, seconds);
  const before = (type: string, of: string, content: Buffer) => [
    ustar(type, of, '', content.length, entry, seconds),
    content,
    tarPadding(content.length),
  ];
  const gnu = (type: string, text: string) =>
    hasEscapes(text) && nameBytes(text) > 100 ? before(type, '././@LongLink', bytesOfName(`${text}\0`)) : [];
  const all = [
    ...gnu(typeFlags.longLink, entry.linkTarget),
    ...gnu(typeFlags.longName, name),
    ...(pax.length > 0 ? before(typeFlags.pax, 'pax', pax) : []),
    header,
  ];
  return all.length === 1 ? header : Buffer.concat(all);
}

function wantsPax(text: string): boolean {
  return !hasEscapes(text) && (Buffer.byteLength(text) > 100 || !isAscii(text));
}

/** What fills the last block of a content of `size` bytes. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc(tarPaddingBytes(size));
}

export function tarPaddingBytes(size: number): number {
  return -size & (tarBlockBytes - 1);
}

function ustar(
  typeFlag: string,
  name: string,
  linkTarget: string,
  size: number,
  owner: TarEntry,
  seconds: number,
): Buffer {
  const header = Buffer.alloc(tarBlockBytes);
  bytesOfName(name).copy(header, 0, 0, 100);
  header.write(octal(owner.mode, 7), 100);
  header.write(octal(owner.uid, 7), 108);
  header.write(octal(owner.gid, 7), 116);
  header.write(octal(size, 11), 124);
  header.write(octal(seconds, 11), 136);
  header.write(typeFlag, 156);
  bytesOfName(linkTarget).copy(header, 157, 0, 100);
  header.write('ustar\x0000', 257);
  header.write(`${octal(tarSum(header), 6)}\0 `, 148);
  return header;
}

/** What a header says of its bytes, where this field itself counts as spaces. */
export function tarSum(header: Uint8Array): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < header.length; at++) if (at < 148 || at >= 156) sum += header[at] ?? 0;
  return sum;
}

/** Without room it is 0: the pax header before says it then. */
function octal(value: number, digits: number): string {
  const text = Math.max(value, 0).toString(8);
  return text.length > digits ? '0'.repeat(digits) : text.padStart(digits, '0');
}

/** `length key=value\n`, where the length counts its own digits. */
function paxRecord(key: string, value: string | number): string {
  const rest = ` ${key}=${value}\n`;
  const bytes = Buffer.byteLength(rest);
  const guess = bytes + String(bytes).length;
  return `${bytes + String(guess).length}${rest}`;
}

/** Records of `length key=value\n`, where the length counts itself; `undefined`: it is none. */
export function paxRecords(body: Buffer): Map<string, string> | undefined {
  const records = new Map<string, string>();
  // As a whole: a text for each record of a header that has thousands would take 20 ms.
  const text = body.toString('latin1');
  const start = /(\d{1,7}) ([^=\n]+)=/y;
  for (let at = 0; at < body.length; ) {
    start.lastIndex = at;
    const [head = '', length = '', key = ''] = start.exec(text) ?? [];
    const end = at + Number(length);
    if (end <= at + head.length || body[end - 1] !== 0x0a) return undefined;
    records.set(key, nameOfBytes(body.subarray(at + head.length, end - 1)));
    at = end;
  }
  return records;
}

function isAscii(text: string): boolean {
  return /^[\x00-\x7f]*$/.test(text);
}
