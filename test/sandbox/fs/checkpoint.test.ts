import { randomUUID } from 'node:crypto';
import { chown, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import Docker from 'dockerode';
import fc from 'fast-check';
import { describe, expect, onTestFinished } from 'vitest';
import { FileError, FilesConflictError } from '../../../src/sandbox/errors.ts';
import type { Sandbox } from '../../../src/sandbox/sandbox.ts';
import { test } from '../../support/sandbox-fixture.ts';

const docker = new Docker();

async function run(sandbox: Sandbox, script: string): Promise<string> {
  const { stdout, exitCode, stderr } = await sandbox.exec(script);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

/** Two directories that begin alike: what is changed `there` is to land `here`. */
async function twins(sandbox: Sandbox, script: string): Promise<void> {
  await run(sandbox, `chmod -R u+rwx . && rm -rf * && mkdir here && cd here && ${script}`);
  await run(sandbox, 'cp -a here there');
  await sandbox.fs.checkpoint('here', 'here');
  await sandbox.fs.checkpoint('there', 'there');
}

const land = (sandbox: Sandbox) => sandbox.fs.land('here', sandbox.fs.packChanges('there'));

/** What there is below the working directory: type, mode, owner, size, link, content, time of a file. */
async function shown(sandbox: Sandbox, directory = '.'): Promise<string> {
  const listing = String.raw`cd "$0" && export LC_ALL=C &&
    find . -mindepth 1 \( -type f -printf '%P %y %m %U:%G %T@ \n' -o -printf '%P %y %m %U:%G %l\n' \) | sort &&
    find . -type f -exec sha1sum {} + | sort`;
  const { stdout, exitCode, stderr } = await sandbox.exec(['sh', '-c', listing, directory]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

/** Of a tree with many files: their contents only. */
const sums = (sandbox: Sandbox, directory: string) =>
  run(sandbox, `cd ${directory}; find . -type f -exec sha1sum {} + | sort`);

/** Without times: they come along to some 100 ns. */
const withoutTimes = (listing: string) => listing.replaceAll(/ \d+\.\d+ /g, ' ');

const make = String.raw`
mkdir -p kept/deep replaced-by-file/inner gone/inner shut
echo one > kept/same; echo one > kept/changed; echo one > kept/mode; echo x > replaced-by-file/inner/file; echo x > gone/inner/file
echo x > replaced-by-directory; ln -s same kept/link; ln -s same kept/link-changed; mkfifo pipe
printf 'x' > "$(printf 'odd\377name')"; printf 'x' > "$(printf 'new\nline')"; ln kept/same kept/second-name
find . -type f -exec touch -d '2001-02-03 04:05:06.75' {} +
`;
const change = String.raw`
echo three > kept/changed; chmod 600 kept/mode; chmod 750 kept/deep
ln -sfn elsewhere kept/link-changed
rm -r replaced-by-file gone; echo file > replaced-by-file
rm replaced-by-directory; mkdir replaced-by-directory; echo x > replaced-by-directory/file
mkdir -p new/a/b; echo x > new/a/b/file; chmod 555 new/a/b; ln -s /etc/passwd new/link
printf 'yy' > "$(printf 'odd\377name')"; rm "$(printf 'new\nline')"; printf 'y' > "$(printf 'new\377\nfile')"
touch new/dated; mkfifo new/pipe
find . -type f -newermt 2002-01-01 -exec touch -d '2011-02-03 04:05:06.5' {} +
`;

test('brings what changed in one sandbox into another, whatever it is', async ({ host }) => {
  await using one = await host.create();
  await using other = await host.create();
  for (const sandbox of [one, other]) {
    await run(sandbox, make);
    await sandbox.fs.checkpoint('base', '.');
  }
  await run(one, change);
  await other.fs.land('base', one.fs.packChanges('base'));
  const withoutPipes = (listing: string) => listing.split('\n').filter((line) => !line.includes('pipe p'));
  expect(withoutPipes(await shown(other))).toEqual(withoutPipes(await shown(one)));
  expect(await other.fs.readdir('.')).not.toContainEqual(expect.stringContaining('.berth-'));
  // Again: all of it is there.
  await other.fs.land('base', one.fs.packChanges('base'));
});

test('makes a tree as it was', async ({ sandbox }) => {
  await run(sandbox, make);
  await sandbox.fs.checkpoint('before', '.', { copy: true });
  const before = await shown(sandbox);
  // Such as the checkpoint is, it can be used again.
  for (let times = 0; times < 2; times++) {
    await run(sandbox, change);
    expect(await shown(sandbox)).not.toBe(before);
    await sandbox.fs.rollback('before');
    expect(await shown(sandbox)).toBe(before);
  }
});

test('what was made as it was is no change, to any checkpoint', async ({ sandbox }) => {
  await run(sandbox, make);
  for (const id of ['base', 'before']) await sandbox.fs.checkpoint(id, '.', { copy: true });
  await sandbox.fs.checkpoint('elsewhere', '/usr/bin');
  await run(sandbox, `${change} rm pipe`);
  await sandbox.fs.rollback('before');
  for (const id of ['base', 'before']) {
    const changes = (await buffer(sandbox.fs.packChanges(id))).toString();
    expect(changes).toBe('{"kind":"removed","path":"pipe"}\n{"kind":"end"}\n');
  }
});

describe('a conflict', () => {
  const base = 'mkdir -p d/e && echo 1 > a && echo 1 > d/f && echo 1 > d/e/g && ln -s a link && mkdir empty';

  test.for<[what: string, there: string, here: string, paths: string[]]>([
    ['a file', 'echo 2 > a', 'echo 3 > a', ['a']],
    ['a mode', 'chmod 600 a', 'chmod 640 a', ['a']],
    ['a link', 'ln -sfn x link', 'ln -sfn y link', ['link']],
    ['two new files', 'echo 2 > new', 'echo 3 > new', ['new']],
    ['a new file and a new directory', 'echo 2 > new', 'mkdir new && echo > new/x', ['new']],
    ['a new directory and a new file', 'mkdir new && echo 2 > new/x', 'echo 3 > new', ['new']],
    ['a new pipe in the place of a new file', 'echo 2 > new', 'mkfifo new', ['new']],
    ['changed there, removed here', 'echo 2 > d/f', 'rm d/f', ['d/f']],
    ['removed there, changed here', 'rm d/f', 'echo 3 > d/f', ['d/f']],
    ['made in a directory that is removed here', 'echo 2 > empty/new', 'rmdir empty', ['empty/new']],
    ['made in a directory that is a file here', 'echo 2 > empty/new', 'rmdir empty; echo > empty', ['empty/new']],
    ['a directory that is removed, with something new here', 'rm -r d', 'echo 3 > d/e/new', ['d/e/new']],
    ['a directory that is removed, with a new directory here', 'rm -r d', 'mkdir d/n; echo 3 > d/n/x', ['d/n']],
    ['a directory that became a file, with something new here', 'rm -r d; echo > d', 'echo 3 > d/new', ['d/new']],
    ['a directory that became a link, and another mode here', 'rm -r d; ln -s / d', 'chmod 700 d', ['d']],
    ['modes of a directory', 'chmod 700 d', 'chmod 750 d', ['d']],
    ['several', 'echo 2 > a; echo 2 > d/f; echo 2 > fine', 'echo 3 > a; echo 3 > d/f', ['a', 'd/f']],
    ['names that are no text', "echo 2 > $(printf 'n\\377')", "echo 3 > $(printf 'n\\377')", ['n\udcff']],
  ])('%s: it is named, and nothing has landed', async ([, there, here, paths], { shared: sandbox }) => {
    await twins(sandbox, base);
    await run(sandbox, `cd there; ${there}`);
    await run(sandbox, `cd here; ${here}`);
    const before = await shown(sandbox, 'here');
    const landing = expect(land(sandbox)).rejects;
    await landing.toThrow(FilesConflictError);
    await landing.toMatchObject({ code: 'files_conflict', meta: { paths, count: paths.length } });
    expect(await shown(sandbox, 'here')).toBe(before);
    expect(await sandbox.fs.readdir('here')).not.toContainEqual(expect.stringContaining('.berth-'));
  });

  test('of many is told with the first of them', async ({ shared: sandbox }) => {
    await twins(sandbox, 'for i in $(seq 100 160); do echo 1 > $i; done');
    for (const side of ['there', 'here']) await run(sandbox, `cd ${side}; for i in *; do echo ${side} > $i; done`);
    const paths = Array.from({ length: 20 }, (_, index) => `${100 + index}`);
    await expect(land(sandbox)).rejects.toMatchObject({ meta: { paths, count: 61 } });
  });

  test.for<[what: string, there: string, here: string]>([
    ['the same content', 'echo 2 > a', 'echo 2 > a; touch a'],
    ['the same link', 'ln -sfn x link', 'ln -sfn x link'],
    ['the same new tree', 'mkdir n; echo 2 > n/x', 'mkdir n; echo 2 > n/x'],
    ['the same mode of a directory', 'chmod 700 d', 'chmod 700 d'],
    ['both removed it', 'rm -r d', 'rm -r d'],
    ['both made a file of a directory', 'rm -r d; echo > d', 'rm -r d; echo > d'],
    ['other files', 'echo 2 > a; rm d/f', 'echo 3 > d/e/g; echo 3 > new'],
    ['a directory is removed whose files are removed here', 'rm -r d', 'rm d/f'],
  ])('is none: %s', async ([, there, here], { shared: sandbox }) => {
    await twins(sandbox, base);
    await run(sandbox, `cd there; ${there}`);
    await run(sandbox, `cd here; ${here}`);
    await land(sandbox);
    await run(sandbox, `cd there; ${there === 'echo 2 > a; rm d/f' ? here : 'true'}`);
    expect(withoutTimes(await shown(sandbox, 'here'))).toBe(withoutTimes(await shown(sandbox, 'there')));
  });

  test('two landings at once are one after the other: the second finds what the first has changed', async ({
    shared: sandbox,
  }) => {
    await twins(sandbox, 'echo 1 > a');
    await run(sandbox, 'cp -a there third');
    await sandbox.fs.checkpoint('third', 'third');
    await run(sandbox, 'echo 2 > there/a; echo 3 > third/a; echo 3 > third/other');
    const landings = [land(sandbox), sandbox.fs.land('here', sandbox.fs.packChanges('third'))];
    const ends = await Promise.allSettled(landings);
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const isFirst = ends[0]?.status === 'fulfilled';
    expect(await run(sandbox, 'cat here/a; ls here')).toBe(isFirst ? '2\na\n' : '3\na\nother\n');
  });
});

describe('what can not be put in its place', () => {
  test('is a FileError that names it, and all is as it was', async ({ host }) => {
    // The engine mounts /etc/hostname: it can be written to, and neither renamed nor replaced.
    await using one = await host.create({ user: 'root' });
    await using other = await host.create({ user: 'root' });
    await run(other, 'mkdir -p /etc/a/b /etc/zz; echo x > /etc/a/b/file; echo x > /etc/zz/file; chmod 500 /etc/zz');
    await run(one, 'mkdir -p /etc/a/b /etc/zz; echo x > /etc/a/b/file; echo x > /etc/zz/file; chmod 500 /etc/zz');
    for (const sandbox of [one, other]) await sandbox.fs.checkpoint('etc', '/etc', { copy: true });
    const before = await shown(other, '/etc');
    const change = `cd /etc; rm -r a; chmod 700 zz; rm zz/file; echo y > zz/new; mkdir -p b/c; echo y > b/c/file
      ln -s x b/link; echo y > passwd-; echo y >> hostname; echo y > z`;
    await run(one, change);
    const landing = expect(other.fs.land('etc', one.fs.packChanges('etc'))).rejects;
    await landing.toThrow(FileError);
    await landing.toMatchObject({ code: 'EBUSY', path: '/etc/hostname', operation: 'land' });
    expect(await shown(other, '/etc')).toBe(before);
    expect((await buffer(other.fs.packChanges('etc'))).toString()).toBe('{"kind":"end"}\n');
    await run(other, change);
    const changed = await shown(other, '/etc');
    await expect(other.fs.rollback('etc')).rejects.toMatchObject({ code: 'EBUSY', path: '/etc/hostname' });
    expect(await shown(other, '/etc')).toBe(changed);
    expect(await other.fs.readdir('/etc')).not.toContainEqual(expect.stringMatching(/berth/));
  });

  test('for want of room leaves all as it was, and so does a checkpoint', async ({ host }) => {
    const name = `berth-test-full-${randomUUID()}`;
    await docker.createVolume({ Name: name, DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=4m,mode=1777' } });
    onTestFinished(() => docker.getVolume(name).remove());
    await using full = await host.create({ workspace: { volume: name } });
    await using other = await host.create();
    for (const sandbox of [full, other]) {
      await run(sandbox, 'echo old > file');
      await sandbox.fs.checkpoint('c', '.');
    }
    const before = await shown(full);
    await run(other, 'echo new > file; head -c 8M /dev/zero > large');
    await expect(full.fs.land('c', other.fs.packChanges('c'))).rejects.toMatchObject({
      name: 'FileError',
      code: 'ENOSPC',
      path: '/workspace/large',
    });
    expect(await shown(full)).toBe(before);
    expect(await full.fs.readdir('.')).toEqual(['file']);
    await run(other, 'head -c 1M /dev/zero > large');
    await full.fs.land('c', other.fs.packChanges('c'));
    expect(await run(full, 'cat file')).toBe('new\n');
  });

  test('where nothing may be written is an error, and what is there can be told', async ({ shared: sandbox }) => {
    await twins(sandbox, 'echo 1 > a');
    await run(sandbox, 'echo 2 > there/a; chmod 500 here');
    await expect(land(sandbox)).rejects.toMatchObject({ name: 'FileError', code: 'EACCES', path: '/workspace/here' });
    await sandbox.fs.checkpoint('read-only', '/usr/bin');
    expect((await buffer(sandbox.fs.packChanges('read-only'))).toString()).toBe('{"kind":"end"}\n');
  });

  test('goes where its directory has to be made writable for that, and is shut again', async ({ shared: sandbox }) => {
    await twins(sandbox, 'mkdir -p shut/inner; echo 1 > shut/a; echo 1 > shut/inner/b; chmod 500 shut/inner shut');
    await run(sandbox, 'cd there; chmod 700 shut; echo 2 > shut/a; echo 2 > shut/new; chmod 500 shut');
    await land(sandbox);
    expect(withoutTimes(await shown(sandbox, 'here'))).toBe(withoutTimes(await shown(sandbox, 'there')));
    await sandbox.fs.checkpoint('here', 'here', { copy: true });
    const before = withoutTimes(await shown(sandbox, 'here'));
    await run(
      sandbox,
      'chmod -R u+w here/shut; rm -r here/shut; mkdir -p here/other/deep; chmod 500 here/other/deep here/other',
    );
    await sandbox.fs.rollback('here');
    expect(withoutTimes(await shown(sandbox, 'here'))).toBe(before);
    for (const side of ['here', 'there']) await sandbox.fs.checkpoint(side, side);
    await run(sandbox, 'chmod -R u+w there/shut; rm -r there/shut');
    await land(sandbox);
    expect(await sandbox.fs.readdir('here')).toEqual([]);
  });
});

describe('a checkpoint', () => {
  test('sees a change of equal length in the same tick of the clock as the checkpoint, whatever it does to times', async ({
    shared: sandbox,
  }) => {
    const same = "touch -d '2001-01-01' file";
    await twins(sandbox, `echo 1 > file; ${same}`);
    const digits =
      'while :; do for i in 1 2 3 4 5 6 7 8 9; do echo $i > there/file; touch -d 2001-01-01 there/file; done; done';
    for (let times = 0; times < 10; times++) {
      await using writer = await sandbox.spawn(digits);
      await sandbox.fs.checkpoint('there', 'there');
      await writer.kill('SIGKILL');
      await writer.wait();
      await run(sandbox, `cd there; echo x > file; ${same}`);
      expect((await buffer(sandbox.fs.packChanges('there'))).toString()).toContain('"path":"file"');
    }
  });

  test('is of its sandbox: it is there after a stop, may be made anew, and goes when it is dropped', async ({
    host,
  }) => {
    await using sandbox = await host.create();
    const changes = async () => (await buffer(sandbox.fs.packChanges('c'))).toString();
    const unknown = { name: 'SandboxRequestError', meta: { reason: 'unknown_checkpoint' } };
    await expect(changes()).rejects.toMatchObject(unknown);
    await expect(sandbox.fs.rollback('c')).rejects.toMatchObject(unknown);
    await expect(sandbox.fs.land('c', Readable.from([]))).rejects.toMatchObject(unknown);
    await sandbox.fs.dropCheckpoint('c');
    await run(sandbox, 'echo 1 > file');
    await sandbox.fs.checkpoint('c', '.', { copy: true });
    await sandbox.stop();
    await sandbox.start();
    expect(await changes()).toBe('{"kind":"end"}\n');
    await run(sandbox, 'echo 2 > file');
    await sandbox.fs.rollback('c');
    expect(await run(sandbox, 'cat file')).toBe('1\n');
    await run(sandbox, 'echo 3 > file');
    await sandbox.fs.checkpoint('c', '.');
    expect(await changes()).toBe('{"kind":"end"}\n');
    await expect(sandbox.fs.rollback('c')).rejects.toMatchObject({ meta: { reason: 'no_content' } });
    await sandbox.fs.dropCheckpoint('c');
    await expect(changes()).rejects.toMatchObject(unknown);
  });

  test('with content names what the user may not read; without, such a directory is no part of the tree', async ({
    shared: sandbox,
  }) => {
    await twins(sandbox, 'mkdir -p d/e; echo > d/e/secret; echo 1 > a');
    const shut = sandbox.exec('chmod 700 there/d && chown root there/d', { user: 'root' });
    expect(await shut).toMatchObject({ exitCode: 1 }); // no capabilities: not even root may
    await run(sandbox, 'chmod 000 there/d');
    await expect(sandbox.fs.checkpoint('there', 'there', { copy: true })).rejects.toMatchObject({
      name: 'FileError',
      code: 'EACCES',
      path: '/workspace/there/d',
    });
    // Could it be told apart from an empty one, all in it would be removed.
    await expect(buffer(sandbox.fs.packChanges('there'))).rejects.toMatchObject({ path: '/workspace/there/d' });
    await sandbox.fs.checkpoint('there', 'there');
    await run(sandbox, 'echo 2 > there/a');
    const changes = (await buffer(sandbox.fs.packChanges('there'))).toString();
    expect(changes.match(/"path":"[^"]*"/g)).toEqual(['"path":"a"']);
    await run(sandbox, 'chmod 700 there/d; chmod 000 there/a');
    await expect(sandbox.fs.checkpoint('there', 'there', { copy: true })).rejects.toMatchObject({
      code: 'EACCES',
      path: '/workspace/there/a',
    });
  });

  test('is of any tree, also the whole file system: without what is mounted there', async ({ host }) => {
    await using one = await host.create({ user: 'root' });
    await using other = await host.create({ user: 'root' });
    for (const sandbox of [one, other]) await sandbox.fs.checkpoint('all', '/');
    await run(
      one,
      'echo x > /usr/share/new; rm /etc/debian_version; mkdir -m 700 /root/new; echo x > /dev/shm/x; echo x > /root/new/x',
    );
    const changes = await buffer(one.fs.packChanges('all'));
    expect(changes.toString().match(/"path":"[^"]*"/g)).toEqual(
      ['etc/debian_version', 'root/new', 'root/new/x', 'usr/share/new'].map((path) => `"path":"${path}"`),
    );
    await other.fs.land('all', Readable.from([changes]));
    expect(await run(other, 'cat /usr/share/new /root/new/x; ls /etc/debian_version 2>/dev/null || echo gone')).toBe(
      'x\nx\ngone\n',
    );
  });

  test('is no place for paths or ids that are none', async ({ shared: sandbox }) => {
    const { fs } = sandbox;
    for (const id of ['', 'a/b', '..x/', 'x'.repeat(201)]) {
      await expect(fs.checkpoint(id, '.')).rejects.toMatchObject({ name: 'InvalidOptionsError' });
    }
    await twins(sandbox, 'echo > file');
    await expect(fs.checkpoint('c', 'here/file')).rejects.toMatchObject({
      code: 'ENOTDIR',
      path: '/workspace/here/file',
    });
    await expect(fs.checkpoint('c', 'none')).rejects.toMatchObject({ code: 'ENOENT', path: '/workspace/none' });
    await fs.checkpoint('..', 'here');
    await fs.dropCheckpoint('..');
  });
});

describe('of any size', () => {
  test('a few changes in 5,000 files land, and are taken back', async ({ shared: sandbox }) => {
    await twins(
      sandbox,
      `mkdir $(seq -f d%.0f 0 99); seq 5000 | awk '{ f = "d" ($1 % 100) "/f" $1; print "a" $1 > f; close(f) }'`,
    );
    await sandbox.fs.checkpoint('before', 'here', { copy: true });
    const before = await sums(sandbox, 'here');
    await run(sandbox, 'cd there; for i in d1/*; do echo b > $i; done; rm -r d7; mv d8 d08');
    await land(sandbox);
    expect(await sums(sandbox, 'here')).toBe(await sums(sandbox, 'there'));
    await sandbox.fs.rollback('before');
    expect(await sums(sandbox, 'here')).toBe(before);
  });

  test('a file of 500 MiB takes no memory of the host', { timeout: 600_000 }, async ({ shared: sandbox }) => {
    await twins(sandbox, 'echo 1 > file');
    await run(sandbox, 'truncate -s 500M there/file && echo end >> there/file');
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const changes = sandbox.fs.packChanges('there').on('data', () => {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    });
    await sandbox.fs.land('here', changes);
    expect(most).toBeLessThan(64 * 1024 * 1024);
    expect(await run(sandbox, 'stat -c %s here/file; tail -c 4 here/file; rm */file')).toBe('524288004\nend\n');
  });

  test('a tree of 400 directories one in the other lands and comes back; a deeper one is an error', async ({
    shared: sandbox,
  }) => {
    const deep = (levels: number) =>
      `(for i in $(seq ${levels}); do mkdir directory && cd -P directory || exit 1; done; echo x > file)`;
    await twins(sandbox, 'echo 1 > a');
    await sandbox.fs.checkpoint('before', 'here', { copy: true });
    await run(sandbox, `cd there; ${deep(400)}`);
    await land(sandbox);
    expect(await run(sandbox, 'find here -name file | wc -l')).toBe('1\n');
    await sandbox.fs.rollback('before');
    expect(await sandbox.fs.readdir('here')).toEqual(['a']);
    await run(sandbox, `cd here; ${deep(510)}`);
    await expect(sandbox.fs.checkpoint('before', 'here')).rejects.toMatchObject({
      name: 'FileError',
      code: 'ENAMETOOLONG',
      path: expect.stringMatching(/^\/workspace\/here\/directory\//),
    });
  });
});

describe('changes that land', () => {
  test('are those of a checkpoint, or refused; none gets out of the tree by a link', async ({ shared: sandbox }) => {
    await twins(sandbox, 'mkdir d ../outside; ln -s ../outside link; echo 1 > d/a');
    const before = await shown(sandbox);
    const line = (change: object) => `${JSON.stringify(change)}\n`;
    const attributes = { mode: 0o644, uid: 0, gid: 0, modifiedMs: 0 };
    const file = (path: string, size = 1) => line({ kind: 'file', path, ...attributes, size });
    const end = line({ kind: 'end' });
    const refused: Record<string, string> = {
      'nothing at all': '',
      'no end': line({ kind: 'removed', path: 'd' }),
      'something behind the end': `${end}x`,
      'no JSON': 'x\n',
      'no change': line({ kind: 'other' }),
      'a line without an end': 'x'.repeat(100_000),
      'a way out': `${file('../x')}x${end}`,
      'an absolute path': `${file('/etc/x')}x${end}`,
      'a content that breaks off': file('x', 5),
      'another order': `${file('b')}x${file('a')}x${end}`,
      'one twice': `${file('b')}x${file('b')}x${end}`,
      'a directory behind what is in it': `${file('e/x')}x${line({ kind: 'directory', path: 'e', ...attributes })}${end}`,
      'a name of the sandbox-agent': `${file('.berth-0123456789abcdef/x')}x${end}`,
    };
    for (const [what, changes] of Object.entries(refused)) {
      const landing = sandbox.fs.land('here', Readable.from(changes === '' ? [] : [Buffer.from(changes)]));
      await expect(landing, what).rejects.toMatchObject({ meta: { reason: 'invalid_changes' } });
    }
    const made = line({ kind: 'symlink', path: 'made', ...attributes, target: '../outside' });
    for (const [path, changes] of Object.entries({
      'link/x': `${file('link/x')}x${end}`,
      'made/x': `${made}${file('made/x')}x${end}`,
    })) {
      const landing = sandbox.fs.land('here', Readable.from([Buffer.from(changes)]));
      await expect(landing).rejects.toMatchObject({ code: 'files_conflict', meta: { paths: [path] } });
    }
    expect(await shown(sandbox)).toBe(before);
    expect(await sandbox.fs.readdir('here')).toHaveLength(2);
  });

  test('leave nothing when they are given up', async ({ shared: sandbox }) => {
    await twins(sandbox, 'echo 1 > a');
    await run(sandbox, 'head -c 3M /dev/zero > there/large; echo 2 > there/a');
    const abort = new AbortController();
    const [first] = await sandbox.fs.packChanges('there').take(1).toArray();
    let isGiven = false;
    const half = new Readable({
      read() {
        if (isGiven) abort.abort();
        else this.push(first);
        isGiven = true;
      },
    });
    await expect(sandbox.fs.land('here', half, { signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
    await expect(sandbox.fs.rollback('here', { signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('{"kind":"file"');
        throw new Error('the fork is gone');
      })(),
    );
    await expect(sandbox.fs.land('here', broken)).rejects.toThrow('the fork is gone');
    await expect.poll(() => sandbox.fs.readdir('here')).toEqual(['a']);
    expect(await run(sandbox, 'ls -A here; cat here/a')).toBe('a\n1\n');
  });

  test('keep their owners', async ({ shared: sandbox }) => {
    await twins(sandbox, 'mkdir -m 777 d');
    const made = 'umask 022; mkdir there/d/own; echo x > there/d/own/file; ln -s x there/d/link';
    expect(await sandbox.exec(made, { user: 'root' })).toMatchObject({ exitCode: 0 });
    await land(sandbox);
    const owners = (side: string) => run(sandbox, `cd ${side}/d && find . ! -type l -printf '%p %U:%G %m\n' | sort`);
    expect(await owners('here')).toContain('./own/file 0:0 644');
    expect(await owners('here')).toBe(await owners('there'));
    expect(await sandbox.exec('rm -r */d/*', { user: 'root' })).toMatchObject({ exitCode: 0 });
  });

  test('are all there or not at all after a kill in their midst', async ({ host }) => {
    const workspace = await mkdtemp(join(tmpdir(), 'berth-test-landing-'));
    onTestFinished(() => rm(workspace, { recursive: true, force: true }));
    const own = process.getuid?.() || 4_242;
    if (own === 4_242) await chown(workspace, own, own);
    await using sandbox = await host.create({ workspace: { bind: workspace }, user: `${own}:${own}` });
    await twins(sandbox, 'mkdir d gone; for i in $(seq 2000); do echo 1 > d/$i; done; echo 1 > gone/x; echo 1 > same');
    await run(sandbox, 'cd there; rm -r gone; for i in d/*; do echo 2 > $i; done; mkdir -p z/y; echo 2 > z/y/x');
    const landing = land(sandbox).catch(() => {});
    const isBegun = async () => !(await readdir(join(workspace, 'here'))).includes('gone');
    await expect.poll(isBegun, { interval: 1 }).toBe(true);
    await docker.getContainer(`berth-${sandbox.id}`).kill();
    await landing;
    await sandbox.start();
    const files = await readdir(join(workspace, 'here'), { recursive: true });
    const isDone = files.includes('z/y/x');
    const contents = await Promise.all(
      files.filter((name) => /^d\/|x$|same/.test(name)).map((name) => readFile(join(workspace, 'here', name), 'utf8')),
    );
    expect(new Set(contents)).toEqual(new Set(isDone ? ['1\n', '2\n'] : ['1\n']));
    expect(contents.filter((text) => text === '1\n')).toHaveLength(isDone ? 1 : 2_002);
    expect(files).toHaveLength(isDone ? 2_005 : 2_004);
    // The rest of it, or nothing.
    await land(sandbox);
    expect(await sums(sandbox, 'here')).toBe(await sums(sandbox, 'there'));
  });
});

describe('whatever is done on both sides', () => {
  const paths = ['a', 'b', 'd', 'd/a', 'd/b', 'd/e', 'd/e/a', 'l'];
  const how = {
    write: (path: string, text: string) => `mkdir -p "$(dirname ${path})" && echo ${text} > ${path}`,
    remove: (path: string) => `rm -rf ${path}`,
    link: (path: string, text: string) => `ln -sfn ${text} ${path}`,
    directory: (path: string) => `rm -rf ${path}; mkdir -p ${path}`,
    mode: (path: string, text: string) => `chmod 7${text}0 ${path}`,
    move: (path: string) => `mv -T ${path} m`,
  };
  const change = fc
    .tuple(fc.constantFrom(...Object.values(how)), fc.constantFrom(...paths), fc.constantFrom('5', '7'))
    .map(([make, path, text]) => `{ ${make(path, text)}; } 2>/dev/null;`);
  const changes = fc.array(change, { maxLength: 4 }).map((lines) => `${lines.join(' ')} true`);

  /** What is at each path, in one text. */
  const contents = async (sandbox: Sandbox, directory: string) => {
    const listing =
      'find . -mindepth 1 -printf "%P %y %m %l " \\( -type f -exec cat {} \\; -o -printf "\\n" \\) | sort';
    const lines = (await run(sandbox, `cd ${directory}; ${listing}`)).split('\n').filter((line) => line !== '');
    return new Map(lines.map((line) => [line.slice(0, line.indexOf(' ')), line]));
  };

  test('all that was changed there is here, and all else as it was here; or nothing has landed', async ({
    shared: sandbox,
  }) => {
    const base = 'mkdir -p d/e; for f in a b d/a d/b d/e/a; do echo 1 > $f; done; ln -s a l';
    await fc.assert(
      fc.asyncProperty(changes, changes, async (there, here) => {
        await twins(sandbox, base);
        await sandbox.fs.checkpoint('before', 'here', { copy: true });
        const before = await contents(sandbox, 'here');
        await run(sandbox, `cd there; ${there}`);
        await run(sandbox, `cd here; ${here}`);
        const [theirs, ours] = [await contents(sandbox, 'there'), await contents(sandbox, 'here')];
        const isLanded = await land(sandbox).then(
          () => true,
          (error: unknown) => {
            expect(error).toBeInstanceOf(FilesConflictError);
            return false;
          },
        );
        const landed = await contents(sandbox, 'here');
        const all = new Set([before, theirs, ours].flatMap((side) => [...side.keys()]));
        const isTheirs = (path: string) => theirs.get(path) !== before.get(path);
        if (isLanded) {
          for (const path of all) expect(landed.get(path), path).toBe((isTheirs(path) ? theirs : ours).get(path));
        } else {
          expect(landed).toEqual(ours);
          expect(ours).not.toEqual(before);
        }
        await sandbox.fs.rollback('before');
        expect(await contents(sandbox, 'here')).toEqual(before);
      }),
      { numRuns: 20 },
    );
  });
});
