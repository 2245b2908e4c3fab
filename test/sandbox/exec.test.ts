import { once } from 'node:events';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect } from 'vitest';
import { InvalidOptionsError, ProcessEndedError, SandboxRequestError } from '../../src/sandbox/errors.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { test } from '../support/sandbox-fixture.ts';

/** Zombies are dead: they only wait to be reaped. */
async function sleeping(sandbox: Sandbox): Promise<string[]> {
  const { stdout } = await sandbox.exec('ps -eo stat=,args= | grep -v "^Z" | grep -o "sleep 1[0-9]*$" | sort');
  return stdout.split('\n').filter((line) => line !== '');
}

describe('exec', () => {
  test('gives the output of each stream, the code, and the counts', async ({ shared: sandbox }) => {
    expect(await sandbox.exec('echo out; echo error >&2; exit 3')).toEqual({
      exitCode: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'error\n',
      stdoutBytes: 4,
      stderrBytes: 6,
      truncated: false,
      timedOut: false,
      oomKilled: false,
      durationMs: expect.any(Number),
    });
  });

  test('tells a signal from a code, and what was not found from what can not be run', async ({ shared: sandbox }) => {
    expect(await sandbox.exec('kill -TERM $$')).toMatchObject({ exitCode: null, signal: 'SIGTERM' });
    expect(await sandbox.exec(['no-such-program'])).toMatchObject({ exitCode: 127 });
    expect(await sandbox.exec(['/etc/hostname'])).toMatchObject({ exitCode: 126 });
  });

  test('starts an array without a shell', async ({ shared: sandbox }) => {
    expect((await sandbox.exec(['echo', '$HOME', ';', 'ls'])).stdout).toBe('$HOME ; ls\n');
  });

  test('takes a name that is no UTF-8, as it is, for a program, an argument, a variable and a directory', async ({
    shared: sandbox,
  }) => {
    const name = 'a\udcff\udc80';
    await sandbox.fs.writeFile(`${name}/${name}`, '#!/bin/sh\nprintf %s "$1$NAME$PWD" | od -An -tx1', { mode: 0o755 });
    const options = { cwd: name, env: { NAME: name, PATH: `/workspace/${name}:/usr/bin` } };
    const { stdout } = await sandbox.exec([name, name], options);
    const expected = Buffer.concat([Buffer.from('a'), Buffer.of(0xff, 0x80)]).toString('hex');
    expect(stdout.replace(/\s/g, '')).toBe(
      `${expected}${expected}${Buffer.from('/workspace/').toString('hex')}${expected}`,
    );
    await expect(sandbox.exec(['echo', '\ud800'])).rejects.toThrow('1: holds half a character');
  });

  test('says of a directory that can not be entered that it is that, and not the program', async ({
    shared: sandbox,
  }) => {
    const cwds = { '/missing': 'ENOENT', '/etc/passwd': 'ENOTDIR', '/root': 'EACCES' };
    for (const [cwd, reason] of Object.entries(cwds)) {
      await expect(sandbox.exec('true', { cwd }), cwd).rejects.toMatchObject({
        code: 'sandbox_request',
        meta: { reason },
      });
    }
    expect((await sandbox.exec('pwd', { cwd: '/root', user: 'root' })).stdout).toBe('/root\n');
  });

  test('gives the longest argument that Linux takes', async ({ shared: sandbox }) => {
    const longest = 'x'.repeat(128 * 1024 - 1);
    expect((await sandbox.exec(['printf', '%s', longest])).stdoutBytes).toBe(longest.length);
    await expect(sandbox.exec(['printf', '%s', `${longest}x`])).rejects.toBeInstanceOf(InvalidOptionsError);
  });

  test('names a variable that is wrong', async ({ shared: sandbox }) => {
    // @ts-expect-error a number is no text
    await expect(sandbox.exec('env', { env: { A: '1', B: 2 } })).rejects.toMatchObject({
      meta: { issues: [expect.objectContaining({ path: 'env.B' })] },
    });
  });

  test('fails for an input that gives neither text nor bytes', async ({ shared: sandbox }) => {
    const input = (async function* () {
      yield 5;
    })();
    // @ts-expect-error as said
    await expect(sandbox.exec('cat', { stdin: input })).rejects.toBeInstanceOf(InvalidOptionsError);
  });

  test('says of a command that ended by itself with its time that it did', async ({ shared: sandbox }) => {
    for (let round = 0; round < 50; round++) {
      const { timedOut, exitCode, signal } = await sandbox.exec(['true'], { timeout: 1 + (round % 3) });
      expect(timedOut ? signal : exitCode).toBe(timedOut ? 'SIGKILL' : 0);
    }
  });

  test('adds to the environment, and starts where it is told', async ({ shared: sandbox }) => {
    const { stdout } = await sandbox.exec('echo "$GREETING $PWD"', { env: { GREETING: 'hi' }, cwd: '/usr/bin' });
    expect(stdout).toBe('hi /usr/bin\n');
    await expect(sandbox.exec('true', { cwd: '/nowhere' })).rejects.toBeInstanceOf(SandboxRequestError);
  });

  test('keeps the newest bytes and counts the rest', async ({ shared: sandbox }) => {
    const result = await sandbox.exec('head -c 10000000 /dev/zero; printf end', { maxOutput: 10 });
    expect(result).toMatchObject({ stdoutBytes: 10_000_003, truncated: true });
    expect(result.stdout).toBe(`${'\0'.repeat(7)}end`);
  });

  test('gives every byte, whatever it is, to a listener', async ({ shared: sandbox }) => {
    const chunks: Uint8Array[] = [];
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    await sandbox.exec(['cat'], { stdin: every, onStdout: (chunk) => chunks.push(chunk) });
    expect(Buffer.concat(chunks)).toEqual(every);
  });

  test('reads the end of its input at once, unless one is given', async ({ shared: sandbox }) => {
    expect((await sandbox.exec('cat')).stdout).toBe('');
    expect((await sandbox.exec('cat', { stdin: 'text' })).stdout).toBe('text');
    const stream = Readable.from(
      (function* () {
        for (let index = 0; index < 300; index++) yield Buffer.alloc(100_000, index);
      })(),
    );
    expect((await sandbox.exec('wc -c', { stdin: stream })).stdout.trim()).toBe('30000000');
  });

  test('ends with the command, also when its input does not', async ({ shared: sandbox }) => {
    const endless = new Readable({ read() {} });
    expect(await sandbox.exec('echo done', { stdin: endless })).toMatchObject({ stdout: 'done\n' });
    expect(endless.destroyed).toBe(true);
  });

  test('on a timeout kills the tree, also a child with a session of its own', async ({ shared: sandbox }) => {
    const result = await sandbox.exec('echo before; setsid sleep 1000 & sleep 1000', { timeout: 1_000 });
    expect(result).toMatchObject({ timedOut: true, stdout: 'before\n' });
    expect(result.durationMs).toBeLessThan(30_000);
    expect(await sleeping(sandbox)).toEqual([]);
  });

  test('on abort kills the tree and rejects with an AbortError', async ({ shared: sandbox }) => {
    const abort = new AbortController();
    const running = sandbox.exec('echo up; setsid sleep 1000 & sleep 1000', {
      signal: abort.signal,
      onStdout: () => abort.abort('enough'),
    });
    await expect(running).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(await sleeping(sandbox)).toEqual([]);
    await expect(sandbox.exec('touch started', { signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
    expect(await sandbox.fs.exists('started')).toBe(false);
  });

  test('runs a command once per key', async ({ shared: sandbox }) => {
    const both = await Promise.all([1, 2].map(() => sandbox.exec('echo x >> runs; cat runs', { key: 'once' })));
    expect(both.map(({ stdout }) => stdout)).toEqual(['x\n', 'x\n']);
  });

  test('refuses options that it does not know, by name', async ({ shared: sandbox }) => {
    // @ts-expect-error there is no such option
    const error: InvalidOptionsError = await sandbox.exec('true', { timeoutMs: 1 }).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(InvalidOptionsError);
    expect(error.meta.issues).toEqual([{ path: 'timeoutMs', message: 'is not an option of it' }]);
    await expect(sandbox.exec('true', { timeout: 0 })).rejects.toBeInstanceOf(InvalidOptionsError);
    await expect(sandbox.exec([])).rejects.toBeInstanceOf(InvalidOptionsError);
  });

  test('refuses what the wire could not carry, and goes on', async ({ shared: sandbox }) => {
    const large = Array.from({ length: 12 }, () => 'x'.repeat(100_000));
    await expect(sandbox.exec(['true', ...large])).rejects.toBeInstanceOf(InvalidOptionsError);
    await expect(sandbox.exec(['true', 'x'.repeat(200_000)])).rejects.toBeInstanceOf(InvalidOptionsError);
    expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
  });
});

describe('spawn', () => {
  test('hands back a process whose streams are read and written as it runs', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn(['cat']);
    process.stdin.write('one ');
    process.stdin.end('two');
    expect(await text(process.stdout)).toBe('one two');
    expect(await process.wait()).toMatchObject({ exitCode: 0, stdout: 'one two' });
  });

  test('waits for the end also when nobody reads', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('head -c 5000000 /dev/zero');
    expect(await process.wait()).toMatchObject({ exitCode: 0, stdoutBytes: 5_000_000 });
  });

  test('a reader that stops holds up nothing else', async ({ shared: sandbox }) => {
    await using stuck = await sandbox.spawn('yes');
    await new Promise((resolve) => stuck.stdout.once('readable', resolve));
    expect((await sandbox.exec('head -c 3000000 /dev/zero | wc -c')).stdout.trim()).toBe('3000000');
  });

  test('all output comes, however many commands have ended before it was read', async ({ shared: sandbox }) => {
    const unread = await sandbox.spawn('head -c 1000000 /dev/zero');
    // The command has ended, its output has not: what it left in the background prints on.
    const printing = sandbox.exec('(while sleep 0.01; do echo on; done) & echo first');
    await sandbox.exec(`while kill -0 ${unread.pid}; do sleep 0.01; done`);
    await Promise.all(Array.from({ length: 100 }, () => sandbox.exec('true')));
    expect(Buffer.concat(await unread.stdout.toArray())).toHaveLength(1_000_000);
    const { stdout, stdoutBytes } = await printing;
    expect(stdout).toHaveLength(stdoutBytes);
  });

  test('a write after the end is an error of ours', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('exit 0');
    await process.wait();
    const error = await new Promise((resolve) => process.stdin.write('late', resolve));
    expect(error).toBeInstanceOf(ProcessEndedError);
  });

  test('orphans that ended are reaped', async ({ shared: sandbox }) => {
    await sandbox.exec('for i in 1 2 3; do (sh -c "exit 0" & exec sleep 0.1) & done');
    const zombies = async () => (await sandbox.exec('cat /proc/[0-9]*/stat | grep -c ") Z "')).stdout.trim();
    await expect.poll(zombies, { timeout: 10_000 }).toBe('0');
  });

  test('kill ends the whole tree', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('sleep 1000 & setsid sleep 1000 & sleep 1000');
    await process.kill('SIGKILL');
    expect(await process.wait()).toMatchObject({ signal: 'SIGKILL', timedOut: false });
    expect(await sleeping(sandbox)).toEqual([]);
  });

  test.for([
    ['what is deaf to SIGTERM', undefined, undefined],
    ['the same, asked for by name', 'SIGTERM', undefined],
    ['what is deaf to another signal, when a grace period is given', 'SIGINT', { graceMs: 100 }],
  ] as const)('kill ends %s', async ([, signal, options], { shared: sandbox }) => {
    const process = await sandbox.spawn(
      'trap "" TERM INT; echo up; (trap "" TERM INT; sleep 1000) & kill -STOP $!; wait',
    );
    await once(process.stdout, 'data');
    await process.kill(signal, options);
    expect(await process.wait()).toMatchObject({ exitCode: null, signal: 'SIGKILL' });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('kill with a signal that does not end it leaves it running', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('trap "echo usr1" USR1; echo up; while :; do sleep 0.05; done');
    await once(process.stdout, 'data');
    await process.kill('SIGUSR1');
    const [said] = await once(process.stdout, 'data');
    expect(String(said)).toBe('usr1\n');
    await expect(process.kill('SIGTERM', { graceMs: -1 })).rejects.toBeInstanceOf(InvalidOptionsError);
    await process.kill('SIGKILL');
  });

  test.for(['onStdout', 'onStderr'] as const)(
    'wait() of spawn rejects with what %s throws, and the command is dead',
    async (name, { shared: sandbox }) => {
      const boom = new Error('boom');
      const process = await sandbox.spawn('echo x; echo y >&2; exec sleep 1000', {
        [name]: () => {
          throw boom;
        },
      });
      await expect(process.wait()).rejects.toBe(boom);
      expect(await sandbox.processes()).toEqual([]);
    },
  );

  test('kill says of a signal that is none, and a real-time signal has its number', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('sleep 1004');
    await expect(process.kill('SIGNONE')).rejects.toBeInstanceOf(SandboxRequestError);
    await process.kill('SIG35');
    expect(await process.wait()).toMatchObject({ exitCode: null, signal: 'SIG35' });
  });

  test('attach follows what runs, from any byte', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('echo first; read line; echo $line');
    await new Promise((resolve) => process.stdout.once('data', resolve));
    const again = await sandbox.attach(process.id, { stdout: 3 });
    process.stdin.end('second\n');
    expect((await again.wait()).stdout).toBe('st\nsecond\n');
  });
});

describe('session', () => {
  test('has an environment and a directory of its own, and the same files', async ({ shared: sandbox }) => {
    await sandbox.fs.writeFile('dir/file', 'content');
    await using session = await sandbox.session({ cwd: 'dir', env: { NAME: 'value' } });
    expect((await session.exec('echo $NAME; pwd; cat file')).stdout).toBe('value\n/workspace/dir\ncontent');
    expect(await session.fs.readFile('file')).toBe('content');
    expect((await sandbox.exec('echo "[$NAME]"')).stdout).toBe('[]\n');
  });

  test('its close ends what it started, and only that', async ({ shared: sandbox }) => {
    const session = await sandbox.session('mine');
    await session.exec('setsid sleep 1001 >/dev/null 2>&1 & sleep 1002 >/dev/null 2>&1 &');
    // An orphan without the environment, in a session of its own.
    await session.exec('(env -i setsid sleep 1005 >/dev/null 2>&1 &)');
    await session.exec('sleep 1003 >/dev/null 2>&1 &', { detached: true });
    await sandbox.exec('sleep 1004 >/dev/null 2>&1 &');
    await session.close();
    expect(await sleeping(sandbox)).toEqual(['sleep 1003', 'sleep 1004']);
  });
});
