import { nameOfBytes } from '../../protocol/names.ts';
import { paxRecords, tarBlockBytes, tarSum } from '../../protocol/tar-header.ts';
import { InvalidArchiveError } from '../errors.ts';

export interface ArchiveEntry {
  name: string;
  kind: 'file' | 'directory' | 'symlink' | 'hard link' | 'device' | 'FIFO';
  mode: number;
  size: number;
  linkTarget: string;
  /** To be read to its end before the next entry is asked for. */
  content: AsyncIterable<Uint8Array>;
}

/** Room for two paths of Linux, as a name and a link's target, and all the numbers. */
const maxPaxBytes = 16 * 1024;

const kinds: Record<string, ArchiveEntry['kind']> = {
  '0': 'file',
  '1': 'hard link',
  '2': 'symlink',
  '3': 'device',
  '4': 'device',
  '5': 'directory',
  '6': 'FIFO',
};

/**
 * The entries of a tar as the sandbox-agent writes it: POSIX ustar, with pax headers and GNU's for long names. The sender is not trusted:
 * whatever it sends, a few KiB of it are held at a time, and nothing is read as something that it does not clearly say.
 * `tar-stream`, which reads more formats, holds up to 4 MiB of a header and looks at all of its fields for each entry.
 * @throws {InvalidArchiveError}
 */
export async function* readArchive(tar: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveEntry, void> {
  const bytes = new Bytes(tar);
  try {
    let pax = new Map<string, string>();
    const long = new Map<'L' | 'K', string>();
    for (let block = await bytes.exactly(tarBlockBytes); !isZero(block); block = await bytes.exactly(tarBlockBytes)) {
      checkSum(block);
      const size = paxSize(pax) ?? number(block, 124, 12);
      const type = text(block, 156, 1) || '0';
      if (type === 'x') {
        if (size > maxPaxBytes) refuse(`a header of it is ${size} bytes long`);
        pax = paxRecords(await bytes.exactly(size)) ?? refuse('a header of it is damaged');
      } else if (type === 'L' || type === 'K') {
        // A long name that is no UTF-8.
        if (size > maxPaxBytes) refuse(`a header of it is ${size} bytes long`);
        long.set(type, text(await bytes.exactly(size), 0, size));
      } else {
        const kind = kinds[type];
        if (kind === undefined) refuse(`an entry of it has the unknown type ${JSON.stringify(type)}`);
        if (kind !== 'file' && size > 0) refuse(`a ${kind} of it has a content`);
        const name = pax.get('path') ?? long.get('L') ?? ustarName(block);
        const linkTarget = pax.get('linkpath') ?? long.get('K') ?? text(block, 157, 100);
        pax = new Map();
        long.clear();
        yield { name, kind, mode: number(block, 100, 8), size, linkTarget, content: bytes.pieces(size) };
      }
      await bytes.exactly(-size & (tarBlockBytes - 1)); // the last block of a content is filled up
    }
    if (!isZero(await bytes.exactly(tarBlockBytes)) || (await bytes.some(1)))
      refuse('there is something behind its end');
  } finally {
    await bytes.close();
  }
}

/** Bytes that come in pieces of any size. */
class Bytes {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** At most `count` bytes, at least one; `undefined` at the end. */
  async some(count: number): Promise<Uint8Array | undefined> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#chunks.next();
      if (done) return undefined;
      this.#rest = value;
    }
    const piece = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(piece.length);
    return piece;
  }

  async *pieces(count: number): AsyncGenerator<Uint8Array, void> {
    for (let left = count; left > 0; ) {
      const piece = (await this.some(left)) ?? refuse('it breaks off');
      left -= piece.length;
      yield piece;
    }
  }

  /** In a buffer of their own: what they came in is not kept. */
  async exactly(count: number): Promise<Buffer> {
    const buffer = Buffer.alloc(count);
    let filled = 0;
    for await (const piece of this.pieces(count)) {
      buffer.set(piece, filled);
      filled += piece.length;
    }
    return buffer;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}

function refuse(reason: string): never {
  throw new InvalidArchiveError({ reason });
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

function checkSum(block: Buffer): void {
  if (tarSum(block) !== number(block, 148, 8)) refuse('it is no tar, or it is damaged');
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return nameOfBytes(field.subarray(0, end === -1 ? length : end));
}

function number(block: Buffer, start: number, length: number): number {
  const digits = text(block, start, length).trim();
  if (!/^[0-7]*$/.test(digits)) refuse('a number in it is none');
  return Number.parseInt(digits || '0', 8);
}

function ustarName(block: Buffer): string {
  const prefix = text(block, 345, 155);
  return `${prefix}${prefix && '/'}${text(block, 0, 100)}`;
}

function paxSize(pax: Map<string, string>): number | undefined {
  const digits = pax.get('size');
  if (digits === undefined) return undefined;
  const size = /^\d+$/.test(digits) ? Number(digits) : Number.NaN;
  return Number.isSafeInteger(size) ? size : refuse('a number in it is none');
}
