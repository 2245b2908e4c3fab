import { mkdir, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import type { Process } from '../../src/sandbox/process/exec.ts';
import type { Pty } from '../../src/sandbox/pty/pty.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';

const nowhere = () => new Writable({ write: (_chunk, _encoding, done) => done() });

async function follow(process: Process): Promise<unknown> {
  return Promise.all([pipeline(process.stdout, nowhere()), process.wait()]);
}

async function use(pty: Pty): Promise<unknown> {
  await pty.resize({ cols: 100, rows: 30 });
  await pty.write('typed\r');
  pty.input.end();
  return pty.wait();
}

function smallTar(): Readable {
  const tar = pack();
  tar.entry({ name: 'file' }, 'content');
  tar.finalize();
  return Readable.from(tar);
}

/** Every call of a sandbox that its sandbox-agent answers. With an honest one each of them succeeds. */
export const calls: Record<string, (sandbox: Sandbox) => Promise<unknown>> = {
  exec: (sandbox) => sandbox.exec('true'),
  'exec with input': (sandbox) => sandbox.exec(['cat'], { stdin: Readable.from(['one', 'two']), onStdout: () => {} }),
  'exec that keeps little': (sandbox) => sandbox.exec('true', { maxOutput: 3 }),
  'exec that tells of memory': (sandbox) => sandbox.exec('true', { onOomKill: () => {} }),
  'many exec at once': (sandbox) => Promise.all(Array.from({ length: 20 }, () => sandbox.exec('true'))),
  spawn: async (sandbox) => {
    const process = await sandbox.spawn('cat');
    process.stdin.end('text');
    return follow(process);
  },
  'spawn and dispose': async (sandbox) => {
    await using process = await sandbox.spawn('cat', { stdin: 'text' });
    await process.kill();
    return process.wait();
  },
  attach: async (sandbox) => follow(await sandbox.attach('p_1', { stdout: 2 })),
  pty: async (sandbox) => use(await sandbox.pty({ cols: 80, rows: 24 })),
  attachPty: async (sandbox) => use(await sandbox.attachPty('p_1')),
  processes: (sandbox) => sandbox.processes({ all: true }),
  ports: (sandbox) => sandbox.ports(),
  session: async (sandbox) => {
    const session = await sandbox.session('name');
    await session.exec('true');
    return session.close();
  },
  readFile: (sandbox) => sandbox.fs.readFile('file'),
  createReadStream: (sandbox) => pipeline(sandbox.fs.createReadStream('file', { start: 2, end: 9 }), nowhere()),
  writeFile: (sandbox) => sandbox.fs.writeFile('file', 'x'.repeat(600_000)),
  appendFile: (sandbox) => sandbox.fs.appendFile('file', 'more'),
  createWriteStream: (sandbox) => pipeline(Readable.from(['a', 'b']), sandbox.fs.createWriteStream('file')),
  stat: (sandbox) => sandbox.fs.stat('file'),
  lstat: (sandbox) => sandbox.fs.lstat('file'),
  exists: (sandbox) => sandbox.fs.exists('file'),
  readdir: (sandbox) => sandbox.fs.readdir('.'),
  'readdir with stats': (sandbox) => sandbox.fs.readdir('.', { withStats: true }),
  entries: async (sandbox) => {
    for await (const _ of sandbox.fs.entries('.', { withStats: true }));
  },
  watch: async (sandbox) => {
    await using watch = sandbox.fs.watch('.', { recursive: true });
    for await (const _ of watch);
  },
  truncate: (sandbox) => sandbox.fs.truncate('file', 3),
  mkdir: (sandbox) => sandbox.fs.mkdir('directory', { recursive: true }),
  rm: (sandbox) => sandbox.fs.rm('file', { force: true }),
  rename: (sandbox) => sandbox.fs.rename('file', 'other'),
  copy: (sandbox) => sandbox.fs.copy('file', 'other'),
  symlink: (sandbox) => sandbox.fs.symlink('file', 'link'),
  readlink: (sandbox) => sandbox.fs.readlink('link'),
  realpath: (sandbox) => sandbox.fs.realpath('link'),
  chmod: (sandbox) => sandbox.fs.chmod('file', 0o600),
  glob: (sandbox) => sandbox.fs.glob('*', { limit: 10 }),
  grep: (sandbox) => sandbox.fs.grep('text', { limit: 10 }),
  upload: (sandbox) => sandbox.fs.upload(smallTar(), '.'),
  'upload of a directory': (sandbox) => sandbox.fs.upload(import.meta.dirname, '.'),
  download: (sandbox) => pipeline(sandbox.fs.download('tree'), nowhere()),
  checkpoint: (sandbox) => sandbox.fs.checkpoint('c', '.', { copy: true }),
  packChanges: (sandbox) => pipeline(sandbox.fs.packChanges('c'), nowhere()),
  land: (sandbox) => sandbox.fs.land('c', Readable.from([Buffer.from('{"kind":"end"}\n')])),
  rollback: (sandbox) => sandbox.fs.rollback('c'),
  dropCheckpoint: (sandbox) => sandbox.fs.dropCheckpoint('c'),
  'download of a tree to the host': (sandbox) => downloadTo(sandbox, 'tree'),
  'download of a file to the host': (sandbox) => downloadTo(sandbox, 'file'),
};

async function downloadTo(sandbox: Sandbox, name: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-fuzz-'));
  const parent = join(folder, 'parent');
  await mkdir(parent);
  try {
    await sandbox.fs.downloadTo(name, join(parent, name), { maxBytes: 1024 * 1024 });
  } finally {
    const [beside, made] = await Promise.all([readdir(folder), readdir(parent)]);
    const links = await linksOut(join(parent, name));
    await rm(folder, { recursive: true, force: true });
    // Not a BerthError: the fuzz fails with it.
    if (beside.length > 1 || made.some((one) => one !== name) || links.length > 0) {
      // biome-ignore lint/correctness/noUnsafeFinally: it is what matters, whatever came before
      throw new Error(`outside of its target: ${[...beside, ...made, ...links]}`);
    }
  }
}

async function linksOut(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  const links = entries.filter((entry) => entry.isSymbolicLink()).map((entry) => join(entry.parentPath, entry.name));
  const targets = await Promise.all(links.map((link) => realpath(link).catch(() => root)));
  return targets.filter((target) => target !== root && !target.startsWith(`${root}/`));
}
