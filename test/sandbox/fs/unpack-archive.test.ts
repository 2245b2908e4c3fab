import { lstat, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CopyLimitError, InvalidArchiveError, UnsafeEntryError } from '../../../src/sandbox/errors.ts';
import { unpackArchive } from '../../../src/sandbox/fs/unpack-archive.ts';

let folder: string;
let target: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unpack-'));
  target = join(folder, 'target');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

type Entry = Partial<Header> & { name: string; content?: string };
function tarOf(...entries: Entry[]): Readable {
  const archive = pack();
  for (const { content = '', ...header } of entries) archive.entry(header, content);
  archive.finalize();
  return Readable.from(archive);
}
const directory: Entry = { name: 'tree', type: 'directory' };

test('gives files, directories, permissions and links that stay inside', async () => {
  const { leftOut } = await unpackArchive(
    tarOf(
      directory,
      { name: 'tree/run', content: 'x', mode: 0o4755 },
      { name: 'tree/a/link', type: 'symlink', linkname: '../run' },
      { name: 'tree/closed', type: 'directory', mode: 0o500 },
      { name: 'tree/closed/in', content: 'y' },
    ),
    target,
  );
  expect(leftOut).toEqual([]);
  expect((await lstat(join(target, 'run'))).mode & 0o7777).toBe(0o755); // without the set-user-id bit
  expect(await readlink(join(target, 'a/link'))).toBe('../run');
  expect(await readFile(join(target, 'closed/in'), 'utf8')).toBe('y');
});

test.each<Entry>([
  { name: 'tree/../../outside', content: 'x' },
  { name: '/tmp/outside', content: 'x' },
  { name: 'tree/device', type: 'character-device' },
  { name: 'tree/pipe', type: 'fifo' },
  { name: 'tree/hard', type: 'link', linkname: '/etc/passwd' },
])('refuses $name ($type) and leaves nothing behind', async (entry) => {
  await expect(unpackArchive(tarOf(directory, entry), target)).rejects.toThrow(UnsafeEntryError);
  expect(await readdir(folder)).toEqual([]);
});

test.each(['/etc', '../..', '..', 'a/../..', './/../x', ''])('leaves out a link to %j', async (linkname) => {
  const { leftOut } = await unpackArchive(tarOf(directory, { name: 'tree/link', type: 'symlink', linkname }), target);
  expect(leftOut).toMatchObject([{ path: 'link' }]);
  expect(await readdir(target)).toEqual([]);
});

test('never writes through a link of the archive', async () => {
  const links: Entry[] = [
    { name: 'tree/l', type: 'symlink', linkname: '../..' },
    { name: 'tree/l/file', content: 'x' },
  ];
  const { leftOut } = await unpackArchive(tarOf(directory, ...links), target);
  expect(leftOut).toMatchObject([{ path: 'l' }]);
  expect((await lstat(join(target, 'l'))).isDirectory()).toBe(true);
  expect(await readdir(folder)).toEqual(['target']);

  // Inside by its words, outside by what it would mean below a link: the link can't take the directory's place.
  const chain: Entry[] = [
    { name: 'tree/d/a', type: 'symlink', linkname: '..' },
    { name: 'tree/d/a/x', type: 'symlink', linkname: '../..' },
  ];
  await expect(unpackArchive(tarOf(directory, ...chain), join(folder, 'other'))).rejects.toThrow('EEXIST');
  expect(await readdir(folder)).toEqual(['target']);
});

test('an archive that breaks off leaves nothing behind', async () => {
  const whole = await tarOf(directory, { name: 'tree/f', content: 'x'.repeat(5_000) }).toArray();
  const half = Buffer.concat(whole.map((chunk) => Buffer.from(chunk))).subarray(0, 3_000);
  await expect(unpackArchive(Readable.from([half]), target)).rejects.toThrow();
  const failing = Readable.from(
    (async function* () {
      yield half;
      throw new Error('the wire is gone');
    })(),
  );
  await expect(unpackArchive(failing, target)).rejects.toThrow('the wire is gone');
  expect(await readdir(folder)).toEqual([]);
});

/** One block of an archive, its sum right: for archives that no good program writes. */
function block(type: string, name: string, size: number, linkTarget = ''): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(`${(0o644).toString(8).padStart(7, '0')}\0`, 100);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write(type, 156);
  header.write(linkTarget, 157);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 8 * 0x20);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** A source that goes on for as long as it is asked; counts what was taken from it. */
function endless(first: Buffer, more: () => Buffer): { tar: Readable; taken: () => number } {
  let taken = 0;
  const tar = Readable.from(
    (function* () {
      for (let chunk = first; ; chunk = more()) {
        taken += chunk.length;
        yield chunk;
      }
    })(),
    { highWaterMark: 1 },
  );
  return { tar, taken: () => taken };
}

const MiB = 1024 * 1024;

test.each([
  ['a pax header', 'x'],
  ['a pax header for all that follows', 'g'],
  ['a long name', 'L'],
  ['a long link', 'K'],
])('refuses %s of 4 MiB before it is held in memory', async (_, type) => {
  const { tar, taken } = endless(block(type, 'long', 4 * MiB), () => Buffer.alloc(64, 'a'));
  await expect(unpackArchive(tar, target)).rejects.toThrow(InvalidArchiveError);
  expect(taken()).toBeLessThan(4_096);
  expect(tar.destroyed).toBe(true);
  expect(await readdir(folder)).toEqual([]);
});

test('refuses more links than it can hold until all files are there', async () => {
  const body = Buffer.alloc(4_096, ' ')
    .fill(`4096 linkpath=${'t'.repeat(4_081)}`)
    .fill('\n', 4_095);
  const link = () => Buffer.concat([block('x', 'pax', 4_096), body, block('2', 'tree/link', 0)]);
  const { tar, taken } = endless(block('5', 'tree/', 0), link);
  await expect(unpackArchive(tar, target)).rejects.toThrow(InvalidArchiveError);
  expect(taken()).toBeLessThan(64 * MiB);
  expect(await readdir(folder)).toEqual([]);
});

test('writes no more than it may: not of one file, not of many, and not in things that have no content', async () => {
  const maxBytes = MiB;
  const big = endless(block('0', 'tree/big', 1024 * MiB), () => Buffer.alloc(MiB));
  await expect(unpackArchive(big.tar, target, { maxBytes })).rejects.toThrow(new CopyLimitError({ maxBytes }));
  expect(big.taken()).toBeLessThan(4_096); // its size alone says that it is too large

  let count = 0;
  const many = endless(block('5', 'tree/', 0), () =>
    Buffer.concat([block('0', `tree/f${count++}`, 512), Buffer.alloc(512)]),
  );
  await expect(unpackArchive(many.tar, target, { maxBytes })).rejects.toThrow(CopyLimitError);

  const empty = endless(block('5', 'tree/', 0), () => block('5', `tree/d${count++}`, 0));
  await expect(unpackArchive(empty.tar, target, { maxBytes })).rejects.toThrow(CopyLimitError);
  expect(count).toBeLessThan(1_000);
  expect(await readdir(folder)).toEqual([]);
});

test('takes an archive in pieces of any size', () =>
  fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 1_500 }), { minLength: 1 }), async (sizes) => {
      const to = join(folder, 'pieces');
      await rm(to, { recursive: true, force: true });
      const long = `tree/${'directory/'.repeat(20)}f`;
      const whole = Buffer.concat(
        (await tarOf(directory, { name: long, content: 'x'.repeat(1_300) }).toArray()).map((chunk) =>
          Buffer.from(chunk),
        ),
      );
      const pieces: Buffer[] = [];
      for (let at = 0, i = 0; at < whole.length; at += sizes[i % sizes.length] ?? 1, i++) {
        pieces.push(whole.subarray(at, at + (sizes[i % sizes.length] ?? 1)));
      }
      await unpackArchive(Readable.from(pieces), to);
      expect(await readFile(join(to, long.slice('tree/'.length)), 'utf8')).toBe('x'.repeat(1_300));
    }),
    { numRuns: 20 },
  ));

test.each<[string, Buffer]>([
  ['no tar', Buffer.alloc(1_024, 'no tar ')],
  ['a wrong sum', Buffer.from(block('0', 'tree/f', 0)).fill('x', 0, 1)],
  ['a size that is none', block('0', 'tree/f', 0).fill('9', 124, 125)],
  ['a header without an end', Buffer.concat([block('x', 'pax', 10), Buffer.alloc(512, 'a')])],
  ['something behind its end', Buffer.concat([Buffer.alloc(1_024), block('5', 'tree/', 0)])],
  ['no end', block('5', 'tree/', 0)],
  ['a link with content', Buffer.concat([block('2', 'tree/l', 3, 'x'), Buffer.alloc(512)])],
])('refuses an archive with %s', async (_, bytes) => {
  await expect(unpackArchive(Readable.from([bytes]), target)).rejects.toThrow(InvalidArchiveError);
  expect(await readdir(folder)).toEqual([]);
});

test('stops when it is told to, also while it waits', async () => {
  const stop = new AbortController();
  const tar = new Readable({ read() {} });
  tar.push(block('5', 'tree/', 0));
  const unpacking = unpackArchive(tar, target, { signal: stop.signal });
  stop.abort();
  await expect(unpacking).rejects.toMatchObject({ name: 'AbortError' });
  expect(await readdir(folder)).toEqual([]);
});
