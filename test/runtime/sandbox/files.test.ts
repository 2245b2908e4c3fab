import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import type { SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import type { Files } from '../../../src/runtime/sandbox/files.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { virtual } from '../../../src/runtime/sandbox/virtual.ts';
import { openHost } from '../../support/sandbox-fixture.ts';

describe('with docker(), fs', () => {
  let opened: Awaited<ReturnType<typeof openHost>>;
  let directory: string;

  beforeAll(async () => {
    opened = await openHost();
    directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
  });

  afterAll(async () => {
    await opened[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  /** Runs it as a workflow; gives the steps that were recorded: their kinds, and how they ended. */
  async function inARun(work: (harness: Harness) => Promise<void>) {
    const store = join(directory, 'runtime.db');
    await using runtime = await createRuntime({ host: opened.host, store });
    const agent = defineAgent(() => ({}));
    const run = await runtime.invoke(defineWorkflow({ name: 'work', agent, run: ({ harness }) => work(harness) }));
    await run.result();
    await using reader = await SqliteStore.open(store);
    const steps = await reader.steps({ run: run.id }, { limit: 100 });
    return steps.map(({ start, end }) => ({ ...JSON.parse(start), end: end && JSON.parse(end) }));
  }

  // contract: 3.1-fs-docker
  test('has all that the fs of a sandbox has; what changes files is recorded as a step, and nothing else', async () => {
    const source = join(directory, 'source');
    await mkdir(source);
    await writeFile(join(source, 'up.txt'), 'from the host');
    const seen: Record<string, unknown> = {};
    const steps = await inARun(async (harness) => {
      const { fs } = harness;
      await fs.mkdir('dir', { mode: 0o700 });
      await fs.writeFile('dir/a.txt', 'one\n', { mode: 0o600 });
      await fs.appendFile('dir/a.txt', 'two\n');
      await fs.chmod('dir/a.txt', 0o640);
      const { kind, isFile, isDirectory, size, mode, mtime, modified } = await fs.stat('dir/a.txt');
      seen.stat = { kind, isFile, isDirectory, size, mode, same: mtime === modified };
      await fs.symlink('a.txt', 'dir/link');
      seen.link = [await fs.readlink('dir/link'), await fs.realpath('dir/link'), fs.resolve('dir/../x')];
      seen.lstat = (await fs.lstat('dir/link')).isSymbolicLink;
      await fs.copy('dir', 'copy');
      await fs.rename('copy', 'moved');
      await fs.truncate('moved/a.txt', 3);
      seen.moved = await fs.readFile('moved/a.txt');
      seen.entries = (await fs.readdir('moved', { withStats: true })).map((entry) => [entry.name, entry.stats.kind]);
      seen.names = (await Readable.from(fs.entries('moved')).toArray()).sort();
      seen.glob = (await fs.glob('moved/*.txt')).paths;
      seen.grep = (await fs.grep('two')).matches;
      await fs.rm('moved', { recursive: true });
      await pipeline(Readable.from(['str', 'eam']), fs.createWriteStream('streamed'));
      seen.part = Buffer.concat(await fs.createReadStream('streamed', { start: 1, end: 3 }).toArray()).toString();
      await fs.upload(source, 'up');
      seen.tar = await namesIn(fs.download('up'));
      await fs.downloadTo('up', join(directory, 'target'));
      await using changes = fs.watch('up');
      await changes.ready;
      await (await harness.session()).fs.rename('up/up.txt', 'up/other.txt');
      for await (const change of changes) {
        seen.change = change;
        break;
      }
    });
    expect(seen).toEqual({
      stat: { kind: 'file', isFile: true, isDirectory: false, size: 8, mode: 0o640, same: true },
      link: ['a.txt', '/workspace/dir/a.txt', '/workspace/x'],
      lstat: true,
      moved: 'one',
      entries: expect.arrayContaining([
        ['a.txt', 'file'],
        ['link', 'symlink'],
      ]),
      names: ['a.txt', 'link'],
      glob: ['moved/a.txt'],
      grep: [{ path: 'dir/a.txt', line: 2, text: 'two' }],
      part: 'tre',
      tar: ['up', 'up/up.txt'],
      change: {
        type: 'rename',
        from: '/workspace/up/up.txt',
        path: '/workspace/up/other.txt',
        directory: false,
      },
    });
    expect(await readFile(join(directory, 'target/up.txt'), 'utf8')).toBe('from the host');
    const kinds = [
      ...['appendFile', 'chmod', 'copy', 'createWriteStream', 'downloadTo', 'mkdir', 'rename', 'rename', 'rm'],
      ...['symlink', 'truncate', 'upload', 'writeFile'],
    ];
    expect(steps.map(({ kind }) => kind).sort()).toEqual(kinds.map((kind) => `fs.${kind}`));
    expect(steps.every(({ end }) => JSON.stringify(end) === '{"attempt":1}')).toBe(true);
    expect(JSON.stringify(steps)).not.toContain(directory); // no path of this machine
  });

  // contract: 3.1-fs-docker
  test('tells who writes a stream that it failed, and records that, and what its code has aborted', async () => {
    const seen: unknown[] = [];
    const stop = new AbortController();
    const steps = await inARun(async ({ fs }) => {
      await fs.mkdir('dir');
      await pipeline(Readable.from(['x']), fs.createWriteStream('dir')).catch((error) => seen.push(error.code));
      const idle = fs.createWriteStream('dir/..');
      await new Promise((resolve) => idle.once('close', resolve));
      seen.push((idle.errored as NodeJS.ErrnoException).code);
      const endless = new Readable({ read() {} });
      const upload = fs.upload(endless, 'up', { signal: stop.signal });
      stop.abort('enough');
      await upload.catch((error) => seen.push(error.name));
    });
    expect(seen).toEqual(['EISDIR', 'EISDIR', 'AbortError']);
    expect(steps.map(({ kind, end }) => [kind, end?.error?.code])).toEqual(
      expect.arrayContaining([
        ['fs.createWriteStream', 'EISDIR'],
        ['fs.createWriteStream', 'EISDIR'],
        ['fs.upload', undefined],
      ]),
    );
    expect(steps.find(({ kind }) => kind === 'fs.upload')?.end?.error?.name).toBe('AbortError');
  });

  test('ends what is watched and read with its harness', async () => {
    const ends: unknown[] = [];
    await using runtime = await createRuntime({ host: opened.host, store: ':memory:' });
    const agent = defineAgent(() => ({}));
    const watching = defineWorkflow({
      name: 'watching',
      agent,
      async run({ harness }) {
        const stream = harness.fs.createReadStream('/dev/zero');
        const changes = harness.fs.watch('.');
        await changes.ready;
        harness.emit('ready', null);
        try {
          for await (const change of changes) ends.push(change);
        } catch (error) {
          ends.push((error as Error).name);
        }
        ends.push(stream.errored?.name);
      },
    });
    const run = await runtime.invoke(watching);
    for await (const { type } of run.events()) if (type === 'data') run.cancel('enough').catch(() => {});
    await expect(run.result()).rejects.toMatchObject({ name: 'RunCancelledError' });
    expect(ends).toEqual(['AbortError', 'AbortError']);
  });
});

async function namesIn(tar: Readable): Promise<string[]> {
  const names: string[] = [];
  const entries = extract();
  const piped = pipeline(tar, entries);
  for await (const entry of entries) {
    names.push(entry.header.name.replace(/\/$/, ''));
    entry.resume();
  }
  await piped;
  return names.sort();
}

describe('in another sandbox, fs', () => {
  const refused: [operation: string, call: (fs: Files, host: string) => unknown, options?: string[]][] = [
    ['appendFile', (fs) => fs.appendFile('a', 'x')],
    ['createWriteStream', (fs) => fs.createWriteStream('a')],
    ['lstat', (fs) => fs.lstat('a')],
    ['entries', (fs) => fs.entries('.')],
    ['rename', (fs) => fs.rename('there', 'b')],
    ['copy', (fs) => fs.copy('there', 'b')],
    ['symlink', (fs) => fs.symlink('there', 'b')],
    ['readlink', (fs) => fs.readlink('there')],
    ['truncate', (fs) => fs.truncate('there')],
    ['chmod', (fs) => fs.chmod('there', 0o600)],
    ['watch', (fs) => fs.watch('.')],
    ['upload', (fs, host) => fs.upload(host, 'b')],
    ['download', (fs) => fs.download('there')],
    ['downloadTo', (fs, host) => fs.downloadTo('.', join(host, 'b'))],
    ['writeFile', (fs) => fs.writeFile('there', 'x', { mode: 0o600 }), ['mode']],
    ['mkdir', (fs) => fs.mkdir('b/c', { recursive: true, mode: 0o700 }), ['mode']],
    ['rm', (fs) => fs.rm('there', { signal: new AbortController().signal }), ['signal']],
    ['readdir', (fs) => fs.readdir('.', { withStats: true }), ['withStats']],
  ];
  const inBoth: typeof refused = [
    ['glob', (fs) => fs.glob('*', { signal: new AbortController().signal }), ['signal']],
    ['grep', (fs) => fs.grep('x', { signal: new AbortController().signal }), ['signal']],
  ];
  const none: typeof refused = inBoth.map(([operation, call]) => [operation, call]);
  const ofVirtual: typeof refused = [...inBoth, ['createReadStream', (fs) => fs.createReadStream('there')]];
  const sandboxes: [string, (cwd: string) => SandboxFactory, typeof refused][] = [
    ['local()', (cwd) => local({ cwd }), [...refused, ...none]],
    ['virtual()', () => virtual({ files: { there: 'one\n' } }), [...refused, ...ofVirtual]],
  ];

  // contract: 3.1-fs-docker
  test.each(sandboxes)('%s refuses what it can not do, before any change', async (_, factory, calls) => {
    const directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
    const store = join(directory, 'runtime.db');
    const cwd = join(directory, 'work');
    await mkdir(cwd);
    await writeFile(join(cwd, 'there'), 'one\n');
    const agent = defineAgent(() => ({ sandbox: factory(cwd) }));
    const workflow = defineWorkflow({
      name: 'work',
      agent,
      async run({ harness: { fs } }) {
        for (const [operation, call, options] of calls) {
          const calling = async () => call(fs, directory);
          await expect(calling(), operation).rejects.toMatchObject({
            name: 'SandboxOperationUnsupportedError',
            meta: { operation, ...(options && { options }) },
          });
        }
        expect([await fs.readdir('.'), await fs.readFile('there')]).toEqual([['there'], 'one\n']);
      },
    });
    try {
      await using runtime = await createRuntime({ store });
      const run = await runtime.invoke(workflow);
      await run.result();
      await using reader = await SqliteStore.open(store);
      expect(await reader.steps({ run: run.id }, { limit: 10 })).toEqual([]);
      expect((await readdir(directory)).filter((name) => !name.startsWith('runtime.db'))).toEqual(['work']);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('searches, reads parts and finds links where the sandbox can', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'berth-test-'));
    await writeFile(join(directory, 'a.txt'), 'one\ntwo\n');
    const seen: Record<string, unknown> = {};
    const look = (sandbox: SandboxFactory, work: (fs: Files) => Promise<void>) =>
      defineWorkflow({ name: 'look', agent: defineAgent(() => ({ sandbox })), run: ({ harness }) => work(harness.fs) });
    const inMemory = look(virtual({ files: { 'a.txt': 'one\ntwo\n' } }), async (fs) => {
      seen.glob = await fs.glob('*.txt');
      seen.grep = await fs.grep('two');
      seen.realpath = await fs.realpath('./a.txt');
    });
    const onHost = look(local({ cwd: directory }), async (fs) => {
      seen.part = Buffer.concat(await fs.createReadStream('a.txt', { start: 4, end: 6 }).toArray()).toString();
      const missing = fs.createReadStream('missing').toArray();
      await missing.catch(({ name, code }) => Object.assign(seen, { name, code }));
    });
    try {
      for (const workflow of [inMemory, onHost]) {
        await using runtime = await createRuntime({ store: ':memory:' });
        await (await runtime.invoke(workflow)).result();
      }
    } finally {
      await rm(directory, { recursive: true });
    }
    expect(seen).toEqual({
      glob: { paths: ['a.txt'], truncated: false },
      grep: { matches: [{ path: 'a.txt', line: 2, text: 'two' }], total: 1, truncated: false },
      realpath: '/workspace/a.txt',
      part: 'two',
      name: 'FileError',
      code: 'ENOENT',
    });
  });
});
