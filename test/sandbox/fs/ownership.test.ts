import { chown, lstat, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import Docker from 'dockerode';
import { expect, onTestFinished } from 'vitest';
import { test } from '../../support/sandbox-fixture.ts';
import { Shown } from '../../support/shown.ts';

const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
// What root runs would belong to root anyway.
const owner = own.uid === 0 ? { uid: 4_242, gid: 4_343 } : own;

test('all that is made in a directory of the host belongs to its owner there, whatever the call', async ({ host }) => {
  const parent = await mkdtemp(join(tmpdir(), 'berth-test-owner-'));
  onTestFinished(() => rm(parent, { recursive: true, force: true }));
  const workspace = join(parent, 'workspace');
  const source = join(parent, 'source');
  await mkdir(workspace);
  await chown(workspace, owner.uid, owner.gid);
  await mkdir(join(source, 'inner'), { recursive: true });
  await writeFile(join(source, 'inner/file'), 'content');

  const user = `${owner.uid}:${owner.gid}`;
  await using sandbox = await host.create({ workspace: { bind: workspace }, user });
  const { fs } = sandbox;
  await fs.writeFile('new/written', 'content');
  await fs.writeFile('new/written', 'again');
  await fs.appendFile('appended', 'content');
  await fs.mkdir('made/inner', { recursive: true, mode: 0o700 });
  await fs.copy('new', 'copied');
  await fs.copy('appended', 'copied-file');
  await fs.upload(source, 'uploaded');
  await fs.upload(fs.download('uploaded'), 'unpacked');
  await fs.writeFile('moved-before', 'content');
  await fs.rename('moved-before', 'moved');
  await fs.symlink('moved', 'link');
  await fs.writeFile('truncated', 'content');
  await fs.truncate('truncated', 3);
  await pipeline(['a', 'b'], fs.createWriteStream('streamed'));
  await sandbox.exec('echo content > by-command; mkdir by-command-too');
  await sandbox.exec('echo content > over-stdin', { stdin: 'more' });
  const session = await sandbox.session();
  await session.exec('echo content > by-session');
  await session.fs.writeFile('by-session-fs', 'content');
  await using terminal = await sandbox.pty({ cols: 80, rows: 24, command: 'echo content > by-pty; echo over' });
  await new Shown(terminal.output).until('over');

  const names = await readdir(workspace, { recursive: true });
  expect(names).toEqual(expect.arrayContaining(['new/written', 'uploaded/inner/file', 'unpacked', 'link', 'by-pty']));
  expect(names.filter((name) => name.includes('.berth-'))).toEqual([]);
  const foreign: string[] = [];
  for (const name of names) {
    const { uid, gid } = await lstat(join(workspace, name));
    if (uid !== owner.uid || gid !== owner.gid) foreign.push(`${name} ${uid}:${gid}`);
  }
  expect(foreign).toEqual([]);
});

test('a sandbox that is removed while it writes leaves no part in a directory of the host', async ({ host }) => {
  const workspace = await mkdtemp(join(tmpdir(), 'berth-test-part-'));
  onTestFinished(() => rm(workspace, { recursive: true, force: true }));
  await chown(workspace, owner.uid, owner.gid);
  const sandbox = await host.create({ workspace: { bind: workspace }, user: `${owner.uid}:${owner.gid}` });
  const writing = sandbox.fs.createWriteStream('file');
  writing.on('error', () => {}); // the sandbox is removed
  await new Promise((resolve) => writing.write('half', resolve));
  await expect.poll(() => readdir(workspace)).toHaveLength(1);
  await sandbox.remove();
  expect(await readdir(workspace)).toEqual([]);
});

test.for(['removed', 'killed, then removed'])(
  'of a copy under way nothing is left there when the sandbox is %s',
  async (how, { host }) => {
    const workspace = await mkdtemp(join(tmpdir(), 'berth-test-parts-'));
    onTestFinished(() => rm(workspace, { recursive: true, force: true }));
    await chown(workspace, owner.uid, owner.gid);
    const sandbox = await host.create({ workspace: { bind: workspace } });
    const copying = expect(sandbox.fs.copy('/usr', 'copied')).rejects.toMatchObject({ code: 'sandbox_died' });
    const isUnderWay = async () => (await readdir(workspace)).some((name) => name.startsWith('.berth-'));
    await expect.poll(isUnderWay, { interval: 5 }).toBe(true);
    if (how !== 'removed') await new Docker().getContainer(`berth-${sandbox.id}`).kill();
    await sandbox.remove();
    await copying;
    expect(await readdir(workspace)).toEqual([]);
  },
);
