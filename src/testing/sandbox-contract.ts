/**
 * The tests that every sandbox has to pass.
 * @module berth/testing/sandbox-contract
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { SandboxGoneError } from '../runtime/errors.ts';
import { newId } from '../runtime/id.ts';
import type { EnvExecOptions, SandboxEnv, SandboxFactory, SandboxRequest } from '../runtime/sandbox/env.ts';
import type { FilesConflictError } from '../sandbox/errors.ts';

/** What the suite needs of a test runner: those of Vitest and Jest, or of `node:test` with `before` and `after`. */
export interface TestRunner {
  /** Defines a group of tests. */
  describe(name: string, define: () => void): unknown;
  /** Defines a test. */
  test(name: string, work: () => Promise<void>): unknown;
  /** Does work once, before the tests of the group. */
  beforeAll(work: () => Promise<void>): unknown;
  /** Does work once, after the tests of the group. */
  afterAll(work: () => Promise<void>): unknown;
}

/** What not every sandbox can do. What is said to be missing is not tested; each is true by default. */
export interface SandboxTraits {
  /** Commands are processes of a kernel: they can be ended by a signal, and stand in `/proc`. */
  processes?: boolean;
  /** A child environment ends also what its commands left in the background. */
  background?: boolean;
  /** `ln -s` makes links. */
  links?: boolean;
  /** Output is shown as it comes, and what there is of it when a command runs out of time is kept. */
  streams?: boolean;
}

/** The sandbox that is tested. */
export interface SandboxContractOptions {
  /** Stands in the name of the suite. */
  name: string;
  /** Called once, before the first test. The sandboxes that it makes are closed after the last one. */
  factory: () => SandboxFactory | Promise<SandboxFactory>;
  /** What it can't do. Default: it can all */
  traits?: SandboxTraits;
}

/**
 * Defines the tests that every sandbox has to pass. They use a shell with `cat`, `echo`, `ln`, `printf`, `pwd`, `sleep`
 * and `touch`, and work in the directory of the sandbox.
 * @example
 * sandboxContract({ describe, test, beforeAll, afterAll }, { name: 'my sandbox', factory: () => mine() });
 */
export function sandboxContract(runner: TestRunner, options: SandboxContractOptions): void {
  const { describe, beforeAll, afterAll } = runner;
  const { processes = true, background = true, links = true, streams = true } = options.traits ?? {};

  describe(`the sandbox of ${options.name}`, () => {
    let factory: SandboxFactory;
    let env: SandboxEnv;

    beforeAll(async () => {
      factory = await options.factory();
      env = await factory.createSandbox(aRequest());
    });

    afterAll(async () => {
      await env?.close('completed');
    });

    const test = (name: string, work: () => Promise<void>, isPossible = true) => {
      if (isPossible) runner.test(name, work);
    };

    /** Checks the exit code and outputs of a command, and whatever else is given. */
    const expectResult = async (command: string, expected: Record<string, unknown>, given?: EnvExecOptions) => {
      const result = await env.exec(command, given);
      assert.deepEqual({ ...result, ...expected }, result);
      return result;
    };

    /** That no process of a command is left, where that can be seen. */
    const expectGone = async (mark: string) => assert.equal(processes && (await isLeft(env, mark)), false);

    // contract: 10.1-exec
    test('gives output, error output and exit code of a command; failing is a result', async () => {
      await expectResult('echo out; echo err >&2; exit 3', {
        exitCode: 3,
        signal: null,
        stdout: 'out\n',
        stderr: 'err\n',
        stdoutBytes: 4,
        stderrBytes: 4,
        truncated: false,
        timedOut: false,
        oomKilled: false,
      });
    });

    // contract: 10.1-exec
    test('answers a command that is not there with 127', async () => {
      await expectResult('berth-no-such-command', { exitCode: 127, signal: null });
    });

    // contract: 10.1-exec-signal
    test(
      'says by which signal a command was ended',
      async () => {
        await expectResult('kill -9 $$', { exitCode: null, signal: 'SIGKILL' });
      },
      processes,
    );

    // contract: 10.1-exec-input
    test('gives a command no input', async () => {
      await expectResult('cat; echo end', { exitCode: 0, stdout: 'end\n' });
    });

    // contract: 10.1-exec-max-output
    test('keeps the newest bytes of an output that is too long, and counts all of it', async () => {
      const kept = { stdout: '6789', stdoutBytes: 10, truncated: true };
      await expectResult('printf 0123456789', kept, { maxOutput: 4 });
      await expectResult('printf 0123', { stdout: '0123', truncated: false }, { maxOutput: 4 });
    });

    // contract: 10.1-exec-streams
    test('shows all of the output', async () => {
      const shown = { stdout: '', stderr: '' };
      await expectResult(
        'echo out; echo err >&2',
        { exitCode: 0 },
        {
          onStdout: (chunk) => {
            shown.stdout += Buffer.from(chunk).toString();
          },
          onStderr: (chunk) => {
            shown.stderr += Buffer.from(chunk).toString();
          },
        },
      );
      assert.deepEqual(shown, { stdout: 'out\n', stderr: 'err\n' });
    });

    // contract: 10.1-exec-streams
    test(
      'shows the output as it comes, before the end',
      async () => {
        await env.writeFile('as-it-comes', 'wait');
        let shown = '';
        const command = 'echo ready; while [ -e as-it-comes ]; do sleep 0.02; done; echo gone';
        const onStdout = (chunk: Uint8Array) => {
          shown += Buffer.from(chunk).toString();
          if (shown === 'ready\n') void env.rm('as-it-comes');
        };
        await expectResult(command, { exitCode: 0, stdout: 'ready\ngone\n' }, { onStdout });
        assert.equal(shown, 'ready\ngone\n');
      },
      streams,
    );

    test(
      'rejects with what a callback throws, and kills the command',
      async () => {
        const boom = new Error('boom');
        const onStdout = () => {
          throw boom;
        };
        const error = await errorOf(env.exec('echo x; exec sleep 1101', { onStdout }));
        assert.ok(error === boom || error.cause === boom, `it rejects with ${error}`);
        await expectGone('1101');
      },
      streams,
    );

    // contract: 10.1-exec-env, 10.1-paths
    test('adds variables and resolves a directory for one command', async () => {
      await env.mkdir('below/deep', { recursive: true });
      const given = { env: { CONTRACT: "it's" }, cwd: 'below/./deep/../deep' };
      await expectResult('echo $CONTRACT; pwd', { stdout: `it's\n${env.resolvePath('below/deep')}\n` }, given);
      await expectResult('echo "[$CONTRACT]"', { stdout: '[]\n' });
    });

    test('does not run a command in a directory that is not there', async () => {
      await errorOf(env.exec('touch never', { cwd: 'not-there' }));
    });

    // contract: 10.1-timeout
    test('on a timeout kills the whole tree; the code is 124', async () => {
      const timedOut = { exitCode: 124, signal: null, timedOut: true };
      const { durationMs } = await expectResult('sleep 1102 | sleep 1102', timedOut, { timeoutMs: 1_000 });
      assert.ok(durationMs >= 999, `it took ${durationMs} ms`); // may be rounded up, never down
      await expectGone('1102');
    });

    // contract: 10.1-timeout
    test(
      'on a timeout keeps the output so far',
      async () => {
        await expectResult('echo before; sleep 1107', { timedOut: true, stdout: 'before\n' }, { timeoutMs: 1_000 });
      },
      streams,
    );

    test('takes a timeout that is longer than the timers of Node', async () => {
      await expectResult('echo done', { stdout: 'done\n', timedOut: false }, { timeoutMs: 2 ** 31 + 5 });
    });

    test('takes a timeout that is no whole number', async () => {
      await expectResult('echo done', { stdout: 'done\n', timedOut: false }, { timeoutMs: 30_000.5 });
    });

    // contract: 10.1-abort
    test('on an abort kills the whole tree and rejects with the reason as cause', async () => {
      const stop = new AbortController();
      const call = errorOf(env.exec('touch aborted; sleep 1103 | sleep 1103', { signal: stop.signal }));
      await isThere(env, 'aborted');
      stop.abort('enough');
      const { name, cause } = await call;
      assert.deepEqual({ name, cause }, { name: 'AbortError', cause: 'enough' });
      await expectGone('1103');
    });

    // contract: 10.1-abort-before
    test('starts nothing when it is aborted already', async () => {
      const call = env.exec('touch never', { signal: AbortSignal.abort('before') });
      assert.equal((await errorOf(call)).name, 'AbortError');
      assert.equal(await env.exists('never'), false);
    });

    // contract: 10.1-write, 10.1-read
    test('writes files, makes their parents, replaces what was there, and reads them exactly', async () => {
      const bytes = new Uint8Array([0, 255, 128, 10]);
      await env.writeFile('made/for/it.bin', 'before, and longer');
      await env.writeFile('made/for/it.bin', bytes);
      assert.deepEqual(new Uint8Array(await env.readFileBuffer('made/for/it.bin')), bytes);
      await env.writeFile('text', 'größe\0');
      assert.equal(await env.readFile('text'), 'größe\0');
    });

    test('has the same files in commands and in calls', async () => {
      await env.writeFile('from-a-call', 'größe');
      await expectResult('cat from-a-call; printf grün > from-a-command', { stdout: 'größe' });
      assert.equal(await env.readFile('from-a-command'), 'grün');
    });

    // contract: 10.1-read
    test('reads bytes that are no UTF-8 as U+FFFD', async () => {
      await env.writeFile('bad', new Uint8Array([0x61, 0xff, 0x62]));
      assert.equal(await env.readFile('bad'), 'a\uFFFDb');
    });

    // contract: 10.1-stat
    test('says of a path what it names', async () => {
      await env.writeFile('file', '12345');
      const { isFile, isDirectory, size = 5 } = await env.stat('file');
      assert.deepEqual({ isFile, isDirectory, size }, { isFile: true, isDirectory: false, size: 5 });
      const directory = await env.stat('.');
      assert.deepEqual([directory.isFile, directory.isDirectory], [false, true]);
    });

    // contract: 10.1-stat
    test(
      'says of a link what its target is',
      async () => {
        await env.writeFile('target', '12345');
        await expectResult('ln -s target link', { exitCode: 0 });
        const { isFile, size = 5 } = await env.stat('link');
        assert.deepEqual({ isFile, size }, { isFile: true, size: 5 });
      },
      links,
    );

    // contract: 10.1-readdir, 10.1-exists
    test('lists names, and says whether something exists without ever failing', async () => {
      await env.writeFile('listed/b', '');
      await env.writeFile('listed/.a', '');
      assert.deepEqual((await env.readdir('listed')).sort(), ['.a', 'b']);
      assert.equal(await env.exists('listed/b'), true);
      assert.equal(await env.exists('listed/b/under-a-file'), false);
      assert.equal(await env.exists('nothing'), false);
    });

    // contract: 10.1-read-errors, 10.1-write, 10.1-readdir, 10.1-mkdir, 10.1-rm
    test('fails with an error that says what is wrong', async () => {
      await env.writeFile('a-file', '');
      await env.mkdir('a-dir');
      const calls: [code: string, what: string, call: () => Promise<unknown>][] = [
        ['ENOENT', 'reading nothing', () => env.readFile('nothing')],
        ['ENOENT', 'reading nothing as bytes', () => env.readFileBuffer('nothing')],
        ['EISDIR', 'reading a directory', () => env.readFile('.')],
        ['EISDIR', 'reading a directory as bytes', () => env.readFileBuffer('.')],
        ['EISDIR', 'writing a directory', () => env.writeFile('a-dir', '')],
        ['ENOTDIR', 'writing below a file', () => env.writeFile('a-file/below', '')],
        ['ENOENT', 'stat of nothing', () => env.stat('nothing')],
        ['ENOENT', 'listing nothing', () => env.readdir('nothing')],
        ['ENOTDIR', 'listing a file', () => env.readdir('a-file')],
        ['EEXIST', 'making what is there', () => env.mkdir('.')],
        ['ENOENT', 'making below nothing', () => env.mkdir('nothing/below')],
        ['ENOENT', 'removing nothing', () => env.rm('nothing')],
        ['EISDIR', 'removing a directory as a file', () => env.rm('a-dir')],
      ];
      for (const [code, what, call] of calls) {
        const error = await errorOf(call());
        assert.deepEqual([what, error.name, error.code], [what, 'FileError', code]);
      }
    });

    // contract: 10.1-rm
    test('removes with force what is not there, and directories when told so', async () => {
      await env.rm('nothing', { force: true });
      await env.writeFile('tree/a/b', '');
      await env.rm('tree', { recursive: true });
      assert.equal(await env.exists('tree'), false);
    });

    // contract: 10.1-mkdir
    test('makes a directory that is there already, when told to make its parents', async () => {
      await env.mkdir('again/and', { recursive: true });
      await env.mkdir('again/and', { recursive: true });
      assert.deepEqual(await env.readdir('again'), ['and']);
    });

    // contract: 10.1-paths
    test('resolves paths against its directory, and folds dots and slashes', async () => {
      assert.equal(env.resolvePath('a/./b//../c'), `${env.cwd}/a/c`);
      assert.equal(env.resolvePath('/x/../y'), '/y');
      assert.equal(env.resolvePath('.'), env.cwd);
    });

    test('reads a part of a file, both ends included, where it can', async () => {
      if (!env.createReadStream) return;
      await env.writeFile('part', '0123456789');
      const chunks: Uint8Array[] = [];
      for await (const chunk of env.createReadStream('part', { start: 2, end: 4 })) chunks.push(chunk);
      assert.equal(Buffer.concat(chunks).toString(), '234');
    });

    test(
      'says what a path is without links, where it can',
      async () => {
        if (!env.realpath) return;
        await env.writeFile('linked/file', '');
        await env.exec('ln -s linked/file link-to-file && ln -s linked link-to-directory');
        const real = `${await env.realpath('.')}/linked/file`;
        for (const path of ['linked/file', 'link-to-file', 'link-to-directory/file']) {
          assert.equal(await env.realpath(path), real);
        }
        await assert.rejects(env.realpath('missing'), { code: 'ENOENT' });
      },
      links,
    );

    test('finds files by their names, the newest first, where it can', async () => {
      if (!env.glob) return;
      for (const name of ['a.ts', 'deep/b.ts', 'c.md', '.git/d.ts']) await env.writeFile(`globbed/${name}`, '');
      const { paths, truncated } = await env.glob('*.ts', { path: 'globbed' });
      assert.deepEqual([paths.sort(), truncated], [['a.ts', 'deep/b.ts'], false]);
      const few = await env.glob('deep/**', { path: 'globbed', limit: 1 });
      assert.deepEqual(few, { paths: ['deep/b.ts'], truncated: false });
      assert.equal((await env.glob('*.ts', { path: 'globbed', limit: 1 })).truncated, true);
    });

    test('finds lines in files, where it can', async () => {
      if (!env.grep) return;
      await env.writeFile('grepped/a.ts', 'one\nt.o two\n');
      await env.writeFile('grepped/deep/b.md', 'two: 2\n');
      await env.writeFile('grepped/.git/c.ts', 'two\n');
      await env.writeFile('grepped/.gitignore', 'left-out\n');
      await env.writeFile('grepped/left-out', 'two\n');
      const search = async (pattern: string, given: Parameters<NonNullable<SandboxEnv['grep']>>[1] = {}) => {
        const found = await env.grep?.(pattern, { path: 'grepped', ...given });
        return [found?.matches.map(({ path, line, text }) => `${path}:${line}:${text}`).sort(), found?.truncated];
      };
      assert.deepEqual(await search('t[w]o'), [['a.ts:2:t.o two', 'deep/b.md:1:two: 2'], false]);
      assert.deepEqual(await search('t.o', { literal: true }), [['a.ts:2:t.o two'], false]);
      assert.deepEqual(await search('two', { include: '*.md' }), [['deep/b.md:1:two: 2'], false]);
      assert.deepEqual(await search('two', { path: 'grepped/a.ts' }), [['a.ts:2:t.o two'], false]);
      assert.deepEqual((await search('two', { limit: 1 }))[1], true);
      assert.deepEqual(await search('three'), [[], false]);
      await errorOf(search('(two'));
    });

    // contract: 10.1-children
    test('opens a child with the same files, and a directory and variables of its own', async () => {
      await env.mkdir('child', { recursive: true });
      const child = await env.open({ name: 'child', cwd: 'child', env: { OF_CHILD: 'yes' } });
      try {
        assert.equal(child.cwd, env.resolvePath('child'));
        await child.writeFile('from-child', 'hello');
        assert.equal(await env.readFile('child/from-child'), 'hello');
        assert.equal((await child.exec('pwd; echo $OF_CHILD')).stdout, `${child.cwd}\nyes\n`);
        await expectResult('echo "[$OF_CHILD]"', { stdout: '[]\n' });
      } finally {
        await child.close();
      }
      await errorOf(child.exec('true'));
      assert.equal(await env.readFile('child/from-child'), 'hello');
    });

    // contract: 10.1-children
    test(
      'ends with a child what the child had started, and nothing else',
      async () => {
        const child = await env.open();
        await child.exec('sleep 1104 >/dev/null 2>&1 &');
        const { stdout: pid } = await env.exec('sleep 1105 >/dev/null 2>&1 & echo $!');
        await child.close();
        assert.equal(await isLeft(env, '1104'), false);
        assert.equal(await isLeft(env, '1105'), true);
        await env.exec(`kill ${pid}`);
      },
      processes && background,
    );

    // contract: 10.1-resume
    test('has the files of work that was suspended when it goes on, or says that they are gone', async () => {
      const request = aRequest();
      const before = await factory.createSandbox(request);
      await before.writeFile('of-suspended-work', 'here');
      await before.close('suspended');
      const after = await factory.createSandbox({ ...request, resume: true }).catch((error: unknown) => {
        if (!(error instanceof SandboxGoneError)) throw error;
      });
      if (!after) return;
      try {
        assert.equal(await after.readFile('of-suspended-work'), 'here');
      } finally {
        await after.close('completed');
      }
    });

    // contract: 10.1-fork
    test('has forks with files of their own, whose changes are put in place when they land, where it can', async () => {
      if (!env.fork) return;
      await env.writeFile('forked/changed', 'before');
      await env.writeFile('forked/removed', 'before');
      const { signal } = new AbortController();
      const [first, second] = await env.fork({ names: ['first', 'second'], resume: false, signal });
      assert.ok(first && second);
      try {
        assert.equal(first.cwd, env.cwd);
        await first.exec('cd forked && echo first > changed && mkdir new && echo new > new/file && rm removed');
        await second.writeFile('forked/changed', 'second');
        assert.equal(await second.exists('forked/new'), false);
        assert.equal(await env.readFile('forked/changed'), 'before');
        await first.land({ signal });
        await first.land({ signal }); // after an interruption nobody knows whether it was
        assert.deepEqual((await env.readdir('forked')).sort(), ['changed', 'new']);
        assert.equal(await env.readFile('forked/changed'), 'first\n');
        assert.equal(await env.readFile('forked/new/file'), 'new\n');
        const { name, meta } = (await errorOf(second.land({ signal }))) as FilesConflictError;
        assert.deepEqual([name, meta], ['FilesConflictError', { paths: ['forked/changed'], count: 1 }]);
        assert.equal(await env.readFile('forked/changed'), 'first\n');
      } finally {
        await first.close('completed');
        await second.close('failed');
      }
      await errorOf(first.exec('true'));
    });

    // contract: 10.1-fork
    test('has the files of a fork whose work was suspended, by its name, or says that they are gone', async () => {
      if (!env.fork) return;
      const { signal } = new AbortController();
      const [before] = await env.fork({ names: ['goes-on'], resume: false, signal });
      await before?.writeFile('of-a-fork', 'here');
      await before?.close('suspended');
      const [after] = await env.fork({ names: ['goes-on'], resume: true, signal });
      try {
        assert.equal(await after?.readFile('of-a-fork'), 'here');
      } finally {
        await after?.close('completed');
      }
      await assert.rejects(env.fork({ names: ['goes-on'], resume: true, signal }), SandboxGoneError);
      const [anew] = await env.fork({ names: ['goes-on'], resume: false, signal });
      assert.equal(await anew?.exists('of-a-fork'), false);
      await anew?.close('failed');
    });

    // contract: 10.1-checkpoint
    test('puts files back as they were at a checkpoint, as often as it is asked to, where it can', async () => {
      if (!env.checkpoint) return;
      await env.writeFile('kept/changed', 'before');
      await env.writeFile('kept/removed', 'before');
      const { signal } = new AbortController();
      const checkpoint = await env.checkpoint({ name: 'kept', resume: false, signal });
      for (const found of [checkpoint, await env.checkpoint({ name: 'kept', resume: true, signal })]) {
        await env.exec('cd kept && echo after > changed && mkdir new && echo new > new/file && rm removed');
        await found.rollback({ signal });
        assert.deepEqual((await env.readdir('kept')).sort(), ['changed', 'removed']);
        assert.equal(await env.readFile('kept/changed'), 'before');
      }
      await checkpoint.drop();
      await errorOf(checkpoint.rollback({ signal }));
    });

    test('kills a command under way when its environment is closed', async () => {
      const child = await env.open();
      const call = Promise.allSettled([child.exec('touch closed; exec sleep 1106')]);
      await isThere(env, 'closed');
      await child.close();
      await call;
      await expectGone('1106');
    });
  });
}

function aRequest(): SandboxRequest {
  const id = newId('run');
  return {
    id,
    kind: 'run',
    key: id,
    isDurable: false,
    resume: false,
    signal: new AbortController().signal,
    host: () => Promise.reject(new Error('The suite has no host: give a factory that brings its own.')),
    onEvent: () => {},
  };
}

/** Whether a `sleep` for so many seconds is left. */
async function isLeft(env: SandboxEnv, seconds: string): Promise<boolean> {
  const { stdout } = await env.exec(`for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null < $p/cmdline; echo; done`);
  return stdout.split('\n').some((line) => line.trim() === `sleep ${seconds}`);
}

async function isThere(env: SandboxEnv, path: string): Promise<void> {
  while (!(await env.exists(path))) await sleep(10);
}

async function errorOf(call: Promise<unknown>): Promise<Error & { code?: unknown }> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof Error || error instanceof DOMException);
    return error;
  }
  throw new assert.AssertionError({ message: 'It should have failed.' });
}
