import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../../src/protocol/limits.ts';
import { packDirectory } from '../../../src/sandbox/fs/pack-directory.ts';
import { readArchive } from '../../../src/sandbox/fs/read-archive.ts';
import { openFiles } from '../../support/open-files.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pack-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

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

test('packs files of any size and name, many small ones in one piece', async () => {
  const sizes = Array.from(
    { length: 60 },
    (_, at) => [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 300_000][at % 9] ?? 0,
  );
  // Compared byte by byte they would take ten seconds.
  const digest = (content: Buffer) => createHash('sha256').update(content).digest('hex');
  const wanted = new Map<string, string>();
  for (const [at, size] of sizes.entries()) {
    const directory = ['', 'd/', `${'ü'.repeat(120)}/`][at % 3];
    const name = `${directory}${at}${'n'.repeat(at % 2 === 0 ? 0 : 200)}`;
    await mkdir(join(folder, directory ?? ''), { recursive: true });
    const content = randomBytes(size);
    wanted.set(name, digest(content));
    await writeFile(join(folder, name), content);
  }
  const found = new Map<string, string>();
  const pieces: number[] = [];
  const tar = packDirectory(folder).map((piece: Buffer) => {
    pieces.push(piece.length);
    return piece;
  });
  for await (const { name, kind, content } of readArchive(tar)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk);
    if (kind === 'file') found.set(name, digest(Buffer.concat(chunks)));
  }
  expect(found).toEqual(wanted);
  expect(Math.max(...pieces)).toBeLessThanOrEqual(limits.data);
  expect(pieces.length).toBeLessThan(wanted.size);
});

test('stops where it is when nobody reads it any more, and closes the file that it reads', async () => {
  for (const name of ['a', 'b', 'c']) {
    await writeFile(join(folder, name), '');
    await truncate(join(folder, name), 64 * 1024 * 1024);
  }
  const tar = packDirectory(folder);
  for await (const _ of tar.iterator({ destroyOnReturn: false })) break;
  expect(await openFiles(folder)).toHaveLength(1);
  tar.destroy();
  await finished(tar).catch(() => {}); // it says that it ended too early
  await expect.poll(() => openFiles(folder)).toEqual([]);
});

test('fails when something in it can not be read', async () => {
  await expect(packDirectory(join(folder, 'none')).toArray()).rejects.toMatchObject({ code: 'ENOENT' });
});
