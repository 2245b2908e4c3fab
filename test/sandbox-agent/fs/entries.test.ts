import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { describe, expect } from 'vitest';
import { chmod, mkdir, readdir, readlink, realpath, rename, stat, symlink } from '../../../sandbox-agent/fs/entries.ts';
import { test } from './folder.ts';
import { present, receivingRecords } from './operation.ts';

const id = { requestId: 1 } as const;

describe('stat', () => {
  test('follows a link when it is asked to', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, 'hello', { mode: 0o640 });
    await fs.symlink('file', `${folder}/link`);
    expect(await stat({ type: 'fs.stat', ...id, path: `${folder}/link`, follow: true })).toMatchObject({
      kind: 'file',
      size: 5,
      mode: 0o640,
    });
    expect(await stat({ type: 'fs.stat', ...id, path: `${folder}/link`, follow: false })).toMatchObject({
      kind: 'symlink',
    });
    expect(await stat({ type: 'fs.stat', ...id, path: folder, follow: true })).toMatchObject({ kind: 'directory' });
    expect(await stat({ type: 'fs.stat', ...id, path: '/dev/null', follow: true })).toMatchObject({ kind: 'other' });
  });

  test('gives the name of the kernel’s error', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, '');
    await expect(stat({ type: 'fs.stat', ...id, path: `${folder}/no`, follow: true })).rejects.toMatchObject({
      code: 'ENOENT',
    });
    await expect(stat({ type: 'fs.stat', ...id, path: `${folder}/file/no`, follow: true })).rejects.toMatchObject({
      code: 'ENOTDIR',
    });
  });
});

describe('readdir', () => {
  const list = (path: string, withStats: boolean) =>
    receivingRecords((stream) => readdir({ type: 'fs.readdir', ...id, path, withStats, stream: 1 }, stream, present));

  test('sends every entry of a directory that is larger than a window', async ({ folder }) => {
    const names = Array.from({ length: 5_000 }, (_, index) => `${'long-name-'.repeat(12)}${index}`);
    for (const name of names) await fs.writeFile(`${folder}/${name}`, '');
    const { records } = await list(folder, false);
    expect(new Set(records.map((record) => (record as { name: string }).name))).toEqual(new Set(names));
  });

  test('gives stats of the entries themselves', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, 'hello');
    await fs.symlink('nowhere', `${folder}/link`);
    const { records } = await list(folder, true);
    expect(records).toHaveLength(2);
    expect(records).toContainEqual({ name: 'file', stats: expect.objectContaining({ kind: 'file', size: 5 }) });
    expect(records).toContainEqual({ name: 'link', stats: expect.objectContaining({ kind: 'symlink' }) });
  });

  test('gives names that are no UTF-8 with an escape for each byte, and their stats', async ({ folder }) => {
    await fs.writeFile(Buffer.concat([Buffer.from(`${folder}/a`), Buffer.from([0xff, 0xfe])]), 'hello');
    const { records } = await list(folder, true);
    expect(records).toEqual([{ name: 'a\udcff\udcfe', stats: expect.objectContaining({ size: 5 }) }]);
  });

  test('fails on what is no directory', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, '');
    execFileSync('mkfifo', [`${folder}/fifo`]);
    await expect(list(`${folder}/file`, false)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(list(`${folder}/fifo`, false)).rejects.toMatchObject({ code: 'ENOTDIR' });
  });
});

describe('mkdir', () => {
  test('makes parents only when it is asked to, and then takes what is there', async ({ folder }) => {
    const path = `${folder}/a/b`;
    await expect(mkdir({ type: 'fs.mkdir', ...id, path, recursive: false })).rejects.toMatchObject({ code: 'ENOENT' });
    await mkdir({ type: 'fs.mkdir', ...id, path, recursive: true });
    await mkdir({ type: 'fs.mkdir', ...id, path, recursive: true });
    await expect(mkdir({ type: 'fs.mkdir', ...id, path, recursive: false })).rejects.toMatchObject({ code: 'EEXIST' });
  });

  test('says so where the kernel makes none, a file is in the way, or a link leads nowhere', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, '');
    await fs.symlink('nowhere', `${folder}/link`);
    for (const [path, code] of [
      ['/proc/berth-none/a', 'ENOENT'],
      [`${folder}/file`, 'EEXIST'],
      [`${folder}/file/a`, 'ENOTDIR'],
      [`${folder}/link/a`, 'EEXIST'],
    ] as const)
      await expect(mkdir({ type: 'fs.mkdir', ...id, path, recursive: true }), path).rejects.toMatchObject({ code });
  });

  test('sets the mode exactly, and not on what was there', async ({ folder }) => {
    const path = `${folder}/a`;
    await mkdir({ type: 'fs.mkdir', ...id, path, recursive: true, mode: 0o777 });
    expect((await fs.stat(path)).mode & 0o7777).toBe(0o777);
    await mkdir({ type: 'fs.mkdir', ...id, path, recursive: true, mode: 0o700 });
    expect((await fs.stat(path)).mode & 0o7777).toBe(0o777);
  });
});

describe('links', () => {
  test('are written and read as they are', async ({ folder }) => {
    await symlink({ type: 'fs.symlink', ...id, target: '../no/../where', path: `${folder}/link` });
    expect(await readlink({ type: 'fs.readlink', ...id, path: `${folder}/link` })).toEqual({
      target: '../no/../where',
    });
    await expect(symlink({ type: 'fs.symlink', ...id, target: 'x', path: `${folder}/link` })).rejects.toMatchObject({
      code: 'EEXIST',
    });
  });

  test('are resolved by realpath', async ({ folder }) => {
    await fs.mkdir(`${folder}/a`);
    await fs.symlink('a', `${folder}/link`);
    const real = await fs.realpath(folder);
    expect(await realpath({ type: 'fs.realpath', ...id, path: `${folder}/link` })).toEqual({ target: `${real}/a` });
  });

  test('may point to any bytes', async ({ folder }) => {
    await fs.symlink(Buffer.alloc(2_000, 0xff), `${folder}/link`);
    const { target } = await readlink({ type: 'fs.readlink', ...id, path: `${folder}/link` });
    expect(target).toBe('\udcff'.repeat(2_000));
    await symlink({ type: 'fs.symlink', ...id, target, path: `${folder}/again` });
    expect(await fs.readlink(`${folder}/again`, 'buffer')).toEqual(Buffer.alloc(2_000, 0xff));
  });
});

test('rename replaces a file; chmod follows links', async ({ folder }) => {
  await fs.writeFile(`${folder}/a`, 'a');
  await fs.writeFile(`${folder}/b`, 'b');
  await rename({ type: 'fs.rename', ...id, from: `${folder}/a`, to: `${folder}/b` });
  expect(await fs.readFile(`${folder}/b`, 'utf8')).toBe('a');
  await fs.symlink('b', `${folder}/link`);
  await chmod({ type: 'fs.chmod', ...id, path: `${folder}/link`, mode: 0o4750 });
  expect((await fs.stat(`${folder}/b`)).mode & 0o7777).toBe(0o4750);
});
