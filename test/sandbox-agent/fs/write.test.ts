import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { describe, expect } from 'vitest';
import { writeFile } from '../../../sandbox-agent/fs/write.ts';
import { limits } from '../../../src/protocol/limits.ts';
import { test } from './folder.ts';
import { sending } from './operation.ts';

const write = (path: string, content: string | Buffer, how: 'replace' | 'append' = 'replace', mode?: number) => {
  const request = { type: 'fs.write', requestId: 1, path, how, ...(mode === undefined ? {} : { mode }), stream: 1 };
  return sending([Buffer.from(content)], (stream) => writeFile(request as never, stream));
};
const writeAndGiveUp = (path: string, how: 'replace' | 'append', isWritten = async () => true) =>
  sending(interrupted(isWritten), (stream) =>
    writeFile({ type: 'fs.write', requestId: 1, path, how, stream: 1 }, stream),
  );
async function* interrupted(isWritten: () => Promise<boolean>) {
  yield Buffer.from('half of ');
  while (!(await isWritten())) await new Promise((resolve) => setImmediate(resolve));
  throw new Error('the host changed its mind');
}
const modeOf = async (path: string) => (await fs.stat(path)).mode & 0o7777;

describe('replace', () => {
  test('writes a file of any size, with its parents', async ({ folder }) => {
    const content = randomBytes(3 * limits.window + 17);
    await write(`${folder}/a/b/file`, content);
    expect((await fs.readFile(`${folder}/a/b/file`)).equals(content)).toBe(true);
    expect(await fs.readdir(`${folder}/a/b`)).toEqual(['file']);
  });

  test('writes an empty file', async ({ folder }) => {
    await sending([], (stream) =>
      writeFile({ type: 'fs.write', requestId: 1, path: `${folder}/file`, how: 'replace', stream: 1 }, stream),
    );
    expect(await fs.readFile(`${folder}/file`, 'utf8')).toBe('');
  });

  test('keeps the mode of the old file, and else takes the one it is given or 0644', async ({ folder }) => {
    await write(`${folder}/new`, 'x');
    expect(await modeOf(`${folder}/new`)).toBe(0o644);
    await write(`${folder}/open`, 'x', 'replace', 0o666);
    expect(await modeOf(`${folder}/open`)).toBe(0o666);
    await fs.chmod(`${folder}/new`, 0o755);
    await write(`${folder}/new`, 'y');
    expect(await modeOf(`${folder}/new`)).toBe(0o755);
    await write(`${folder}/new`, 'y', 'replace', 0o600);
    expect(await modeOf(`${folder}/new`)).toBe(0o600);
  });

  test('writes what a link points to, over several links, also when that is missing', async ({ folder }) => {
    await fs.mkdir(`${folder}/d`);
    await fs.writeFile(`${folder}/d/file`, 'old');
    await fs.symlink('d/second', `${folder}/first`);
    await fs.symlink('../d/file', `${folder}/d/second`);
    await write(`${folder}/first`, 'new');
    expect(await fs.readFile(`${folder}/d/file`, 'utf8')).toBe('new');
    expect(await fs.readlink(`${folder}/first`)).toBe('d/second');
    await fs.symlink(`${folder}/e/missing`, `${folder}/dangling`);
    await write(`${folder}/dangling`, 'made');
    expect(await fs.readFile(`${folder}/e/missing`, 'utf8')).toBe('made');
  });

  test('ends at a circle of links', async ({ folder }) => {
    await fs.symlink('b', `${folder}/a`);
    await fs.symlink('a', `${folder}/b`);
    await expect(write(`${folder}/a`, 'x')).rejects.toMatchObject({ code: 'ELOOP' });
  });

  test('leaves the old content, and nothing else, when the stream is given up', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, 'old');
    await expect(writeAndGiveUp(`${folder}/file`, 'replace')).rejects.toMatchObject({ code: 'wire_stream' });
    await expect(writeAndGiveUp(`${folder}/a/b/file`, 'replace')).rejects.toMatchObject({ code: 'wire_stream' });
    expect(await fs.readFile(`${folder}/file`, 'utf8')).toBe('old');
    expect(await fs.readdir(folder)).toEqual(['file']);
  });

  test('refuses directories, and says which path was asked for', async ({ folder }) => {
    await expect(write(folder, 'x')).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(write(`${folder}/new/`, 'x')).rejects.toMatchObject({ code: 'EISDIR' });
    await fs.writeFile(`${folder}/file`, 'x');
    await expect(write(`${folder}/file/below`, 'x')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(write('/proc/version', 'x')).rejects.toThrow("'/proc/version'");
  });

  test('replaces a FIFO instead of waiting for its reader', async ({ folder }) => {
    execFileSync('mkfifo', [`${folder}/fifo`]);
    await write(`${folder}/fifo`, 'x');
    expect(await fs.readFile(`${folder}/fifo`, 'utf8')).toBe('x');
  });
});

describe('append', () => {
  test('adds to the end, and makes a file that is missing', async ({ folder }) => {
    await write(`${folder}/file`, 'one ', 'append', 0o666);
    await write(`${folder}/file`, 'two', 'append');
    expect(await fs.readFile(`${folder}/file`, 'utf8')).toBe('one two');
    expect(await modeOf(`${folder}/file`)).toBe(0o666);
  });

  test('says when it has added only a part', async ({ folder }) => {
    await fs.writeFile(`${folder}/file`, 'old ');
    const isWritten = async () => (await fs.stat(`${folder}/file`)).size > 4;
    await expect(writeAndGiveUp(`${folder}/file`, 'append', isWritten)).rejects.toThrow('added to in part');
    expect(await fs.readFile(`${folder}/file`, 'utf8')).toBe('old half of ');
  });

  test('refuses what is no file, at once', async ({ folder }) => {
    execFileSync('mkfifo', [`${folder}/fifo`]);
    await expect(write(`${folder}/fifo`, 'x', 'append')).rejects.toMatchObject({ code: 'ENXIO' });
    await expect(write('/dev/null', 'x', 'append')).rejects.toMatchObject({ code: 'ENOTSUP' });
    await expect(write(folder, 'x', 'append')).rejects.toMatchObject({ code: 'EISDIR' });
  });
});
