import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test as plainTest } from 'vitest';
import { glob } from '../../../sandbox-agent/fs/glob.ts';
import { grep } from '../../../sandbox-agent/fs/grep.ts';
import { Newest } from '../../../sandbox-agent/fs/newest.ts';
import type { FsGrep } from '../../../src/protocol/fs.ts';
import { test } from './folder.ts';
import { present, receivingRecords } from './operation.ts';

async function put(folder: string, files: Record<string, string>) {
  for (const [path, content] of Object.entries(files)) {
    await fs.mkdir(dirname(`${folder}/${path}`), { recursive: true });
    await fs.writeFile(`${folder}/${path}`, content);
  }
}

async function globbed(path: string, pattern: string, limit = 1_000, signal = present) {
  const { answer, records } = await receivingRecords((stream) =>
    glob({ type: 'fs.glob', requestId: 1, path, pattern, limit, stream: 1 }, stream, signal),
  );
  return { ...answer, paths: records.map((record) => (record as { path: string }).path) };
}

async function grepped(path: string, pattern: string, options: Partial<FsGrep> = {}) {
  const request = { type: 'fs.grep', requestId: 1, path, pattern, literal: false, limit: 100, stream: 1, ...options };
  const { answer, records } = await receivingRecords((stream) => grep(request as FsGrep, stream, present));
  const matches = records as { path: string; line: number; text: string }[];
  return { ...answer, matches: matches.map(({ path, line, text }) => `${path}:${line}:${text}`).sort() };
}

describe('glob', () => {
  test('gives the newest files first, no more than it may, and counts all', async ({ folder }) => {
    for (let age = 0; age < 20; age += 1) {
      await put(folder, { [`d${age % 3}/${age}.ts`]: '' });
      await fs.utimes(`${folder}/d${age % 3}/${age}.ts`, 1_000_000 - age, 1_000_000 - age);
    }
    await put(folder, { 'other.js': '' });
    expect(await globbed(folder, '*.ts', 3)).toEqual({
      paths: ['d0/0.ts', 'd1/1.ts', 'd2/2.ts'],
      total: 20,
      truncated: true,
    });
    expect(await globbed(folder, '*.ts', 20)).toMatchObject({ total: 20, truncated: false });
    expect(await globbed(folder, 'nothing')).toEqual({ paths: [], total: 0, truncated: false });
  });

  test('finds hidden files and links to files; not directories, `.git`, or what is behind a link', async ({
    folder,
  }) => {
    await put(folder, { '.env': '', '.git/config': '', 'a/.git/x': '', 'a/file': '', 'outside/in': '' });
    await fs.mkdir(`${folder}/tree`);
    await fs.symlink('../a/file', `${folder}/tree/link`);
    await fs.symlink('..', `${folder}/tree/circle`);
    await fs.symlink('nowhere', `${folder}/tree/dangling`);
    execFileSync('mkfifo', [`${folder}/tree/fifo`]);
    expect((await globbed(folder, '*')).paths.sort()).toEqual(['.env', 'a/file', 'outside/in', 'tree/link']);
    expect((await globbed(`${folder}/a/../tree/`, '*')).paths).toEqual(['link']);
  });

  test('fails on a path that is missing or no directory, and passes over what may not be read', async ({ folder }) => {
    await put(folder, { file: '' });
    await expect(globbed(`${folder}/no`, '*')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(globbed(`${folder}/file`, '*')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(globbed(folder, '{a,b}'.repeat(20))).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('lets other work go on, and ends with the connection', async ({ folder }) => {
    for (let directory = 0; directory < 20; directory += 1) {
      await put(folder, Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`${directory}/${index}`, ''])));
    }
    const aborting = new AbortController();
    setImmediate(() => aborting.abort(new Error('the host is gone')));
    const many = `{${Array.from({ length: 900 }, (_, index) => `*${index}x`).join(',')}}`;
    await expect(globbed(folder, many, 10, aborting.signal)).rejects.toThrow('the host is gone');
  });
});

plainTest('Newest keeps what sorting all and cutting would keep', () => {
  const file = fc.record({ path: fc.string({ maxLength: 3 }), modifiedMs: fc.integer({ min: 0, max: 20 }) });
  fc.assert(
    fc.property(fc.array(file, { maxLength: 60 }), fc.integer({ min: 1, max: 20 }), (files, limit) => {
      const newest = new Newest(limit);
      for (const one of files) newest.add(one);
      const sorted = files.toSorted(
        (a, b) => b.modifiedMs - a.modifiedMs || (a.path < b.path ? -1 : a.path > b.path ? 1 : 0),
      );
      expect(newest.inOrder()).toEqual(sorted.slice(0, limit));
    }),
  );
});

describe('grep', () => {
  test('gives path, line and text, at most so many, and counts all', async ({ folder }) => {
    await put(folder, { a: 'one\ntwo\nthree two\n', 'b/c': 'two', d: 'TWO' });
    expect(await grepped(folder, 'two')).toEqual({
      matches: ['a:2:two', 'a:3:three two', 'b/c:1:two'],
      total: 3,
      truncated: false,
    });
    expect(await grepped(folder, '^t(w|h)')).toMatchObject({ total: 3 });
    const few = await grepped(folder, 'two', { limit: 2 });
    expect(few).toMatchObject({ total: 3, truncated: true });
    expect(few.matches).toHaveLength(2);
    expect((await grepped(`${folder}/b/c`, 'two')).matches).toEqual(['c:1:two']);
  });

  test('takes plain text as it is, and refuses a bad expression', async ({ folder }) => {
    await put(folder, { a: 'f(x)\nfx\n$&\n' });
    expect((await grepped(folder, 'f(x)', { literal: true })).matches).toEqual(['a:1:f(x)']);
    expect((await grepped(folder, 'f(x)')).matches).toEqual(['a:2:fx']);
    await expect(grepped(folder, 'f(')).rejects.toMatchObject({ code: 'invalid_pattern' });
    await expect(grepped(`${folder}/no`, 'x')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('passes over binary files, links and `.git`; includes what a pattern names', async ({ folder }) => {
    await put(folder, {
      'a.ts': 'x',
      'b.js': 'x',
      '.git/c.ts': 'x',
      'bin.ts': 'x\0',
      '.hidden/d.ts': 'x',
      'src/e.ts': 'x',
    });
    await fs.symlink('a.ts', `${folder}/link.ts`);
    expect((await grepped(folder, 'x', { include: '*.ts' })).matches).toEqual([
      '.hidden/d.ts:1:x',
      'a.ts:1:x',
      'src/e.ts:1:x',
    ]);
    expect((await grepped(folder, 'x', { include: 'src/**' })).matches).toEqual(['src/e.ts:1:x']);
  });

  test('knows lines across the pieces in which a file is read, and takes a CR with the end', async ({ folder }) => {
    const lines = Array.from(
      { length: 30_000 },
      (_, index) => `${index % 1_000 === 999 ? 'needle' : 'straw'} ${index}`,
    );
    await put(folder, { unix: lines.join('\n'), dos: `${lines.join('\r\n')}\r\n` });
    const expected = lines.flatMap((text, index) => (text.startsWith('needle') ? [`:${index + 1}:${text}`] : []));
    const { matches } = await grepped(folder, '^needle \\d+$');
    expect(matches).toEqual(expected.flatMap((line) => [`unix${line}`, `dos${line}`]).sort());
  });

  test('searches the first MiB of a line, cuts its text between characters, and goes on behind it', async ({
    folder,
  }) => {
    const long = `${'😀'.repeat(400)}${'x'.repeat(3_000_000)}late`;
    await put(folder, { 'a.min.js': `first\n${long}\nlast late` });
    expect((await grepped(folder, '😀|late|first')).matches).toEqual([
      'a.min.js:1:first',
      `a.min.js:2:${'😀'.repeat(250)}`,
      'a.min.js:3:last late',
    ]);
    await put(folder, { 'a.min.js': `x${long}` });
    expect((await grepped(folder, '^x')).matches).toEqual([`a.min.js:1:x${'😀'.repeat(249)}`]);
    expect((await grepped(folder, 'late')).total).toBe(0);
  });

  test('stops an expression that would take for ever', async ({ folder }) => {
    await put(folder, { a: `${'a'.repeat(50)}!` });
    await expect(grepped(folder, '^(a+)+$')).rejects.toMatchObject({ code: 'pattern_too_slow' });
  });
});

describe('.gitignore', () => {
  test('is honoured as git does', async ({ folder }) => {
    await put(folder, {
      '.gitignore':
        '# comment\n\n*.log\r\n!keep.log\n/top\nbuild/\ndocs/*.txt\n**/deep/x\nlib/**/gen\n\\#odd\nspace\\ \n trailing  \n!\n/\n',
      'a.log': 'x',
      'keep.log': 'x',
      'd/b.log': 'x',
      top: 'x',
      'd/top': 'x',
      'build/out': 'x',
      'd/build/out': 'x',
      'e/build': 'x',
      'docs/a.txt': 'x',
      'docs/sub/a.txt': 'x',
      'd/docs/a.txt': 'x',
      'q/w/deep/x': 'x',
      'lib/gen': 'x',
      'lib/a/b/gen': 'x',
      '#odd': 'x',
      'space ': 'x',
      ' trailing': 'x',
      'd/.gitignore': '!b.log\nlocal\n',
      'd/local': 'x',
      local: 'x',
      'f/.gitignore': '*\n!.gitignore\n',
      'f/g': 'x',
    });
    execFileSync('git', ['init', '-q'], { cwd: folder });
    const files = execFileSync('git', ['ls-files', '-z', '-o', '--exclude-standard'], {
      cwd: folder,
      encoding: 'utf8',
    });
    const expected = files
      .split('\0')
      .filter((path) => path !== '' && !path.endsWith('.gitignore'))
      .sort();
    expect(expected.length).toBeGreaterThan(5);
    const { matches } = await grepped(folder, '^x$');
    expect(matches).toEqual(expected.map((path) => `${path}:1:x`).sort());
  });

  test('counts from above within a repository, and not outside of one', async ({ folder }) => {
    await put(folder, { '.gitignore': '*.log\n/sub/gen\n', 'sub/a.log': 'x', 'sub/gen': 'x', 'sub/b': 'x' });
    expect((await grepped(`${folder}/sub`, 'x')).matches).toEqual(['a.log:1:x', 'b:1:x', 'gen:1:x']);
    await fs.mkdir(`${folder}/.git`);
    expect((await grepped(`${folder}/sub/`, 'x')).matches).toEqual(['b:1:x']);
    expect((await grepped(`${folder}/sub/a.log`, 'x')).matches).toEqual(['a.log:1:x']);
  });

  test('may be a FIFO, a directory, a link or huge', async ({ folder }) => {
    await put(folder, {
      'a/x': 'x',
      'b/x': 'x',
      'c/x': 'x',
      'd/x': 'x',
      'd/.gitignore': `y\n${'#'.repeat(100_000)}\nx\n`,
    });
    execFileSync('mkfifo', [`${folder}/a/.gitignore`]);
    await fs.mkdir(`${folder}/b/.gitignore`);
    await fs.symlink('/dev/zero', `${folder}/c/.gitignore`);
    expect((await grepped(folder, '^x$', { include: 'x' })).matches).toEqual([
      'a/x:1:x',
      'b/x:1:x',
      'c/x:1:x',
      'd/x:1:x',
    ]);
  });
});
