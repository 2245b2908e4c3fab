import { mkdir, mkdtemp, readdir, readlink, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packDirectory } from '../../../src/sandbox/fs/pack-directory.ts';
import { readArchive } from '../../../src/sandbox/fs/read-archive.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pack-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Paths below the folder that this process has open. */
async function openFiles(): Promise<string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(links)).filter((path) => path.startsWith(folder));
}

test('packs what is in a directory, not its sockets, with links as links', async () => {
  await mkdir(join(folder, 'a/empty'), { recursive: true });
  await writeFile(join(folder, 'a/file'), 'content', { mode: 0o750 });
  await symlink('/etc/passwd', join(folder, 'link'));
  const entries: unknown[] = [];
  for await (const { content, ...entry } of readArchive(packDirectory(folder))) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk);
    entries.push({ ...entry, content: Buffer.concat(chunks).toString() });
  }
  expect(entries).toHaveLength(4);
  expect(entries).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ name: 'a/empty/', kind: 'directory' }),
      expect.objectContaining({ name: 'a/file', kind: 'file', mode: 0o750, content: 'content' }),
      expect.objectContaining({ name: 'link', kind: 'symlink', linkTarget: '/etc/passwd' }),
    ]),
  );
});

test('stops where it is when nobody reads it any more, and closes the file that it reads', async () => {
  for (const name of ['a', 'b', 'c']) {
    await writeFile(join(folder, name), '');
    await truncate(join(folder, name), 64 * 1024 * 1024);
  }
  const tar = packDirectory(folder);
  for await (const _ of tar.iterator({ destroyOnReturn: false })) break;
  expect(await openFiles()).toHaveLength(1);
  tar.destroy();
  await finished(tar).catch(() => {}); // it says that it ended too early
  await expect.poll(openFiles).toEqual([]);
});

test('fails when something in it can not be read', async () => {
  await expect(packDirectory(join(folder, 'none')).toArray()).rejects.toMatchObject({ code: 'ENOENT' });
});
