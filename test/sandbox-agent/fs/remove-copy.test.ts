import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { describe, expect } from 'vitest';
import { copy } from '../../../sandbox-agent/fs/copy.ts';
import { rm } from '../../../sandbox-agent/fs/remove.ts';
import { openFiles } from '../../support/open-files.ts';
import { test } from './folder.ts';
import { present } from './operation.ts';

const remove = (path: string, recursive = true, force = false) =>
  rm({ type: 'fs.rm', requestId: 1, path, recursive, force }, present);
const copied = (from: string, to: string) => copy({ type: 'fs.copy', requestId: 1, from, to }, present);

describe('rm', () => {
  test('removes a tree with names of any bytes and never what links point to', async ({ folder }) => {
    await fs.mkdir(`${folder}/outside`);
    await fs.writeFile(`${folder}/outside/kept`, '');
    await fs.mkdir(`${folder}/tree/a/b`, { recursive: true });
    await fs.writeFile(Buffer.concat([Buffer.from(`${folder}/tree/a/`), Buffer.from([0xff])]), '');
    await fs.symlink(`${folder}/outside`, `${folder}/tree/link`);
    await fs.symlink(`${folder}/outside`, `${folder}/tree/a/b/link`);
    execFileSync('mkfifo', [`${folder}/tree/fifo`]);
    for (let index = 0; index < 1_000; index += 1) await fs.writeFile(`${folder}/tree/a/b/${index}`, '');
    await remove(`${folder}/tree`);
    expect(await fs.readdir(folder)).toEqual(['outside']);
    expect(await fs.readdir(`${folder}/outside`)).toEqual(['kept']);
  });

  test('removes a link and not what it points to, also with a slash at the end', async ({ folder }) => {
    await fs.mkdir(`${folder}/d/e`, { recursive: true });
    await fs.symlink('d', `${folder}/one`);
    await fs.symlink('d', `${folder}/two`);
    await remove(`${folder}/one`);
    await remove(`${folder}/two//`);
    expect(await fs.readdir(folder)).toEqual(['d']);
    expect(await fs.readdir(`${folder}/d`)).toEqual(['e']);
  });

  test('does not lose itself in names that become links while it works', async ({ folder }) => {
    await fs.mkdir(`${folder}/outside`);
    await fs.writeFile(`${folder}/outside/kept`, '');
    const ignore = () => {};
    let isSwapping = true;
    const swapping = (async () => {
      while (isSwapping) {
        await fs.mkdir(`${folder}/tree/x`, { recursive: true }).catch(ignore);
        await fs.writeFile(`${folder}/tree/x/f`, '').catch(ignore);
        await fs.rename(`${folder}/tree/x`, `${folder}/aside`).catch(ignore);
        await fs.symlink(`${folder}/outside`, `${folder}/tree/x`).catch(ignore);
        await fs.rm(`${folder}/aside`, { recursive: true }).catch(ignore);
        await fs.unlink(`${folder}/tree/x`).catch(ignore);
      }
    })();
    for (let round = 0; round < 300; round += 1) {
      await fs.mkdir(`${folder}/tree`, { recursive: true }).catch(ignore);
      await remove(`${folder}/tree`, true, true).catch(ignore);
    }
    isSwapping = false;
    await swapping;
    expect(await fs.readdir(`${folder}/outside`)).toEqual(['kept']);
  });

  test('needs `recursive` for a directory, and `force` for what is missing', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, '');
    await expect(remove(folder, false)).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(remove(folder, false, true)).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(remove(`${folder}/no`)).rejects.toMatchObject({ code: 'ENOENT' });
    await remove(`${folder}/no`, false, true);
    await remove(`${folder}/file/no`, true, true);
    await remove(`${folder}/file`, false);
    expect(await fs.readdir(folder)).toEqual([]);
  });

  test.for(['/', '//', '/.', '/..', '/tmp/..', '/proc/self/root/', '/tmp/.'])('refuses %s', async (path) => {
    // `/proc/self/root` is a link: it may not be removed either, by the kernel.
    await expect(remove(path)).rejects.toMatchObject({ code: expect.stringMatching(/^(EINVAL|EBUSY|EPERM)$/) });
  });

  test('removes a tree of any depth, also where its path is longer than the kernel takes', async ({ folder }) => {
    await fs.writeFile(`${folder}/t`, '');
    for (let length = 0; length < 6_000; length += 600) {
      const above = `${folder}/above/${'deeper/'.repeat(85)}`;
      await fs.mkdir(above, { recursive: true });
      await fs.rename(`${folder}/t`, `${above}/t`);
      await fs.rename(`${folder}/above`, `${folder}/t`);
    }
    await remove(`${folder}/t`);
    expect(await fs.readdir(folder)).toEqual([]);
    expect(await openFiles(folder)).toEqual([]);
  });
});

describe('copy', () => {
  test('copies a file with its mode, over another one or a link', async ({ folder }) => {
    const content = randomBytes(700_000);
    await fs.writeFile(`${folder}/from`, content, { mode: 0o751 });
    await fs.writeFile(`${folder}/old`, 'old');
    await fs.symlink('old', `${folder}/link`);
    await copied(`${folder}/from`, `${folder}/new`);
    await copied(`${folder}/from`, `${folder}/link`);
    expect((await fs.readFile(`${folder}/new`)).equals(content)).toBe(true);
    expect((await fs.stat(`${folder}/new`)).mode & 0o7777).toBe(0o751);
    expect((await fs.lstat(`${folder}/link`)).isFile()).toBe(true);
    expect(await fs.readFile(`${folder}/old`, 'utf8')).toBe('old');
  });

  test('copies a tree: modes, links as links, names of any bytes; not FIFOs', async ({ folder }) => {
    await fs.mkdir(`${folder}/from/a`, { recursive: true });
    await fs.writeFile(`${folder}/from/a/file`, 'x', { mode: 0o444 });
    await fs.writeFile(Buffer.concat([Buffer.from(`${folder}/from/`), Buffer.from([0xff])]), 'y');
    await fs.symlink('../no/where', `${folder}/from/link`);
    execFileSync('mkfifo', [`${folder}/from/fifo`]);
    await fs.chmod(`${folder}/from/a`, 0o555);
    await copied(`${folder}/from`, `${folder}/to`);
    expect((await fs.readdir(`${folder}/to`)).sort()).toEqual(['a', 'link', '\ufffd']);
    expect((await fs.stat(`${folder}/to/a`)).mode & 0o7777).toBe(0o555);
    expect((await fs.stat(`${folder}/to/a/file`)).mode & 0o7777).toBe(0o444);
    expect(await fs.readlink(`${folder}/to/link`)).toBe('../no/where');
    expect((await fs.readdir(folder)).sort()).toEqual(['from', 'to']);
  });

  test('refuses a directory into itself, however that is written', async ({ folder }) => {
    await fs.mkdir(`${folder}/a/b`, { recursive: true });
    await fs.symlink('a/b', `${folder}/link`);
    await expect(copied(`${folder}/a`, `${folder}/a/c`)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(copied(`${folder}/a`, `${folder}/link/c`)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(copied('/', `${folder}/c`)).rejects.toMatchObject({ code: 'EINVAL' });
    await fs.mkdir(`${folder}/ab`);
    await copied(`${folder}/a`, `${folder}/ab/c`);
    expect(await fs.readdir(`${folder}/ab/c`)).toEqual(['b']);
  });

  test('leaves what is there when it fails, and nothing of its own', async ({ folder }) => {
    await fs.mkdir(`${folder}/from`);
    await fs.mkdir(`${folder}/to`);
    await fs.writeFile(`${folder}/to/kept`, '');
    await expect(copied(`${folder}/from`, `${folder}/to`)).rejects.toMatchObject({ code: 'ENOTEMPTY' });
    await expect(copied(`${folder}/no`, `${folder}/x`)).rejects.toMatchObject({ code: 'ENOENT' });
    execFileSync('mkfifo', [`${folder}/fifo`]);
    await expect(copied(`${folder}/fifo`, `${folder}/x`)).rejects.toMatchObject({ code: 'ENOTSUP' });
    expect((await fs.readdir(folder)).sort()).toEqual(['fifo', 'from', 'to']);
    expect(await fs.readdir(`${folder}/to`)).toEqual(['kept']);
  });
});
