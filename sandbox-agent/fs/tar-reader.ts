import { nameOfBytes } from '../../src/protocol/names.ts';
import { paxRecords, tarBlockBytes, tarPaddingBytes, tarSum } from '../../src/protocol/tar-header.ts';
import { RequestError } from '../errors.ts';

export interface ArchiveEntry {
  name: string;
  /** `undefined`: something else, as a device. */
  kind: 'file' | 'directory' | 'symlink' | 'hard link' | 'sparse file' | undefined;
  size: number;
  mode: number;
  /** Since 1970; NaN where the archive has no number there. */
  modifiedSeconds: number;
  /** Empty: the archive has none. */
  linkTarget: string;
}

/** The letters of tar(5). Before POSIX a file had a NUL, and a directory was a file with a slash at its end. */
const kinds: Record<string, ArchiveEntry['kind']> = {
  '\0': 'file',
  0: 'file',
  1: 'hard link',
  2: 'symlink',
  5: 'directory',
  7: 'file', // to be stored in one piece, where a system knows of that
  S: 'sparse file',
};

/** What has a header of its own, before that of the entry that it holds for; `global`: for all from there on. */
type Extension = 'pax' | 'global' | 'name' | 'linkTarget';
const extensions: Record<string, Extension> = { x: 'pax', g: 'global', L: 'name', K: 'linkTarget' };
/** Room for some extended attributes, each of up to 64 KiB. */
const maxExtensionBytes = 4 * 1024 * 1024;

/** What is kept of a global header: of others an archive could have any number. */
const globalKeys = new Set(['path', 'linkpath', 'size', 'mtime']);

const nothing = Buffer.alloc(0);
const sumOfZeros = tarSum(nothing);

/**
 * Reads a tar, of before POSIX, ustar, pax or GNU's, out of chunks as they come. It never waits: where more bytes are
 * needed it gives `undefined`, and is asked again after the next `push`. Blocks of zeros are passed over, so that one
 * archive may follow another. What is no tar is an error with code `invalid_tar`.
 */
export class TarReader {
  readonly #chunks: Buffer[] = [];
  /** Where in the first chunk. */
  #at = 0;
  #buffered = 0;
  /** Bytes of the content that are not read yet, and those behind it that fill its last block. */
  #left = 0;
  #padding = 0;
  #extension: { kind: Extension; size: number } | undefined;
  #global: ReadonlyMap<string, string> = new Map();
  // For the next entry.
  #pax: ReadonlyMap<string, string> | undefined;
  #longName: string | undefined;
  #longTarget: string | undefined;

  /** The bytes must not change afterwards: contents are pieces of them. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
    this.#buffered += chunk.length;
  }

  /** Nothing follows. @throws {RequestError} it breaks off */
  end(): void {
    const isBetweenEntries =
      this.#buffered + this.#left + this.#padding === 0 &&
      (this.#extension ?? this.#pax ?? this.#longName ?? this.#longTarget) === undefined;
    if (!isBetweenEntries) refuse('the archive ends within it');
  }

  /** The next entry; what was not read of the one before is passed over. */
  next(): ArchiveEntry | undefined {
    while (this.#passOver()) {
      if (this.#extension) {
        const { kind, size } = this.#extension;
        const body = this.#take(size);
        if (!body) return undefined;
        this.#extend(kind, body);
        this.#extension = undefined;
        this.#padding = tarPaddingBytes(size);
      } else {
        const block = this.#take(tarBlockBytes);
        if (!block) return undefined;
        const entry = this.#read(block);
        if (entry) return entry;
      }
    }
    return undefined;
  }

  /** Bytes of the content of the entry that are not read yet. */
  get left(): number {
    return this.#left;
  }

  /** Those of them that are there. */
  piece(): Buffer | undefined {
    const here = (this.#chunks[0]?.length ?? 0) - this.#at;
    const piece = this.#take(Math.min(this.#left, here));
    if (!piece?.length) return undefined;
    this.#left -= piece.length;
    return piece;
  }

  /** All of them. */
  content(): Buffer | undefined {
    const content = this.#take(this.#left);
    if (content) this.#left = 0;
    return content;
  }

  /** @returns whether it is behind all of the content */
  #passOver(): boolean {
    while (this.piece());
    if (this.#left > 0 || !this.#take(this.#padding)) return false;
    this.#padding = 0;
    return true;
  }

  /** In one piece: a copy only where the bytes lie in several chunks. */
  #take(bytes: number): Buffer | undefined {
    if (this.#buffered < bytes) return undefined;
    this.#buffered -= bytes;
    const first = this.#shift(bytes);
    if (first.length === bytes) return first;
    const pieces = [first];
    for (let missing = bytes - first.length; missing > 0; ) {
      const piece = this.#shift(missing);
      pieces.push(piece);
      missing -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** At most so many, as far as the first chunk goes. */
  #shift(bytes: number): Buffer {
    const [chunk] = this.#chunks;
    if (!chunk || bytes === 0) return nothing;
    const piece = chunk.subarray(this.#at, this.#at + bytes);
    this.#at += piece.length;
    if (this.#at === chunk.length) {
      this.#chunks.shift();
      this.#at = 0;
    }
    return piece;
  }

  #read(block: Buffer): ArchiveEntry | undefined {
    const sum = tarSum(block);
    if (sum === sumOfZeros) return undefined;
    if (sum !== number(block, 148, 8)) refuse('it is no tar, or it is damaged');
    const type = String.fromCharCode(block[156] ?? 0);
    const size = number(block, 124, 12);
    const extension = extensions[type];
    if (extension) {
      if (size < 0 || size > maxExtensionBytes) refuse(`a header of it is ${size} bytes long`);
      this.#extension = { kind: extension, size };
      return undefined;
    }
    const entry = this.#withExtensions({
      name: nameIn(block),
      kind: kinds[type],
      size,
      mode: number(block, 100, 8),
      modifiedSeconds: number(block, 136, 12),
      linkTarget: text(block, 157, 100),
    });
    if (entry.size < 0 || !Number.isSafeInteger(entry.size)) refuse('its size is no number');
    // That of a directory, if any, is the room that was reserved for it.
    this.#left = entry.kind === 'directory' ? 0 : entry.size;
    this.#padding = tarPaddingBytes(this.#left);
    return entry;
  }

  #extend(kind: Extension, body: Buffer): void {
    switch (kind) {
      case 'pax':
        this.#pax = recordsIn(body);
        return;
      case 'global':
        this.#global = new Map([...this.#global, ...recordsIn(body)].filter(([key]) => globalKeys.has(key)));
        return;
      case 'name':
        this.#longName = text(body, 0, body.length);
        return;
      case 'linkTarget':
        this.#longTarget = text(body, 0, body.length);
        return;
    }
  }

  #withExtensions(entry: ArchiveEntry): ArchiveEntry {
    if (this.#longName) entry.name = this.#longName;
    if (this.#longTarget) entry.linkTarget = this.#longTarget;
    this.#longName = undefined;
    this.#longTarget = undefined;
    const pax = this.#pax;
    this.#pax = undefined;
    if (!pax && this.#global.size === 0) return entry;
    // An empty one takes a global one back.
    const record = (key: string) => pax?.get(key) ?? this.#global.get(key) ?? '';
    entry.name = record('path') || entry.name;
    entry.linkTarget = record('linkpath') || entry.linkTarget;
    if (record('size')) entry.size = Number(record('size'));
    if (record('mtime')) entry.modifiedSeconds = Number(record('mtime'));
    if (record('GNU.sparse.major') || record('GNU.sparse.map') || record('GNU.sparse.size')) entry.kind = 'sparse file';
    return entry;
  }
}

function recordsIn(body: Buffer): ReadonlyMap<string, string> {
  return paxRecords(body) ?? refuse('a header of it is damaged');
}

function refuse(reason: string): never {
  throw new RequestError('invalid_tar', reason);
}

function nameIn(block: Buffer): string {
  const name = text(block, 0, 100);
  // GNU has times in the place of the prefix, and a space behind `ustar`.
  const hasPrefix = block[345] !== 0 && block.toString('latin1', 257, 263) === 'ustar\0';
  return hasPrefix ? `${text(block, 345, 155)}/${name}` : name;
}

function text(block: Buffer, start: number, length: number): string {
  if (block[start] === 0) return '';
  const end = block.indexOf(0, start);
  return nameOfBytes(block.subarray(start, end === -1 ? start + length : Math.min(end, start + length)));
}

/** Octal digits, or bytes, with sign, where the first bit is set: GNU's way for what has no room. */
function number(block: Buffer, start: number, length: number): number {
  const end = start + length;
  const byte = (at: number) => block[at] ?? 0;
  if (byte(start) & 0x80) {
    let value = (byte(start) & 0x7f) - ((byte(start) & 0x40) << 1);
    for (let at = start + 1; at < end; at++) value = value * 256 + byte(at);
    return value;
  }
  const isBlank = (at: number) => byte(at) === 0 || byte(at) === 0x20;
  let at = start;
  while (at < end && isBlank(at)) at++;
  let value = 0;
  for (; at < end && !isBlank(at); at++) {
    const digit = byte(at) - 0x30;
    if (digit < 0 || digit > 7) refuse('a number in it is none');
    value = value * 8 + digit;
  }
  return value;
}
