import { describe, expect } from 'vitest';
import type { Change, Watch } from '../../src/sandbox/fs/watch.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { test } from '../support/sandbox-fixture.ts';

/** What a watch tells of until the file `end` appears, a line each. */
async function until(watch: Watch, end: string): Promise<string[]> {
  const lines: string[] = [];
  const changes = watch[Symbol.asyncIterator](); // a loop would end the watch
  for (let { value } = await changes.next(); value; { value } = await changes.next()) {
    if (value.type !== 'overflow' && value.path === end) return lines;
    lines.push(line(value));
  }
  return [...lines, 'the end'];
}

function line(change: Change): string {
  if (change.type === 'overflow') return 'overflow';
  const path = `${change.path}${change.directory ? '/' : ''}`;
  return change.type === 'rename' ? `rename ${change.from} ${path}` : `${change.type} ${path}`;
}

/** The changes that a command makes. */
async function changesOf(sandbox: Sandbox, command: string, recursive = true): Promise<string[]> {
  await using watch = sandbox.fs.watch('tree', { recursive });
  await watch.ready;
  const { exitCode, stderr } = await sandbox.exec(`cd tree && ${command}`);
  expect(stderr).toBe('');
  expect(exitCode).toBe(0);
  await sandbox.exec('touch tree/end');
  return await until(watch, '/workspace/tree/end');
}

describe('watch', () => {
  test('tells what is created, changed, renamed and removed, a burst of one kind once', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p tree/a/deep tree/b; touch tree/a/deep/old tree/a/gone tree/a/kept');
    // What takes more than a moment may come in more than one piece.
    const written = await changesOf(sandbox, 'for i in $(seq 1000); do echo $i; done > a/new');
    expect(written[0]).toBe('create /workspace/tree/a/new');
    expect(written.length).toBeLessThan(500);
    expect(await changesOf(sandbox, 'for i in $(seq 100); do echo $i >> a/kept; done')).toContain(
      'change /workspace/tree/a/kept',
    );
    const lines = await changesOf(sandbox, 'rm a/gone; chmod 600 a/new; mv a/new b/moved');
    expect(lines[0]).toBe('remove /workspace/tree/a/gone');
    expect(lines).toContain('rename /workspace/tree/a/new /workspace/tree/b/moved');
    expect(lines.filter((each) => each.startsWith('change'))).toHaveLength(1);
  });

  test('goes on with a directory that is renamed, and tells that it left', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p tree/a/deep tree/b');
    await using watch = sandbox.fs.watch('tree', { recursive: true });
    await watch.ready;
    await sandbox.exec('mv tree/a tree/b/c; touch tree/b/c/deep/x');
    expect(await until(watch, '/workspace/tree/b/c/deep/x')).toEqual(['rename /workspace/tree/a /workspace/tree/b/c/']);
  });

  test('tells that a directory left, and nothing of it any more', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p tree/b/c');
    await using watch = sandbox.fs.watch('tree', { recursive: true });
    await watch.ready;
    await sandbox.exec('mv tree/b/c away');
    expect(await until(watch, '/workspace/tree/b/c')).toEqual([]);
    await sandbox.exec('touch away/x tree/end');
    expect(await until(watch, '/workspace/tree/end')).toEqual([]);
  });

  test('tells of another file in the place of one that left', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p tree; touch tree/a tree/b');
    // By one program: two would be apart on a busy machine, and so two changes.
    expect(await changesOf(sandbox, `perl -e 'rename "a", "../a"; rename "b", "a"'; sleep 0.2`)).toEqual([
      'rename /workspace/tree/b /workspace/tree/a',
    ]);
  });

  test('sees all that is made in new directories, however fast, and in those that are moved in', async ({
    shared: sandbox,
  }) => {
    await sandbox.exec('mkdir -p tree outside/in/a; touch outside/in/a/file');
    const lines = await changesOf(
      sandbox,
      'for i in $(seq 300); do mkdir -p d$i/e/f && echo x > d$i/e/f/file; done; mv ../outside/in moved; touch moved/a/more',
    );
    const created = new Set(lines.filter((each) => each.startsWith('create')));
    for (let i = 1; i <= 300; i += 1) {
      for (const path of ['/', '/e/', '/e/f/', '/e/f/file'])
        expect(created).toContain(`create /workspace/tree/d${i}${path}`);
    }
    for (const path of ['/', '/a/', '/a/file', '/a/more'])
      expect(created).toContain(`create /workspace/tree/moved${path}`);
    expect(lines.filter((each) => each.startsWith('create'))).toHaveLength(created.size);
  });

  test('shows what the host writes as one change, and never a file that is not whole', async ({ shared: sandbox }) => {
    await sandbox.fs.mkdir('tree');
    await using watch = sandbox.fs.watch('tree');
    await watch.ready;
    await sandbox.fs.writeFile('tree/file', 'x'.repeat(3_000_000));
    await sandbox.fs.copy('tree/file', 'tree/copy');
    await sandbox.fs.writeFile('tree/end', '');
    expect(await until(watch, '/workspace/tree/end')).toEqual([
      'create /workspace/tree/file',
      'create /workspace/tree/copy',
    ]);
  });

  test('without `recursive` tells of the directory only, and never follows a link', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p tree/below outside; ln -s ../outside tree/link');
    expect(await changesOf(sandbox, 'touch below/x ../outside/y; mkdir new; touch new/z; mkdir top', false)).toEqual([
      'create /workspace/tree/new/',
      'create /workspace/tree/top/',
    ]);
    expect(await changesOf(sandbox, 'touch ../outside/more; touch link/more')).toEqual([]);
  });

  test('of a file sees that it is replaced, removed and made again', async ({ shared: sandbox }) => {
    await sandbox.exec('echo 1 > file');
    await using watch = sandbox.fs.watch('file');
    await watch.ready;
    const changes = watch[Symbol.asyncIterator]();
    const next = async () => line((await changes.next()).value as Change); // the watch does not end here
    await sandbox.exec('touch other; echo 2 >> file');
    expect(await next()).toBe('change /workspace/file');
    await sandbox.exec('echo 3 > new; mv new file');
    expect(await next()).toBe('create /workspace/file');
    await sandbox.exec('rm file');
    expect(await next()).toBe('remove /workspace/file');
    await sandbox.exec('echo 4 > file');
    expect(await next()).toBe('create /workspace/file');
  });

  test('ends with the directory: removed, or moved away', async ({ shared: sandbox }) => {
    for (const command of ['rm -r tree', 'mv tree away']) {
      await sandbox.exec('mkdir -p tree/below');
      await using watch = sandbox.fs.watch('tree', { recursive: true });
      await watch.ready;
      await sandbox.exec(command);
      const lines = await until(watch, '/never');
      expect(lines.slice(-2), command).toEqual(['remove /workspace/tree/', 'the end']);
    }
  });

  test('has names of any bytes, which name the same file to all other calls', async ({ shared: sandbox }) => {
    await sandbox.fs.mkdir('tree');
    await using watch = sandbox.fs.watch('tree');
    await watch.ready;
    await sandbox.exec('printf found > "tree/$(printf \'a\\377 \\n\\303\\244\')"');
    const { value } = await watch[Symbol.asyncIterator]().next();
    expect(value).toMatchObject({ type: 'create', path: '/workspace/tree/a\udcff \nä' });
    expect(await sandbox.fs.readFile('/workspace/tree/a\udcff \nä')).toBe('found');
  });

  test('survives ten thousand changes in a burst, and tells of each', async ({ shared: sandbox }) => {
    await sandbox.fs.mkdir('tree');
    const lines = await changesOf(sandbox, 'seq 10000 | xargs touch');
    expect(lines.filter((each) => each.startsWith('create'))).toHaveLength(10_000);
  });

  test('says that there was more than could be kept, and goes on', async ({ shared: sandbox }) => {
    await sandbox.fs.mkdir('tree');
    await using watch = sandbox.fs.watch('tree', { recursive: true });
    await watch.ready;
    // Nobody reads meanwhile.
    await sandbox.exec(`mkdir tree/d; cd tree/d; seq -f '${'long'.repeat(60)}%.0f' 40000 | xargs touch`);
    let overflows = 0;
    let lines = 0;
    let isTouched = false;
    for await (const change of watch) {
      lines += 1;
      if (change.type !== 'overflow') {
        if (change.path === '/workspace/tree/d/end') break;
        continue;
      }
      overflows += 1;
      if (!isTouched) await sandbox.exec('touch tree/d/end');
      isTouched = true;
    }
    expect(overflows).toBeGreaterThan(0);
    expect(lines).toBeLessThan(40_000);
  });

  test('rejects at once for what can not be watched', async ({ shared: sandbox }) => {
    await sandbox.exec('mkdir -p closed/inner; chmod 0 closed');
    for (const [path, code] of [
      ['missing', 'ENOENT'],
      ['closed', 'EACCES'],
      ['closed/inner', 'EACCES'],
    ] as const) {
      const watch = sandbox.fs.watch(path, { recursive: true });
      await expect(watch.ready, path).rejects.toMatchObject({ name: 'FileError', code, operation: 'watch' });
      await expect(watch[Symbol.asyncIterator]().next(), path).rejects.toMatchObject({ code });
    }
    // What may not be read inside of a directory is left out.
    await using watch = sandbox.fs.watch('.', { recursive: true });
    await watch.ready;
  });

  test('stops on close, on an abort and at the end of a loop, and leaves nothing behind', async ({
    shared: sandbox,
  }) => {
    await sandbox.fs.mkdir('tree');
    const closed = sandbox.fs.watch('tree');
    const next = closed[Symbol.asyncIterator]().next();
    await closed.ready;
    await closed.close();
    expect(await next).toEqual({ value: undefined, done: true });
    const stop = new AbortController();
    const aborted = sandbox.fs.watch('tree', { signal: stop.signal });
    const rejected = expect(aborted[Symbol.asyncIterator]().next()).rejects.toMatchObject({ name: 'AbortError' });
    await aborted.ready;
    stop.abort();
    await rejected;
    await expect(sandbox.fs.watch('tree', { signal: stop.signal }).ready).rejects.toMatchObject({ name: 'AbortError' });
    // Were they open still, this would be all there are.
    for (let count = 0; count < 140; count += 1) {
      const watch = sandbox.fs.watch('tree');
      await watch.ready;
      await watch.close();
    }
  });
});
