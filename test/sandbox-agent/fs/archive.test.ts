import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { createServer } from 'node:net';
import fc from 'fast-check';
import { pack as tarStream } from 'tar-stream';
import { describe, expect } from 'vitest';
import { pack } from '../../../sandbox-agent/fs/pack.ts';
import { unpack } from '../../../sandbox-agent/fs/unpack.ts';
import { limits } from '../../../src/protocol/limits.ts';
import { muxPair } from '../../support/mux-pair.ts';
import { openFiles } from '../../support/open-files.ts';
import { test } from './folder.ts';
import { present, receiving, sending } from './operation.ts';

const packed = async (path: string) =>
  (await receiving((stream) => pack({ type: 'fs.pack', requestId: 1, path, stream: 1 }, stream, present))).bytes;
const unpackedBy =
  (isAtOnce: boolean) =>
  (archive: Uint8Array, path: string, pieceBytes = 100_000) =>
    sending(pieces(archive, pieceBytes), (stream) =>
      unpack({ type: 'fs.unpack', requestId: 1, path, stream: 1 }, stream, present, isAtOnce),
    );
function* pieces(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

type Header = Parameters<ReturnType<typeof tarStream>['entry']>[0];
async function archiveOf(...entries: (Header & { content?: string })[]): Promise<Buffer> {
  const archive = tarStream();
  for (const { content, ...header } of entries) archive.entry(header, content ?? '');
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
const gnuTar = (folder: string, options: string[], names: string[] = ['.']) =>
  execFileSync('tar', ['-C', folder, ...options, '-cf', '-', ...names], { maxBuffer: 1e9 });

describe('pack', () => {
  test('gives an archive that tar unpacks to the same tree', async ({ folder }) => {
    const name = 'ü'.repeat(100);
    await fs.mkdir(`${folder}/tree/${name}/${name}`, { recursive: true });
    await fs.writeFile(`${folder}/tree/${name}/${name}/small`, 'x', { mode: 0o640 });
    await fs.writeFile(`${folder}/tree/large`, randomBytes(3 * limits.window + 17));
    await fs.writeFile(`${folder}/tree/empty`, '');
    await fs.writeFile(`${folder}/tree/${'n'.repeat(200)}`, 'block'.repeat(1024));
    await fs.symlink(`../${'t'.repeat(150)}`, `${folder}/tree/link`);
    await fs.utimes(`${folder}/tree/empty`, 5_000_000_000, 5_000_000_000);
    await fs.utimes(`${folder}/tree/large`, new Date(-5_000_000), new Date(-5_000_000));
    await fs.chmod(`${folder}/tree/empty`, 0o4755);
    await fs.mkdir(`${folder}/to`);
    execFileSync('tar', ['-C', `${folder}/to`, '--warning=no-timestamp', '-xpf', '-'], {
      input: await packed(`${folder}/tree`),
    });
    execFileSync('diff', ['-r', '--no-dereference', `${folder}/tree`, `${folder}/to/tree`]);
    const listed = (root: string) =>
      execFileSync('find', ['.', '-printf', '%p %m %y %l\n'], { cwd: root, encoding: 'utf8' }).split('\n').sort();
    expect(listed(`${folder}/to/tree`)).toEqual(listed(`${folder}/tree`));
    expect((await fs.stat(`${folder}/to/tree/empty`)).mtimeMs).toBe(5_000_000_000_000);
    expect((await fs.stat(`${folder}/to/tree/large`)).mtimeMs).toBe(-5_000_000);
  });

  test('names a file, a directory and what a link points to after the path', async ({ folder }) => {
    await fs.mkdir(`${folder}/d`);
    await fs.writeFile(`${folder}/d/f`, 'x');
    await fs.symlink('d', `${folder}/link`);
    const names = async (path: string) =>
      execFileSync('tar', ['-tf', '-'], { input: await packed(path), encoding: 'utf8' })
        .trim()
        .split('\n');
    expect(await names(`${folder}/d/f`)).toEqual(['f']);
    expect(await names(`${folder}/d/`)).toEqual(['d/', 'd/f']);
    expect(await names(`${folder}/link`)).toEqual(['link/', 'link/f']);
    expect(await names(`${folder}/d/.`)).toEqual(['d/', 'd/f']);
  });

  test('leaves out sockets and FIFOs, and takes names of any bytes', async ({ folder }) => {
    await fs.mkdir(`${folder}/d`);
    execFileSync('mkfifo', [`${folder}/d/fifo`]);
    await fs.writeFile(Buffer.concat([Buffer.from(`${folder}/d/`), Buffer.from([0xff])]), 'x');
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(`${folder}/d/socket`, resolve);
    });
    const archive = await packed(`${folder}/d`).finally(() => server.close());
    expect(execFileSync('tar', ['--quoting-style=literal', '-tf', '-'], { input: archive, encoding: 'utf8' })).toBe(
      'd/\nd/\ufffd\n',
    );
    await expect(packed(`${folder}/d/fifo`)).rejects.toMatchObject({ code: 'ENOTSUP' });
    await expect(packed(`${folder}/no`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('leaves out what is added to a file meanwhile, and fails when it is cut', async ({ folder }) => {
    const content = Buffer.alloc(4 * limits.window, 'x');
    const packWhile = async (change: () => Promise<void>) => {
      await fs.writeFile(`${folder}/file`, content);
      const { host, agent } = muxPair();
      const incoming = host.open({ send: false, receive: true });
      const stream = agent.accept(incoming.id, { send: true, receive: false });
      const packing = pack({ type: 'fs.pack', requestId: 1, path: `${folder}/file`, stream: 1 }, stream, present);
      const outcome = packing.then(
        () => undefined,
        (error: unknown) => error,
      );
      const first = await incoming.read();
      await change(); // the window is full long before the file's end
      const chunks: Uint8Array[] = first ? [first] : [];
      try {
        for await (const chunk of incoming) chunks.push(chunk);
      } catch {}
      return { error: await outcome, bytes: Buffer.concat(chunks) };
    };
    const grown = await packWhile(() => fs.appendFile(`${folder}/file`, 'more'));
    expect(grown.error).toBeUndefined();
    expect(execFileSync('tar', ['-xOf', '-'], { input: grown.bytes, maxBuffer: 1e9 }).equals(content)).toBe(true);
    const shrunk = await packWhile(() => fs.truncate(`${folder}/file`, 10));
    expect(shrunk.error).toMatchObject({ code: 'file_changed' });
  });
});

describe.each([
  ['at once', true],
  ['on other threads', false],
])('unpack, small files made %s', (_, isAtOnce) => {
  const unpacked = unpackedBy(isAtOnce);

  test.for([['--format=gnu'], ['--format=pax'], ['--format=ustar'], ['--format=v7']])(
    'makes the tree that GNU tar packed with %s',
    async ([format], { folder }) => {
      const long = format === '--format=gnu' || format === '--format=pax' ? 'n'.repeat(200) : 'n'.repeat(40);
      await fs.mkdir(`${folder}/tree/${long}`, { recursive: true });
      await fs.writeFile(`${folder}/tree/${long}/${long}`, 'x', { mode: 0o640 });
      await fs.writeFile(`${folder}/tree/large`, randomBytes(3 * limits.window + 17));
      await fs.writeFile(`${folder}/tree/empty`, '');
      await fs.symlink(`../${long}`, `${folder}/tree/link`);
      await fs.link(`${folder}/tree/large`, `${folder}/tree/same`);
      await fs.utimes(`${folder}/tree/empty`, 1_000_000, 1_000_000);
      // The older formats have no such time.
      if (format === '--format=pax' || format === '--format=gnu') {
        await fs.utimes(`${folder}/tree/empty`, new Date(-5_000_000), new Date(-5_000_000));
      }
      await fs.mkdir(`${folder}/tree/closed`);
      await fs.writeFile(`${folder}/tree/closed/inside`, 'x');
      await fs.chmod(`${folder}/tree/closed`, 0o555);
      await fs.utimes(`${folder}/tree/closed`, 2_000_000, 2_000_000);
      await unpacked(gnuTar(`${folder}/tree`, [format ?? '']), `${folder}/deep/to`, 70_001);
      expect(await openFiles(folder)).toEqual([]);
      execFileSync('diff', ['-r', '--no-dereference', `${folder}/tree`, `${folder}/deep/to`]);
      const listed = (root: string) =>
        execFileSync('find', ['.', '-mindepth', '1', '-printf', '%p %m %y %l %Ts\n'], { cwd: root, encoding: 'utf8' })
          .split('\n')
          .filter((line) => !line.includes(' l '))
          .sort();
      expect(listed(`${folder}/deep/to`)).toEqual(listed(`${folder}/tree`));
      const [large, same] = await Promise.all(['large', 'same'].map((name) => fs.stat(`${folder}/deep/to/${name}`)));
      expect(large?.ino).toBe(same?.ino);
    },
  );

  test('takes back what pack sent', async ({ folder }) => {
    await fs.mkdir(`${folder}/tree/a/b`, { recursive: true });
    await fs.writeFile(`${folder}/tree/a/b/c`, 'x');
    await fs.symlink('a/b', `${folder}/tree/link`);
    await unpacked(await packed(`${folder}/tree`), `${folder}/to`);
    execFileSync('diff', ['-r', '--no-dereference', `${folder}/tree`, `${folder}/to/tree`]);
  });

  test('replaces files and links that are there, and keeps directories', async ({ folder }) => {
    await fs.mkdir(`${folder}/d`, { mode: 0o700 });
    await fs.writeFile(`${folder}/outside`, 'untouched');
    await fs.mkdir(`${folder}/to/d`, { recursive: true });
    await fs.chmod(`${folder}/to/d`, 0o711);
    await fs.symlink('../outside', `${folder}/to/link`);
    await fs.link(`${folder}/outside`, `${folder}/to/hard`);
    await fs.writeFile(`${folder}/to/d/old`, 'old', { mode: 0o400 });
    await unpacked(
      await archiveOf(
        { name: 'd/', type: 'directory', mode: 0o755 },
        { name: 'd/old', content: 'new', mode: 0o644 },
        { name: 'link', content: 'a file now' },
        { name: 'hard', content: 'another' },
        { name: 'soft', type: 'symlink', linkname: '/etc/passwd' },
        { name: 'soft', type: 'symlink', linkname: 'd' },
        { name: 'twice', type: 'link', linkname: 'hard' },
        { name: 'twice', type: 'link', linkname: 'hard' },
      ),
      `${folder}/to`,
    );
    expect((await fs.stat(`${folder}/to/d`)).mode & 0o7777).toBe(0o711);
    expect(await fs.readFile(`${folder}/to/d/old`, 'utf8')).toBe('new');
    expect(await fs.readFile(`${folder}/to/link`, 'utf8')).toBe('a file now');
    expect(await fs.readlink(`${folder}/to/soft`)).toBe('d');
    expect(await fs.readFile(`${folder}/outside`, 'utf8')).toBe('untouched');
    expect((await fs.readdir(`${folder}/to`)).sort()).toEqual(['d', 'hard', 'link', 'soft', 'twice']);
  });

  test('makes small files beside each other as if one after the other', async ({ folder }) => {
    const versions = Array.from({ length: 40 }, (_, at) => ({
      name: 'd/again',
      content: `${at}`.repeat(500 * (40 - at)),
    }));
    await unpacked(
      await archiveOf(
        { name: 'd/first', content: 'first' },
        { name: 'd/link', type: 'link', linkname: 'd/first' },
        { name: 'd/first', content: 'second' },
        ...versions,
      ),
      `${folder}/to`,
    );
    expect(await fs.readFile(`${folder}/to/d/link`, 'utf8')).toBe('first');
    expect(await fs.readFile(`${folder}/to/d/first`, 'utf8')).toBe('second');
    expect(await fs.readFile(`${folder}/to/d/again`, 'utf8')).toBe('39'.repeat(500));
    expect((await fs.readdir(`${folder}/to/d`)).sort()).toEqual(['again', 'first', 'link']);
  });

  test('names the first small file that can not be made, and leaves no part of it', async ({ folder }) => {
    await fs.mkdir(`${folder}/to/wrong 1`, { recursive: true });
    await fs.mkdir(`${folder}/to/wrong 2`);
    const files = Array.from({ length: 20 }, (_, number) => ({ name: `file ${number}`, content: 'x' }));
    const archive = await archiveOf(
      ...files,
      { name: 'wrong 1', content: 'x'.repeat(60_000) },
      { name: 'wrong 2' },
      { name: 'after' },
    );
    const unpacking = unpacked(archive, `${folder}/to`);
    await expect(unpacking).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(unpacking).rejects.toThrow('stopped at "wrong 1"');
    expect(await openFiles(folder)).toEqual([]);
    const made = await fs.readdir(`${folder}/to`);
    expect(made.filter((name) => name.startsWith('file'))).toHaveLength(20);
    expect(made.filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('gives each file the mode and time of its entry, whatever the umask', async ({ folder }) => {
    const modes = [0o644, 0o664, 0o4755, 0o644, 0o200, 0o1777, 0o4755, 0o600, 0o664, 0o664];
    const entries = modes.map((mode, at) => ({
      name: `d/${at}`,
      mode,
      pax: { mtime: `${(at - 2) * 10_000}.5` },
      content: at % 3 === 0 ? 'content' : '',
    }));
    await unpacked(await archiveOf(...entries), `${folder}/to`);
    for (const [at, { name, mode }] of entries.entries()) {
      const { mode: made, mtimeMs } = await fs.stat(`${folder}/to/${name}`);
      expect([name, made & 0o7777, mtimeMs]).toEqual([name, mode, (at - 2) * 10_000_000 + (at < 2 ? -500 : 500)]);
    }
  });

  test.for<[what: string, entries: Header[]]>([
    ['an absolute name', [{ name: '/tmp/evil' }]],
    ['a name that leads out', [{ name: 'a/../../evil' }]],
    ['a name with `..` that would stay inside', [{ name: 'a/../evil' }]],
    ['a directory that leads out', [{ name: '..', type: 'directory' }]],
    ['a way through a link to outside', [{ name: 'l', type: 'symlink', linkname: '..' }, { name: 'l/evil' }]],
    ['a way through a link to inside', [{ name: 'l', type: 'symlink', linkname: '.' }, { name: 'l/evil' }]],
    [
      'a directory through a link',
      [
        { name: 'l', type: 'symlink', linkname: '..' },
        { name: 'l/d', type: 'directory' },
      ],
    ],
    [
      'a directory over a link',
      [
        { name: 'l', type: 'symlink', linkname: '..' },
        { name: 'l', type: 'directory' },
      ],
    ],
    ['a way through a link that was there', [{ name: 'found/evil' }]],
    ['a hard link to an absolute name', [{ name: 'h', type: 'link', linkname: '/etc/passwd' }]],
    ['a hard link that leads out', [{ name: 'h', type: 'link', linkname: '../outside' }]],
    ['a hard link through a link', [{ name: 'h', type: 'link', linkname: 'found/outside' }]],
    ['a device', [{ name: 'd', type: 'character-device', devmajor: 1, devminor: 5 }]],
    ['a block device', [{ name: 'd', type: 'block-device' }]],
    ['a FIFO', [{ name: 'f', type: 'fifo' }]],
    ['an empty name', [{ name: 'a/', type: 'symlink', linkname: 'x' }, { name: '' }]],
    ['a sparse file', [{ name: 'GNUSparseFile.0/s', pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' } }]],
    ['the directory itself as a file', [{ name: './', type: 'symlink', linkname: 'x' }]],
  ])('refuses %s, and names it', async ([, entries], { folder }) => {
    await fs.mkdir(`${folder}/to`);
    await fs.writeFile(`${folder}/outside`, 'untouched');
    await fs.symlink('..', `${folder}/to/found`);
    const archive = await archiveOf({ name: 'before', content: 'x' }, ...entries);
    const unpacking = unpacked(archive, `${folder}/to`);
    await expect(unpacking).rejects.toMatchObject({ code: 'unsafe_entry', entry: entries.at(-1)?.name });
    expect(await openFiles(folder)).toEqual([]);
    expect((await fs.readdir(folder)).sort()).toEqual(['outside', 'to']);
    expect(await fs.readFile(`${folder}/to/before`, 'utf8')).toBe('x');
    expect(await fs.readFile(`${folder}/outside`, 'utf8')).toBe('untouched');
  });

  test('refuses a NUL in a name, also behind another file of its directory', async ({ folder }) => {
    const archive = await archiveOf({ name: 'before', content: 'x' }, { name: 'a', pax: { path: 'a\0b' } });
    await expect(unpacked(archive, folder)).rejects.toMatchObject({ code: 'unsafe_entry', entry: 'a\0b' });
    expect(await fs.readdir(folder)).toEqual(['before']);
  });

  test('never makes or changes anything outside, for any entries', { timeout: 120_000 }, async ({ folder }) => {
    const name = fc
      .array(fc.constantFrom('a', 'b', 'l', '..', '.', '', 'found'), { minLength: 1, maxLength: 4 })
      .map((names) => names.join('/'));
    const entry = fc.oneof(
      fc.record({ name, type: fc.constant('file' as const), content: fc.constant('changed') }),
      fc.record({ name, type: fc.constant('directory' as const) }),
      fc.record({ name, type: fc.constantFrom('symlink' as const, 'link' as const), linkname: name }),
    );
    await fs.mkdir(`${folder}/out/a`, { recursive: true });
    await fs.writeFile(`${folder}/out/b`, 'untouched');
    const outside = async () => {
      const beside = (await fs.readdir(folder)).filter((path) => path !== 'in');
      const below = (await fs.readdir(`${folder}/out`, { recursive: true })).map((path) => `out/${path}`);
      const look = async (path: string) => {
        const { mode, nlink, size } = await fs.lstat(`${folder}/${path}`);
        return { path, mode, nlink, size };
      };
      return Promise.all(['.', ...beside, ...below].sort().map(look));
    };
    await fs.mkdir(`${folder}/in`);
    const before = await outside();
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 6 }), async (entries) => {
        await fs.rm(`${folder}/in`, { recursive: true, force: true });
        await fs.mkdir(`${folder}/in`);
        await fs.symlink('../out', `${folder}/in/found`);
        const usable = entries.filter(({ name }) => name !== '');
        await unpacked(await archiveOf(...usable), `${folder}/in`).catch((error: { code?: string }) => {
          expect(error.code).toMatch(/^(unsafe_entry|invalid_tar|E[A-Z]+)$/);
        });
        expect(await outside()).toEqual(before);
        expect(await fs.readFile(`${folder}/out/b`, 'utf8')).toBe('untouched');
      }),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 200) },
    );
  });

  test('writes nothing outside while its directories are swapped for links', async ({ folder }) => {
    await fs.mkdir(`${folder}/outside`);
    await fs.mkdir(`${folder}/to`);
    const archive = await archiveOf(
      ...Array.from({ length: 300 }, (_, index) => ({ name: `d${index % 2}/${index}`, content: 'x' })),
    );
    let isSwapping = true;
    const swapping = (async () => {
      while (isSwapping) {
        await fs.rename(`${folder}/to/d0`, `${folder}/to/aside`).catch(() => {});
        await fs.symlink('../outside', `${folder}/to/d0`).catch(() => {});
        await fs.unlink(`${folder}/to/d0`).catch(() => {});
        await fs.rm(`${folder}/to/aside`, { recursive: true, force: true });
      }
    })();
    for (let round = 0; round < 10; round += 1) await unpacked(archive, `${folder}/to`).catch(() => {});
    isSwapping = false;
    await swapping;
    expect(await fs.readdir(`${folder}/outside`)).toEqual([]);
  });

  test('refuses what is no archive or ends early, and leaves no part of a file', async ({ folder }) => {
    await expect(unpacked(randomBytes(5_000), `${folder}/to`)).rejects.toMatchObject({ code: 'invalid_tar' });
    const archive = await archiveOf({ name: 'a', content: 'x'.repeat(5_000) });
    await expect(unpacked(archive.subarray(0, 3_000), `${folder}/to`)).rejects.toMatchObject({ code: 'invalid_tar' });
    await expect(unpacked(archive.subarray(0, 100), `${folder}/to`)).rejects.toMatchObject({ code: 'invalid_tar' });
    const givenUp = sending(
      (function* () {
        yield archive.subarray(0, 3_000);
        throw new Error('the host changed its mind');
      })(),
      (stream) =>
        unpack({ type: 'fs.unpack', requestId: 1, path: `${folder}/to`, stream: 1 }, stream, present, isAtOnce),
    );
    await expect(givenUp).rejects.toMatchObject({ code: 'wire_stream' });
    expect(await fs.readdir(`${folder}/to`)).toEqual([]);
    expect(await openFiles(folder)).toEqual([]);
    await unpacked(new Uint8Array(0), `${folder}/to`);
  });

  test('stops the sender when an entry can’t be made', async ({ folder }) => {
    await fs.mkdir(`${folder}/to/a`, { recursive: true });
    const archive = await archiveOf({ name: 'a', content: 'x'.repeat(4 * limits.window) }, { name: 'b', content: 'y' });
    await expect(unpacked(archive, `${folder}/to`)).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await fs.readdir(`${folder}/to`)).toEqual(['a']);
    await fs.writeFile(`${folder}/file`, '');
    await expect(unpacked(archive, `${folder}/file`)).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(unpacked(await archiveOf({ name: `${'d/'.repeat(501)}f` }), `${folder}/to`)).rejects.toMatchObject({
      code: 'ENAMETOOLONG',
    });
  });
});
