import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { pack } from 'tar-stream';
import { describe, expect } from 'vitest';
import { type ArchiveEntry, TarReader } from '../../../sandbox-agent/fs/tar-reader.ts';
import { tarHeader, tarPadding, tarSum } from '../../../src/protocol/tar-header.ts';
import { test } from './folder.ts';

type Read = ArchiveEntry & { content: string };

/** All entries of an archive that comes in these pieces. */
function read(pieces: Iterable<Uint8Array>): Read[] {
  const reader = new TarReader();
  const entries: Read[] = [];
  const next = () => {
    const last = entries.at(-1);
    for (let piece = reader.piece(); piece && last; piece = reader.piece()) last.content += piece.toString('latin1');
    if (reader.left > 0) return undefined;
    return reader.next();
  };
  for (const piece of pieces) {
    reader.push(piece);
    for (let entry = next(); entry; entry = next()) entries.push({ ...entry, content: '' });
  }
  reader.end();
  return entries;
}

/** A header with these fields, its sum right. */
function header(fields: {
  name?: string;
  type?: string;
  size?: string | Buffer;
  mtime?: string | Buffer;
  link?: string;
  magic?: string;
  prefix?: string;
}): Buffer {
  const { name = 'name', type = '0', size = '0', mtime = '0', link = '', magic = 'ustar\x0000', prefix = '' } = fields;
  const block = Buffer.alloc(512);
  const put = (value: string | Buffer, at: number) => Buffer.from(value as string, 'latin1').copy(block, at);
  put(name, 0);
  put('0000644\0', 100);
  put(size, 124);
  put(mtime, 136);
  put(type, 156);
  put(link, 157);
  put(magic, 257);
  put(prefix, 345);
  block.write(`${tarSum(block).toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
const body = (content: string) => Buffer.concat([Buffer.from(content), tarPadding(Buffer.byteLength(content))]);
const extended = (type: string, content: string) =>
  Buffer.concat([header({ type, size: Buffer.byteLength(content).toString(8) }), body(content)]);
/** The length counts itself. */
const record = (key: string, value: string) => {
  const rest = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(rest);
  while (length !== `${length}`.length + Buffer.byteLength(rest)) length = `${length}`.length + Buffer.byteLength(rest);
  return `${length}${rest}`;
};
const pax = (records: Record<string, string>, type = 'x') =>
  extended(
    type,
    Object.entries(records)
      .map(([key, value]) => record(key, value))
      .join(''),
  );
const zeros = Buffer.alloc(1024);
const whole = (...pieces: Buffer[]) => read([Buffer.concat(pieces)]);
const refusal = (...pieces: Buffer[]) => {
  try {
    whole(...pieces);
  } catch (error) {
    return error as { code: string; message: string };
  }
  return undefined;
};

/** Of each kind of header one. */
const mixed = Buffer.concat([
  pax({ comment: 'of all', mtime: '7.25' }, 'g'),
  tarHeader({ name: 'd', kind: 'directory', size: 0, mode: 0o755, uid: 0, gid: 0, modifiedMs: 0, linkTarget: '' }),
  header({ name: 'd/file', size: '3 ' }),
  body('abc'),
  extended('L', `d/${'l'.repeat(120)}\0`),
  extended('K', `${'t'.repeat(120)}\0`),
  header({ name: 'd/lll', type: '2', link: 'ttt', magic: 'ustar  \0' }),
  pax({ path: 'd/ü', mtime: '-1.5' }),
  header({ name: 'd/u', size: '1001' }),
  body('x'.repeat(513)),
  header({ name: 'last', prefix: 'd/prefix', type: '1', link: 'd/file' }),
  zeros,
]);

describe('the reader of archives', () => {
  test('gives the same, wherever an archive is cut in two, or in pieces of any size', () => {
    const entries = whole(mixed);
    expect(entries).toMatchObject([
      { name: 'd/', kind: 'directory', mode: 0o755, modifiedSeconds: 7.25 },
      { name: 'd/file', kind: 'file', size: 3, content: 'abc' },
      { name: `d/${'l'.repeat(120)}`, kind: 'symlink', linkTarget: 't'.repeat(120) },
      { name: 'd/ü', kind: 'file', size: 513, content: 'x'.repeat(513), modifiedSeconds: -1.5 },
      { name: 'd/prefix/last', kind: 'hard link', linkTarget: 'd/file' },
    ]);
    for (let cut = 0; cut <= mixed.length; cut++) {
      expect(read([mixed.subarray(0, cut), mixed.subarray(cut)])).toEqual(entries);
    }
    for (const size of [1, 2, 3, 511, 512, 513]) {
      const pieces = Array.from({ length: Math.ceil(mixed.length / size) }, (_, at) =>
        mixed.subarray(at * size, (at + 1) * size),
      );
      expect(read(pieces)).toEqual(entries);
    }
  });

  test('refuses an archive that ends anywhere but between two entries', () => {
    const ends: number[] = [];
    for (let end = 0; end <= mixed.length; end++) {
      const error = refusal(mixed.subarray(0, end));
      if (error) expect(error).toMatchObject({ code: 'invalid_tar', message: 'the archive ends within it' });
      else ends.push(end / 512);
    }
    // Behind the global header, the directory, each entry with all that belongs to it, and each block of zeros.
    expect(ends).toEqual([0, 2, 3, 5, 10, 15, 16, 17, 18]);
  });

  test('passes over what is not read of a content', () => {
    const reader = new TarReader();
    reader.push(mixed);
    const names: string[] = [];
    for (let entry = reader.next(); entry; entry = reader.next()) names.push(entry.name);
    reader.end();
    expect(names).toHaveLength(5);
    expect(reader.left).toBe(0);
  });

  test('gives a content in one piece when all of it is there', () => {
    const reader = new TarReader();
    reader.push(header({ size: '10' }));
    expect(reader.next()).toMatchObject({ size: 8 });
    for (const piece of ['abc', 'de', 'f']) {
      reader.push(Buffer.from(piece));
      expect(reader.content()).toBeUndefined();
    }
    reader.push(Buffer.from('gh, padding'));
    expect(reader.content()?.toString()).toBe('abcdefgh');
    expect(reader.content()).toHaveLength(0);
    expect(reader.left).toBe(0);
  });

  test('reads archives that follow each other, with any number of zeros between them', () => {
    expect(whole(zeros, header({}), zeros, zeros, header({ name: 'second' }), zeros)).toMatchObject([
      { name: 'name' },
      { name: 'second' },
    ]);
    expect(whole()).toEqual([]);
  });

  test('reads numbers as octal digits with blanks around them, or as bytes with a sign', () => {
    const size = (text: string | Buffer) => {
      const reader = new TarReader();
      reader.push(header({ size: text }));
      return reader.next()?.size;
    };
    const eightGiB = Buffer.from('80000000000000020000 0000'.replace(' ', ''), 'hex');
    expect(size('77777777777\0')).toBe(8 * 1024 ** 3 - 1);
    expect(size('100000000000')).toBe(8 * 1024 ** 3);
    expect(size(eightGiB)).toBe(8 * 1024 ** 3);
    expect(size('    17 \0')).toBe(15);
    expect(size('')).toBe(0);
    const mtime = (text: string | Buffer) => whole(header({ mtime: text }))[0]?.modifiedSeconds;
    expect(mtime(Buffer.alloc(12, 0xff))).toBe(-1);
    expect(mtime(Buffer.concat([Buffer.alloc(10, 0xff), Buffer.from([0xfe, 0x00])]))).toBe(-512);
    expect(mtime(Buffer.from('800000000000000080000000', 'hex'))).toBe(2 ** 31);
  });

  test.for<[what: string, pieces: Buffer[]]>([
    ['a wrong sum', [Buffer.concat([header({}).subarray(0, 100), Buffer.from('1'), header({}).subarray(101)])]],
    ['bytes at random', [randomBytes(5_120)]],
    ['a size with other letters', [header({ size: '12x' })]],
    ['a size with a digit too large', [header({ size: '128' })]],
    ['a negative size', [header({ size: Buffer.alloc(12, 0xff) })]],
    ['a size beyond all numbers', [header({ size: Buffer.concat([Buffer.from([0x80]), Buffer.alloc(11, 0xff)]) })]],
    ['a pax size beyond all numbers', [pax({ size: '9'.repeat(40) }), header({})]],
    ['a pax size below zero', [pax({ size: '-1' }), header({})]],
    ['a pax size that is none', [pax({ size: 'many' }), header({})]],
    ['a broken pax size', [pax({ size: '1.5' }), header({})]],
    ['a pax header of 4 MiB and a byte', [header({ type: 'x', size: (4 * 1024 ** 2 + 1).toString(8) })]],
    ['a long name of 8 GiB', [header({ type: 'L', size: '100000000000' })]],
    ['a negative long name', [header({ type: 'L', size: Buffer.alloc(12, 0xff) })]],
    ['a pax record that is longer than its header', [extended('x', '99 path=a\n'), header({})]],
    ['a pax record without a length', [extended('x', 'path=a\n'), header({})]],
    ['a pax record without an end', [extended('x', '10 path=ab'), header({})]],
    ['a pax record of no length', [extended('x', '0 path=a\n'), header({})]],
    ['a pax header for nothing', [pax({ path: 'a' })]],
    ['a long name for nothing', [extended('L', 'a\0'), zeros]],
  ])('refuses %s', ([, pieces]) => {
    expect(refusal(...pieces)).toMatchObject({ code: 'invalid_tar' });
  });

  test('holds no more of a header than it may, before it refuses it', () => {
    const reader = new TarReader();
    reader.push(header({ type: 'x', size: '77777777777' }));
    expect(() => reader.next()).toThrow('8589934591 bytes long');
  });

  test('a record of an entry comes before one for all, and an empty one takes that back', () => {
    const entries = whole(
      pax({ mtime: '5', path: 'all' }, 'g'),
      header({ mtime: '17' }),
      pax({ mtime: '6', path: 'own' }),
      header({ mtime: '17' }),
      pax({ mtime: '', path: '' }),
      header({ mtime: '17' }),
      pax({ mtime: '8' }, 'g'),
      extended('L', 'long\0'),
      header({ mtime: '17' }),
    );
    expect(entries.map(({ name, modifiedSeconds }) => [name, modifiedSeconds])).toEqual([
      ['all', 5],
      ['own', 6],
      ['name', 15],
      ['all', 8],
    ]);
  });

  test('says what it has no kind for, and what a sparse file is', () => {
    const kinds = ['3', '4', '6', 'S', 'D', 'V', 'M', 'Z', ' '].map((type) => whole(header({ type }))[0]?.kind);
    expect(kinds).toEqual([undefined, undefined, undefined, 'sparse file', ...Array(5).fill(undefined)]);
    expect(whole(pax({ 'GNU.sparse.map': '0,1' }), header({}))[0]?.kind).toBe('sparse file');
    expect(whole(header({ type: '\0', magic: '' }), header({ type: '7' }))).toMatchObject([
      { kind: 'file' },
      { kind: 'file' },
    ]);
  });

  test('keeps the bytes of names that are no UTF-8, and cuts none at the border of a field', () => {
    expect(whole(header({ name: 'a\xff' }))[0]?.name).toBe('a\udcff');
    expect(whole(extended('L', 'b'), header({}))[0]?.name).toBe('b');
    const full = 'n'.repeat(100);
    expect(whole(header({ name: full, prefix: 'p'.repeat(155) }))[0]?.name).toBe(`${'p'.repeat(155)}/${full}`);
    expect(whole(header({ type: '2', link: 't'.repeat(100) }))[0]?.linkTarget).toBe('t'.repeat(100));
    // GNU's own format has times there.
    expect(whole(header({ prefix: '12345670123', magic: 'ustar  \0' }))[0]?.name).toBe('name');
  });

  test('gives what other programs packed, in any pieces', { timeout: 60_000 }, async ({ folder }) => {
    const name = fc.stringMatching(/^[a-zü]{1,130}$/);
    const file = fc.record({ name, content: fc.string({ unit: 'binary-ascii', maxLength: 2_000 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(file, { selector: ({ name }) => name, maxLength: 5 }),
        fc.nat(2_000),
        async (files, size) => {
          const archive = pack();
          for (const { name, content } of files) archive.entry({ name }, content);
          archive.finalize();
          const bytes = Buffer.concat(await Readable.from(archive).toArray());
          const pieces = Array.from({ length: Math.ceil(bytes.length / (size + 1)) }, (_, at) =>
            bytes.subarray(at * (size + 1), (at + 1) * (size + 1)),
          );
          expect(read(pieces).map(({ name, content }) => ({ name, content }))).toEqual(files);
        },
      ),
      { numRuns: 50 },
    );
    await fs.mkdir(`${folder}/${'d'.repeat(150)}`);
    await fs.writeFile(`${folder}/${'d'.repeat(150)}/${'f'.repeat(150)}`, 'content');
    for (const format of ['gnu', 'pax', 'oldgnu']) {
      const tar = execFileSync('tar', ['-C', folder, `--format=${format}`, '-c', '.']);
      expect(whole(tar).at(-1)).toMatchObject({ name: `./${'d'.repeat(150)}/${'f'.repeat(150)}`, content: 'content' });
    }
  });

  test('gives entries or refuses, whatever the bytes', () => {
    const good = mixed;
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.boolean(), (at, byte, isSumRight) => {
        const bytes = Buffer.from(good);
        bytes[at] = byte;
        if (isSumRight) {
          const start = at - (at % 512);
          const block = bytes.subarray(start, start + 512);
          block.write(`${tarSum(block).toString(8).padStart(6, '0')}\0 `, 148);
        }
        const error = refusal(bytes);
        if (error) expect(error.code).toBe('invalid_tar');
      }),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 2_000) },
    );
  });
});
