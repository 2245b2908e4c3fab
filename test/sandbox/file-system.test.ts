import { createHash, randomUUID } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { expect, onTestFinished } from 'vitest';
import { limits } from '../../src/protocol/limits.ts';
import { FileError, UnsafeEntryError } from '../../src/sandbox/errors.ts';
import { unpackArchive } from '../../src/sandbox/fs/unpack-archive.ts';
import { test } from '../support/sandbox-fixture.ts';

async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'berth-test-files-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('writes whole files with their parents, adds to them, and reads them back', async ({ shared: { fs } }) => {
  await fs.writeFile('a/b/file', 'one', { mode: 0o600 });
  await fs.appendFile('a/b/file', ' two');
  expect(await fs.readFile('a/b/file')).toBe('one two');
  expect(await fs.stat('a/b/file')).toMatchObject({ kind: 'file', size: 7, mode: 0o600, uid: 1000 });
  await fs.writeFile('bytes', Uint8Array.of(0, 255));
  expect(await fs.readFileBuffer('bytes')).toEqual(Buffer.from([0, 255]));
});

test('fails with the POSIX name, the path and the operation', async ({ shared: { fs } }) => {
  await fs.writeFile('file', '');
  const cases: [() => Promise<unknown>, string][] = [
    [() => fs.readFile('missing'), 'ENOENT'],
    [() => fs.readFile('.'), 'EISDIR'],
    [() => fs.readdir('file'), 'ENOTDIR'],
    [() => fs.mkdir('file'), 'EEXIST'],
    [() => fs.mkdir('x/y'), 'ENOENT'],
    [() => fs.rm('.'), 'EISDIR'],
    [() => fs.writeFile('/usr/forbidden', ''), 'EACCES'],
    [() => fs.readlink('file'), 'EINVAL'],
  ];
  for (const [call, code] of cases)
    await expect(call(), call.toString()).rejects.toMatchObject({ name: 'FileError', code });
  await expect(fs.stat('missing')).rejects.toEqual(
    expect.objectContaining({ path: '/workspace/missing', operation: 'stat' }),
  );
});

test('puts no file in the place of a device', async ({ host }) => {
  await using sandbox = await host.create({ user: 'root' }); // who may
  await expect(sandbox.fs.writeFile('/dev/null', 'x')).rejects.toMatchObject({ name: 'FileError', code: 'ENOTSUP' });
  expect((await sandbox.fs.stat('/dev/null')).kind).toBe('other');
});

test('streams 64 MiB either way', async ({ shared: { fs } }) => {
  const sent = createHash('sha256');
  const chunk = Buffer.alloc(1024 * 1024, 'berth');
  const source = Readable.from(
    (function* () {
      for (let count = 0; count < 64; count++) {
        sent.update(chunk);
        yield chunk;
      }
    })(),
  );
  await pipeline(source, fs.createWriteStream('large'));
  const received = createHash('sha256');
  await pipeline(fs.createReadStream('large'), received);
  expect(received.digest('hex')).toBe(sent.digest('hex'));
});

test('refuses to hold a file that is larger than a string can be', async ({ shared: sandbox }) => {
  await sandbox.exec('truncate -s 600M large');
  await expect(sandbox.fs.readFile('large')).rejects.toMatchObject({ code: 'EFBIG' });
  expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
});

// contract: 5-write-atomic
test('a writing that is broken off leaves the old content', async ({ shared: { fs } }) => {
  await fs.writeFile('file', 'old');
  const failing = Readable.from(
    (async function* () {
      yield Buffer.from('new');
      throw new Error('broken off');
    })(),
  );
  const writing = fs.createWriteStream('file');
  const closed = new Promise((resolve) => writing.once('close', resolve));
  await expect(pipeline(failing, writing)).rejects.toThrow('broken off');
  // A pipeline does not wait for that, and it says when the sandbox has taken back what it had begun.
  await closed;
  expect(await fs.readFile('file')).toBe('old');
  expect(await fs.readdir('.')).toEqual(['file']);
});

test('reads ranges whose end is included, and appends by stream', async ({ shared: { fs } }) => {
  await fs.writeFile('digits', '0123456789');
  const parts: Buffer[] = [];
  for await (const part of fs.createReadStream('digits', { start: 2, end: 4 })) parts.push(part);
  expect(Buffer.concat(parts).toString()).toBe('234');
  await pipeline(Readable.from([Buffer.from('!')]), fs.createWriteStream('digits', { append: true }));
  expect(await fs.readFile('digits')).toBe('0123456789!');
});

test('answers any number of calls that are made at once', async ({ shared: { fs } }) => {
  const names = Array.from({ length: 2 * limits.requests }, (_, i) => `directory-${i}`);
  await Promise.all(names.map((name) => fs.mkdir(name)));
  expect((await fs.readdir('.')).sort()).toEqual(names.sort());
});

test('makes, names, copies, moves and removes', async ({ shared: { fs } }) => {
  await fs.mkdir('tree/inner', { recursive: true });
  await fs.writeFile('tree/inner/file', 'x');
  await fs.symlink('inner/file', 'tree/link');
  expect(await fs.readlink('tree/link')).toBe('inner/file');
  expect(await fs.realpath('tree/link')).toBe('/workspace/tree/inner/file');
  expect((await fs.lstat('tree/link')).kind).toBe('symlink');
  expect((await fs.stat('tree/link')).kind).toBe('file');
  await fs.copy('tree', 'copy');
  await fs.rename('copy', 'moved');
  expect((await fs.readdir('moved')).sort()).toEqual(['inner', 'link']);
  expect(await fs.readdir('moved/inner', { withStats: true })).toEqual([
    { name: 'file', stats: expect.objectContaining({ kind: 'file', size: 1 }) },
  ]);
  await fs.chmod('moved/inner/file', 0o640);
  expect((await fs.stat('moved/inner/file')).mode).toBe(0o640);
  await fs.rm('moved', { recursive: true });
  await fs.rm('moved', { force: true });
  expect(await fs.exists('moved')).toBe(false);
});

test('cuts a file and lengthens it, and says what a link says', async ({ shared: { fs } }) => {
  await fs.writeFile('file', 'content');
  await fs.truncate('file', 10);
  expect(await fs.readFile('file')).toBe('content\0\0\0');
  await fs.truncate('file');
  expect((await fs.stat('file')).size).toBe(0);
  await expect(fs.truncate('.')).rejects.toMatchObject({ code: 'EISDIR' });
  await fs.symlink('no where', 'link');
  expect(await fs.lstat('link')).toMatchObject({ kind: 'symlink', linkTarget: 'no where' });
  expect(await fs.readdir('.', { withStats: true })).toContainEqual({
    name: 'link',
    stats: expect.objectContaining({ linkTarget: 'no where' }),
  });
});

test('searches names and lines', async ({ shared: { fs } }) => {
  await fs.writeFile('src/one.ts', 'const a = 1;\nconst b = 2;\n');
  await fs.writeFile('two.md', 'a = 1');
  expect(await fs.glob('*.ts')).toEqual({ paths: ['src/one.ts'], truncated: false });
  expect(await fs.grep('a = \\d', { include: '*.ts' })).toEqual({
    matches: [{ path: 'src/one.ts', line: 1, text: 'const a = 1;' }],
    total: 1,
    truncated: false,
  });
  expect(await fs.grep('const', { limit: 1 })).toMatchObject({ total: 2, truncated: true });
});

test('brings a tree in and out again, with links, permissions and empty directories', async ({ shared: { fs } }) => {
  const directory = await temporary();
  await mkdir(join(directory, 'from/empty'), { recursive: true });
  await writeFile(join(directory, 'from/run'), '#!/bin/sh\n');
  await chmod(join(directory, 'from/run'), 0o755);
  await symlink('run', join(directory, 'from/link'));
  await fs.upload(join(directory, 'from'), 'tree');
  expect((await fs.readdir('tree')).sort()).toEqual(['empty', 'link', 'run']);
  expect((await fs.stat('tree/run')).mode).toBe(0o755);
  const to = join(directory, 'to');
  expect(await unpackArchive(fs.download('tree'), to)).toEqual({ leftOut: [] });
  expect(await readFile(join(to, 'run'), 'utf8')).toBe('#!/bin/sh\n');
  expect((await lstat(join(to, 'run'))).mode & 0o777).toBe(0o755);
  expect(await readlink(join(to, 'link'))).toBe('run');
  expect((await lstat(join(to, 'empty'))).isDirectory()).toBe(true);
});

test('refuses a tar that leads out of its target, inside and on the host', async ({ shared: { fs } }) => {
  const evil = () => {
    const archive = pack();
    archive.entry({ name: 'tree/../../evil' }, 'x');
    archive.finalize();
    return Readable.from(archive);
  };
  await expect(fs.upload(evil(), 'target')).rejects.toBeInstanceOf(UnsafeEntryError);
  expect(await fs.exists('/evil')).toBe(false);
  const directory = await temporary();
  await expect(unpackArchive(evil(), join(directory, 'to'))).rejects.toBeInstanceOf(UnsafeEntryError);
  await expect(lstat(join(directory, 'to'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('refuses what a call does not take, before anything is asked of the sandbox', async ({ shared: { fs } }) => {
  const calls: (() => unknown)[] = [
    () => fs.glob('*', { limit: 100_001 }),
    () => fs.grep('a', { limit: 0 }),
    () => fs.symlink('a\0b', 'link'),
    () => fs.truncate('file', -1),
    () => fs.truncate('file', 0.5),
    () => fs.createReadStream('file', { start: 5, end: 2 }),
    () => fs.createReadStream('file', { end: Number.MAX_SAFE_INTEGER }),
    () => fs.chmod('file', 0o10000),
  ];
  for (const call of calls) {
    await expect((async () => call())(), call.toString()).rejects.toMatchObject({ name: 'InvalidOptionsError' });
  }
  expect(await fs.readdir('.')).toEqual([]);
});

test('tells of what is not there when it is uploaded from', async ({ shared: { fs } }) => {
  const missing = { name: 'FileError', code: 'ENOENT', path: '/no/such/directory', operation: 'upload' };
  await expect(fs.upload('/no/such/directory', 'x')).rejects.toMatchObject(missing);
  await expect(fs.upload('/dev/null', 'x')).rejects.toMatchObject({ name: 'FileError', code: 'ENOTSUP' });
  await fs.mkdir('empty');
  const unmade = { name: 'FileError', code: 'ENOENT', operation: 'downloadTo' };
  await expect(fs.downloadTo('empty', '/no/such/directory/x')).rejects.toMatchObject(unmade);
  expect(new FileError({ code: 'ENOENT', path: '/x', operation: 'stat' }).message).toBe('stat /x: ENOENT');
});

test('takes any name and path that the kernel takes, in every call', async ({ shared: { fs } }) => {
  const directory = await temporary();
  const deep = Array.from({ length: 20 }, () => 'd'.repeat(200)).join('/'); // /workspace/ + 4,019
  for (const name of [
    'with space',
    'new\nline',
    'ä\udcff\udcfe',
    '\udcff'.repeat(255),
    'n'.repeat(255),
    `${deep}/${'f'.repeat(60)}`,
  ]) {
    const place = name.replaceAll('\n', '?').slice(0, 40);
    await fs.writeFile(`in/${name}`, 'content');
    await fs.appendFile(`in/${name}`, '!');
    await fs.copy(`in/${name}`, `in/${name.slice(0, -1)}+`);
    await fs.rename(`in/${name.slice(0, -1)}+`, 'copy');
    expect(await fs.readFile('copy'), place).toBe('content!');
    expect((await fs.stat(`in/${name}`)).size, place).toBe(8);
    expect((await fs.glob('*', { path: 'in' })).paths, place).toEqual([name]);
    expect((await fs.grep('content', { path: 'in' })).matches, place).toMatchObject([{ path: name }]);
    await fs.symlink(name.slice(0, 4_000), 'link');
    expect(await fs.readlink('link'), place).toBe(name.slice(0, 4_000));
    expect(await fs.realpath(`in/${name}`), place).toBe(`/workspace/in/${name}`);
    // Out and in again, by our own way in both directions; on the host the path would be longer.
    if (name.startsWith(deep)) break;
    await fs.downloadTo('in', join(directory, 'out'));
    await fs.rm('in', { recursive: true });
    await fs.upload(join(directory, 'out'), 'in');
    await rm(join(directory, 'out'), { recursive: true });
    expect(await fs.readFile(`in/${name}`), place).toBe('content!');
    await fs.rm('in', { recursive: true });
    await fs.rm('link');
  }
  await expect(fs.writeFile('n'.repeat(256), '')).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
  await expect(fs.stat('p/'.repeat(2_100))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
  await expect(fs.stat('\ud800')).rejects.toMatchObject({ code: 'EILSEQ' });
});

test('a size or a time that no number or date can be is the nearest one, and ends no connection', async ({
  shared: sandbox,
}) => {
  // Of what commands can reach, tmpfs takes the most.
  await sandbox.exec('truncate -s 9223372036854775807 /dev/shm/large; touch -d @99999999999999 /dev/shm/late');
  expect((await sandbox.fs.stat('/dev/shm/large')).size).toBe(Number.MAX_SAFE_INTEGER);
  expect((await sandbox.fs.stat('/dev/shm/late')).modified).toEqual(new Date(8.64e15));
  expect(await sandbox.fs.readdir('/dev/shm', { withStats: true })).toHaveLength(2);
});

test('lists a directory bit by bit', async ({ shared: sandbox }) => {
  await sandbox.exec('mkdir large && cd large && seq 2000 | xargs touch');
  let sum = 0;
  for await (const name of sandbox.fs.entries('large')) sum += Number(name);
  expect(sum).toBe(2_001_000);
  for await (const { name, stats } of sandbox.fs.entries('large', { withStats: true })) {
    expect([name, stats.kind]).toEqual([expect.any(String), 'file']);
    break; // leaving early ends it
  }
  await expect(sandbox.fs.entries('none').next()).rejects.toMatchObject({ code: 'ENOENT', operation: 'entries' });
});

test('ends a long call when it is told to, inside too', async ({ shared: sandbox }) => {
  await sandbox.exec('mkdir -p tree/a tree/b && cd tree/a && seq 5000 | xargs touch && truncate -s 3G ../b/large');
  const { fs } = sandbox;
  const directory = await temporary();
  const calls: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
    glob: (signal) => fs.glob('no-such', { path: '/usr', signal }),
    grep: (signal) => fs.grep('no such', { signal }),
    readdir: (signal) => fs.readdir('tree/a', { withStats: true, signal }),
    upload: (signal) => fs.upload(new Readable({ read() {} }), 'up', { signal }),
    copy: (signal) => fs.copy('tree', 'copy', { signal }),
    download: (signal) => pipeline(fs.download('tree', { signal }), createHash('sha256')),
    'downloadTo of a tree': (signal) => fs.downloadTo('tree', join(directory, 'tree'), { signal }),
    'downloadTo of a file': (signal) => fs.downloadTo('tree/b/large', join(directory, 'file'), { signal }),
    rm: (signal) => fs.rm('tree/a', { recursive: true, signal }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const stop = new AbortController();
    const rejected = expect(call(stop.signal), name).rejects.toMatchObject({ name: 'AbortError' });
    // These take seconds; the others could be over.
    if (/^(upload|copy|download)/.test(name)) await fs.exists('tree');
    stop.abort(new Error('enough'));
    await rejected;
    await expect(call(stop.signal), name).rejects.toMatchObject({ name: 'AbortError' });
  }
  expect(await fs.exists('copy')).toBe(false);
  expect((await fs.readdir('.')).filter((name) => name.startsWith('.berth'))).toEqual([]);
  expect(await readdir(directory)).toEqual([]);
});

test('leaves out what git ignores, when it is asked to', async ({ shared: { fs } }) => {
  const directory = await temporary();
  const put = async (path: string, content = '') => {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), content);
  };
  await put('.git/HEAD');
  await put('.gitignore', '*.log\nbuild/\n!kept.log\n');
  await put('project/.gitignore', '/secret\n');
  for (const path of ['a.log', 'kept.log', 'build/out', 'secret', 'sub/secret', 'sub/b.log', 'sub/.env'])
    await put(`project/${path}`);
  await fs.upload(join(directory, 'project'), 'in', { gitignore: true });
  expect((await fs.glob('*', { path: 'in' })).paths.sort()).toEqual([
    '.gitignore',
    'kept.log',
    'sub/.env',
    'sub/secret',
  ]);
  await fs.upload(directory, 'all', { gitignore: true });
  expect(await fs.exists('all/.git')).toBe(false);
  await fs.upload(directory, 'all');
  expect(await fs.exists('all/.git/HEAD')).toBe(true);
  expect(await fs.exists('all/project/build/out')).toBe(true);
});

test('brings a file out: whole, or what was there stays', async ({ shared: sandbox }) => {
  const directory = await temporary();
  const to = join(directory, 'to');
  await sandbox.exec('head -c 3000000 /dev/urandom > big; chmod 750 big; ln -sf big link; mkfifo pipe');
  await sandbox.fs.downloadTo('link', to);
  expect((await readFile(to)).equals(await sandbox.fs.readFileBuffer('big'))).toBe(true);
  expect((await stat(to)).mode & 0o7777).toBe(0o750);
  await sandbox.exec('echo small > big');
  await expect(sandbox.fs.downloadTo('big', to, { maxBytes: 4_100 })).rejects.toMatchObject({ code: 'copy_limit' });
  expect((await stat(to)).size).toBe(3_000_000);
  await sandbox.fs.downloadTo('big', to, { maxBytes: 4_102 });
  expect(await readFile(to, 'utf8')).toBe('small\n');
  await expect(sandbox.fs.downloadTo('big', directory)).rejects.toMatchObject({ code: 'EISDIR', path: directory });
  await expect(sandbox.fs.downloadTo('pipe', to)).rejects.toMatchObject({ code: 'ENOTSUP' });
  await expect(sandbox.fs.downloadTo('big', `${directory}/new/`)).rejects.toMatchObject({ code: 'EISDIR' });
  for (const [name, code] of [
    ['no/to', 'ENOENT'],
    ['to/to', 'ENOTDIR'],
    ['x'.repeat(256), 'ENAMETOOLONG'],
  ] as const) {
    const refusal = {
      name: 'FileError',
      code,
      path: join(directory, name),
      message: expect.not.stringContaining('.part'),
    };
    await expect(sandbox.fs.downloadTo('big', join(directory, name)), name).rejects.toMatchObject(refusal);
  }
  await expect(sandbox.fs.downloadTo('big', `${directory}/\0`)).rejects.toMatchObject({ code: 'invalid_options' });
  await sandbox.exec(': > empty');
  const tooLittle = sandbox.fs.downloadTo('empty', join(directory, 'empty'), { maxBytes: 4_095 });
  await expect(tooLittle).rejects.toMatchObject({ code: 'copy_limit' });
  expect(await readdir(directory)).toEqual(['to']);
});

test('brings a file and a directory out to the longest names that there are', async ({ shared: sandbox }) => {
  const directory = await temporary();
  const [file, tree] = ['f'.repeat(255), 't'.repeat(255)];
  await sandbox.exec('echo x > file; mkdir tree');
  await sandbox.fs.downloadTo('file', join(directory, file));
  await sandbox.fs.downloadTo('tree', join(directory, tree));
  expect((await readdir(directory)).sort()).toEqual([file, tree]);
});

test('brings nothing out that would lead out, and names it', async ({ shared: sandbox }) => {
  const directory = await temporary();
  const to = join(directory, 'to');
  for (const target of ['/etc/passwd', '../..']) {
    await sandbox.exec(['sh', '-c', 'rm -rf tree; mkdir tree; echo x > tree/file; ln -s "$0" tree/link', target]);
    await expect(sandbox.fs.downloadTo('tree', to)).rejects.toMatchObject({
      name: 'UnsafeEntryError',
      meta: { entry: 'tree/link' },
    });
    expect(await readdir(directory)).toEqual([]);
  }
  await sandbox.exec('rm tree/link; ln -s file tree/link');
  await expect(sandbox.fs.downloadTo('tree', to, { maxBytes: 1_000 })).rejects.toMatchObject({ code: 'copy_limit' });
  await sandbox.fs.downloadTo('tree', to);
  expect(await readlink(join(to, 'link'))).toBe('file');
  // Named as it was given, not by where the copy grows.
  await expect(sandbox.fs.downloadTo('tree', to)).rejects.toMatchObject({ code: 'ENOTEMPTY', path: to });
  const archive = pack();
  archive.entry({ name: 'fine' }, 'x');
  archive.entry({ name: 'd/../../evil' }, 'x');
  archive.finalize();
  await expect(sandbox.fs.upload(Readable.from(archive), 'up')).rejects.toMatchObject({
    meta: { entry: 'd/../../evil' },
  });
});

test('files that are unpacked have the modes of the archive, also where an ACL takes bits from new ones', async ({
  shared: sandbox,
}) => {
  // `setfacl -d -m u::rwx,g::-,o::-`: acl(5), as the kernel keeps it.
  const acl = '02000000 01000700ffffffff 04000000ffffffff 20000000ffffffff'.replaceAll(' ', '');
  const code = `import os; os.mkdir("up"); os.setxattr("up", "system.posix_acl_default", bytes.fromhex("${acl}"))`;
  expect(await sandbox.exec(['python3', '-c', code])).toMatchObject({ exitCode: 0 });
  const archive = pack();
  const modes = [0o644, 0o644, 0o755, 0o644, 0o600, 0o600];
  for (const [at, mode] of modes.entries()) archive.entry({ name: `${at}`, mode }, 'x');
  archive.finalize();
  await sandbox.fs.upload(Readable.from(archive), 'up');
  await sandbox.exec('touch up/touched');
  const { stdout } = await sandbox.exec("stat -c '%a' up/*");
  expect(stdout).toBe('644\n644\n755\n644\n600\n600\n600\n');
});

test('a full disk is an error with that name, and leaves the old content and nothing else', async ({ host }) => {
  const name = `berth-test-full-${randomUUID()}`;
  const docker = new Docker();
  await docker.createVolume({ Name: name, DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=4m,mode=1777' } });
  onTestFinished(() => docker.getVolume(name).remove());
  await using sandbox = await host.create({ workspace: { volume: name } });
  const { fs } = sandbox;
  await fs.writeFile('file', 'old');
  const large = Buffer.alloc(8 * 1024 * 1024);
  await expect(fs.writeFile('file', large)).rejects.toMatchObject({ name: 'FileError', code: 'ENOSPC' });
  await expect(fs.writeFile('new/dir/file', large)).rejects.toMatchObject({ code: 'ENOSPC' });
  await sandbox.exec('truncate -s 8M /tmp/large');
  await expect(fs.copy('/tmp/large', 'copy')).rejects.toMatchObject({ code: 'ENOSPC' });
  const directory = await temporary();
  await writeFile(join(directory, 'large'), large);
  await expect(fs.upload(directory, '.')).rejects.toMatchObject({ code: 'ENOSPC' });
  await expect(fs.appendFile('file', large)).rejects.toThrow('added to in part');
  expect((await fs.readFileBuffer('file')).subarray(0, 3).toString()).toBe('old');
  expect(await fs.readdir('.')).toEqual(['file']);
});

test('a sandbox that is killed while it writes has its old content and nothing else when it starts again', async ({
  sandbox,
}) => {
  const { fs } = sandbox;
  await fs.writeFile('d\udcff/file', 'old');
  const writing = fs.createWriteStream('d\udcff/file');
  writing.write('half of the new');
  // There is a part as soon as the stream is open.
  while (!(await sandbox.exec('ls -a d*')).stdout.includes('.berth-')) await fs.exists('d\udcff');
  await new Docker().getContainer(`berth-${sandbox.id}`).kill();
  await expect(finished(writing)).rejects.toMatchObject({ name: 'SandboxDiedError' });
  await sandbox.start();
  expect(await fs.readFile('d\udcff/file')).toBe('old');
  expect(await fs.readdir('d\udcff')).toEqual(['file']);
});
