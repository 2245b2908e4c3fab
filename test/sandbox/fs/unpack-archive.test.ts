import { lstat, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UnsafeEntryError } from '../../../src/sandbox/errors.ts';
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
