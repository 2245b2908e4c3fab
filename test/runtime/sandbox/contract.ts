import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SandboxEnv, SandboxFactory } from '../../../src/runtime/sandbox/env.ts';
import type { SandboxHost } from '../../../src/sandbox/index.ts';

/**
 * What every sandbox does alike. `open` is called once, and `close` after the last test.
 * @param options.endsBackground - a child ends also what its commands left in the background. Default: true
 */
export function sandboxContract(
  name: string,
  open: () => Promise<{ factory: SandboxFactory; host?: () => Promise<SandboxHost>; close: () => Promise<void> }>,
  { endsBackground = true }: { endsBackground?: boolean } = {},
): void {
  describe(`the sandbox of ${name}`, () => {
    let env: SandboxEnv;
    let close: () => Promise<void> = async () => {};

    beforeAll(async () => {
      const opened = await open();
      close = opened.close;
      env = await opened.factory.createSandbox({
        id: 'run_contract',
        kind: 'run',
        resume: false,
        signal: new AbortController().signal,
        host: opened.host ?? (() => Promise.reject(new Error('this sandbox needs no host'))),
      });
    });

    afterAll(async () => {
      await env?.close();
      await close();
    });

    /** Whether any process whose command line has the mark is left. */
    const isLeft = async (mark: string) => {
      const { stdout } = await env.exec(`for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null < $p/cmdline; echo; done`);
      return stdout.split('\n').some((line) => line.trim() === `sleep ${mark}`);
    };

    // contract: 10.1-exec
    test('gives output, error output and exit code of a command; failing is a result', async () => {
      expect(await env.exec('echo out; echo err >&2; exit 3')).toMatchObject({
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

    // contract: 10.1-exec-signal
    test('answers a command that is not there with 127, and one that a signal ended with the signal', async () => {
      expect(await env.exec('berth-no-such-command')).toMatchObject({ exitCode: 127 });
      expect(await env.exec('kill -9 $$')).toMatchObject({ exitCode: null, signal: 'SIGKILL' });
    });

    // contract: 10.1-exec-input
    test('gives a command no input', async () => {
      expect(await env.exec('cat; echo end')).toMatchObject({ exitCode: 0, stdout: 'end\n' });
    });

    // contract: 10.1-exec-max-output
    test('keeps the newest bytes of an output that is too long, and counts all of it', async () => {
      expect(await env.exec('printf 0123456789', { maxOutput: 4 })).toMatchObject({
        stdout: '6789',
        stdoutBytes: 10,
        truncated: true,
      });
      expect(await env.exec('printf 0123', { maxOutput: 4 })).toMatchObject({ stdout: '0123', truncated: false });
    });

    // contract: 10.1-exec-streams
    test('shows the output as it comes, before the end', async () => {
      await env.writeFile('as-it-comes', 'wait');
      let shown = '';
      const result = env.exec('echo ready; while [ -e as-it-comes ]; do sleep 0.02; done; echo gone', {
        onStdout: (chunk) => {
          shown += Buffer.from(chunk).toString();
          if (shown === 'ready\n') void env.rm('as-it-comes');
        },
      });
      expect(await result).toMatchObject({ exitCode: 0, stdout: 'ready\ngone\n' });
      expect(shown).toBe('ready\ngone\n');
    });

    test('rejects with what a callback throws, and kills the command', async () => {
      const boom = new Error('boom');
      const call = env.exec('echo x; exec sleep 1101', {
        onStdout: () => {
          throw boom;
        },
      });
      const error: unknown = await call.catch((thrown: unknown) => thrown);
      expect([error, (error as { cause?: unknown }).cause]).toContain(boom);
      expect(await isLeft('1101')).toBe(false);
    });

    // contract: 10.1-exec-env, 10.1-paths
    test('adds variables and resolves a directory for one command', async () => {
      await env.mkdir('below/deep', { recursive: true });
      const { stdout } = await env.exec('echo $CONTRACT; pwd', {
        env: { CONTRACT: "it's" },
        cwd: 'below/./deep/../deep',
      });
      expect(stdout).toBe(`it's\n${env.resolvePath('below/deep')}\n`);
      expect((await env.exec('echo "[$CONTRACT]"')).stdout).toBe('[]\n');
    });

    // contract: 10.1-timeout
    test('on a timeout kills the whole tree; the code is 124 and the output so far is kept', async () => {
      const result = await env.exec('echo before; sleep 1102 & sleep 1102', { timeoutMs: 1_000 });
      expect(result).toMatchObject({ exitCode: 124, signal: null, timedOut: true, stdout: 'before\n' });
      expect(result.durationMs).toBeGreaterThanOrEqual(999); // may be rounded up, never down
      expect(await isLeft('1102')).toBe(false);
    });

    test('takes a timeout that is longer than the timers of Node', async () => {
      expect(await env.exec('echo done', { timeoutMs: 2 ** 31 + 5 })).toMatchObject({
        stdout: 'done\n',
        timedOut: false,
      });
    });

    test('takes a timeout that is no whole number', async () => {
      expect(await env.exec('echo done', { timeoutMs: 30_000.5 })).toMatchObject({ stdout: 'done\n', timedOut: false });
    });

    // contract: 10.1-abort
    test('on an abort kills the whole tree and rejects with the reason as cause', async () => {
      const stop = new AbortController();
      const call = env.exec('sleep 1103 & echo started; sleep 1103', {
        signal: stop.signal,
        onStdout: () => stop.abort('enough'),
      });
      await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
      expect(await isLeft('1103')).toBe(false);
    });

    // contract: 10.1-abort-before
    test('starts nothing when it is aborted already', async () => {
      const signal = AbortSignal.abort('before');
      await expect(env.exec('touch never', { signal })).rejects.toMatchObject({ name: 'AbortError' });
      expect(await env.exists('never')).toBe(false);
    });

    // contract: 10.1-write, 10.1-read
    test('writes files, makes their parents, replaces what was there, and reads them exactly', async () => {
      const bytes = new Uint8Array([0, 255, 128, 10]);
      await env.writeFile('made/for/it.bin', 'before, and longer');
      await env.writeFile('made/for/it.bin', bytes);
      expect(new Uint8Array(await env.readFileBuffer('made/for/it.bin'))).toEqual(bytes);
      await env.writeFile('text', 'größe\0');
      expect(await env.readFile('text')).toBe('größe\0');
    });

    // contract: 10.1-read
    test('reads bytes that are no UTF-8 as U+FFFD', async () => {
      await env.writeFile('bad', new Uint8Array([0x61, 0xff, 0x62]));
      expect(await env.readFile('bad')).toBe('a\uFFFDb');
    });

    // contract: 10.1-stat
    test('says of a path what it names, links followed', async () => {
      await env.writeFile('file', '12345');
      await env.exec('ln -s file link-to-file');
      expect(await env.stat('file')).toMatchObject({ isFile: true, isDirectory: false, size: 5 });
      expect(await env.stat('link-to-file')).toMatchObject({ isFile: true, size: 5 });
      expect(await env.stat('.')).toMatchObject({ isFile: false, isDirectory: true });
    });

    // contract: 10.1-readdir, 10.1-exists
    test('lists names, and says whether something exists without ever failing', async () => {
      await env.writeFile('listed/b', '');
      await env.writeFile('listed/.a', '');
      expect((await env.readdir('listed')).sort()).toEqual(['.a', 'b']);
      expect(await env.exists('listed/b')).toBe(true);
      expect(await env.exists('listed/b/under-a-file')).toBe(false);
      expect(await env.exists('nothing')).toBe(false);
    });

    // contract: 10.1-read-errors, 10.1-readdir, 10.1-mkdir, 10.1-rm
    test.each([
      ['ENOENT', 'reading nothing', () => env.readFile('nothing')],
      ['ENOENT', 'reading nothing as bytes', () => env.readFileBuffer('nothing')],
      ['EISDIR', 'reading a directory', () => env.readFile('.')],
      ['EISDIR', 'reading a directory as bytes', () => env.readFileBuffer('.')],
      ['ENOENT', 'stat of nothing', () => env.stat('nothing')],
      ['ENOENT', 'listing nothing', () => env.readdir('nothing')],
      ['ENOTDIR', 'listing a file', () => env.writeFile('a-file', '').then(() => env.readdir('a-file'))],
      ['EEXIST', 'making what is there', () => env.mkdir('.')],
      ['ENOENT', 'making below nothing', () => env.mkdir('nothing/below')],
      ['ENOENT', 'removing nothing', () => env.rm('nothing')],
      ['EISDIR', 'removing a directory as a file', () => env.mkdir('a-dir').then(() => env.rm('a-dir'))],
    ])('fails with %s: %s', async (code, _what, call) => {
      await expect(call()).rejects.toMatchObject({ name: 'FileError', code });
    });

    // contract: 10.1-rm
    test('removes with force what is not there, and directories when told so', async () => {
      await env.rm('nothing', { force: true });
      await env.writeFile('tree/a/b', '');
      await env.rm('tree', { recursive: true });
      expect(await env.exists('tree')).toBe(false);
      await env.mkdir('again/and', { recursive: true });
      await env.mkdir('again/and', { recursive: true });
    });

    // contract: 10.1-paths
    test('resolves paths against its directory, and folds dots and slashes', () => {
      expect(env.resolvePath('a/./b//../c')).toBe(`${env.cwd}/a/c`);
      expect(env.resolvePath('/x/../y')).toBe('/y');
      expect(env.resolvePath('.')).toBe(env.cwd);
    });

    test('reads a part of a file, both ends included', async () => {
      await env.writeFile('part', '0123456789');
      const chunks: Uint8Array[] = [];
      for await (const chunk of env.createReadStream?.('part', { start: 2, end: 4 }) ?? []) chunks.push(chunk);
      if (env.createReadStream) expect(Buffer.concat(chunks).toString()).toBe('234');
    });

    // contract: 10.1-children
    test('opens a child with the same files, and a directory and variables of its own', async () => {
      await env.mkdir('child', { recursive: true });
      const child = await env.open({ name: 'child', cwd: 'child', env: { OF_CHILD: 'yes' } });
      try {
        expect(child.cwd).toBe(env.resolvePath('child'));
        await child.writeFile('from-child', 'hello');
        expect(await env.readFile('child/from-child')).toBe('hello');
        expect((await child.exec('pwd; echo $OF_CHILD')).stdout).toBe(`${child.cwd}\nyes\n`);
        expect((await env.exec('echo "[$OF_CHILD]"')).stdout).toBe('[]\n');
      } finally {
        await child.close();
      }
    });

    // contract: 10.1-children
    test.runIf(endsBackground)('ends with a child what the child had started, and nothing else', async () => {
      const child = await env.open();
      await child.exec('sleep 1104 >/dev/null 2>&1 &');
      const { stdout: pid } = await env.exec('sleep 1105 >/dev/null 2>&1 & echo $!');
      await child.close();
      expect(await isLeft('1104')).toBe(false);
      expect(await isLeft('1105')).toBe(true);
      await env.exec(`kill ${pid}`);
      await expect(child.exec('true')).rejects.toThrow();
    });

    test('kills a command under way when its environment is closed', async () => {
      const child = await env.open();
      let started = () => {};
      const isRunning = new Promise<void>((resolve) => {
        started = resolve;
      });
      const call = child.exec('echo up; exec sleep 1106', { onStdout: () => started() });
      const ended = call.then(
        () => 'ended',
        () => 'ended',
      );
      await isRunning;
      await child.close();
      expect(await ended).toBe('ended');
      expect(await isLeft('1106')).toBe(false);
    });
  });
}
