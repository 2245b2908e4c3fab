import { createHash, randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { describe, expect } from 'vitest';
import { InvalidOptionsError, ProcessEndedError, SandboxRequestError } from '../../../src/sandbox/errors.ts';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import type { PtyOptions } from '../../../src/sandbox/options.ts';
import type { Sandbox } from '../../../src/sandbox/sandbox.ts';
import { openDocker } from '../../cli/command.ts';
import { openHost, test } from '../../support/sandbox-fixture.ts';
import { Shown } from '../../support/shown.ts';

const size = { cols: 80, rows: 24 };
const ctrlC = '\x03';
const ctrlD = '\x04';
const ctrlZ = '\x1a';
/** Prompts that are the same everywhere. */
const bash = { ...size, command: ['bash', '--norc', '--noprofile'], env: { PS1: '> ' } };

/** What a command prints on a terminal, and how it ends. */
async function show(sandbox: Sandbox, options: Partial<PtyOptions>) {
  await using pty = await sandbox.pty({ ...size, ...options });
  const shown = await buffer(pty.output);
  return { shown: shown.toString(), exit: await pty.wait() };
}

describe('a terminal', () => {
  test('is one for its program, of the asked size, and belongs to its user', async ({ sandbox }) => {
    const command = 'tty; stty size; echo $TERM; stat -c "%U %a" $(tty); ps -o tty= $$; id -u';
    expect((await show(sandbox, { command, cols: 132, rows: 43 })).shown).toBe(
      ['/dev/pts/0', '43 132', 'xterm-256color', 'berth 620', 'pts/0', '1000', ''].join('\r\n'),
    );
    expect((await show(sandbox, { command, user: 'root', env: { TERM: 'vt100' }, cwd: '/' })).shown).toBe(
      ['/dev/pts/0', '24 80', 'vt100', 'root 620', 'pts/0', '0', ''].join('\r\n'),
    );
  });

  test('runs the shell of its user unless it is told otherwise', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty(size);
    const screen = new Shown(pty.output);
    await pty.write('echo "$0 $-" | tr a-z A-Z\r');
    await screen.until('/BIN/BASH HIMBHS');
    // Before its next prompt the shell would not get it: the terminal takes it for the end of a line.
    await screen.until('$ ');
    await pty.write(ctrlD);
    expect(await pty.wait()).toMatchObject({ exitCode: 0, signal: null, oomKilled: false });
  });

  test('tells the code or the signal that ended its program, and what can not be started', async ({
    shared: sandbox,
  }) => {
    expect((await show(sandbox, { command: 'echo out; echo error >&2; exit 7' })).exit).toEqual({
      exitCode: 7,
      signal: null,
      timedOut: false,
      oomKilled: false,
      outputBytes: 'out\r\nerror\r\n'.length,
      durationMs: expect.any(Number),
    });
    expect((await show(sandbox, { command: 'kill -TERM $$' })).exit).toMatchObject({
      exitCode: null,
      signal: 'SIGTERM',
    });
    expect(await show(sandbox, { command: ['no-such-program'] })).toMatchObject({
      shown: 'no-such-program: not found\r\n',
      exit: { exitCode: 127 },
    });
    expect((await show(sandbox, { command: ['/etc/hostname'] })).exit).toMatchObject({ exitCode: 126 });
    await expect(sandbox.pty({ ...size, cwd: '/nowhere' })).rejects.toBeInstanceOf(SandboxRequestError);
  });

  test('gives every byte, to the last one', async ({ shared: sandbox }) => {
    const command = 'stty raw; head -c 3000000 /dev/urandom > bytes; cat bytes';
    await using pty = await sandbox.pty({ ...size, command });
    const shown = await buffer(pty.output);
    expect(shown.equals(await sandbox.fs.readFileBuffer('bytes'))).toBe(true);
    expect(await pty.wait()).toMatchObject({ exitCode: 0, outputBytes: 3_000_000 });
  });

  test('tells its programs of another size', async ({ shared: sandbox }) => {
    const command = 'trap "stty size" WINCH; echo ready; sleep 1000 & while :; do wait; done';
    await using pty = await sandbox.pty({ ...size, command });
    const screen = new Shown(pty.output);
    await screen.until('ready');
    await pty.resize({ cols: 100, rows: 30 });
    await screen.until('30 100');
    await pty.resize({ cols: 65_535, rows: 1 });
    await screen.until('1 65535');
    await pty.kill('SIGKILL');
    expect(await pty.wait()).toMatchObject({ signal: 'SIGKILL' });
    await pty.resize(size);
    await pty.kill();
  });

  test('passes Ctrl-C to what is in the foreground, and Ctrl-D is an end of input', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty(bash);
    const screen = new Shown(pty.output);
    await pty.write('sh -c "echo u\'\'p; exec sleep 1000"\r');
    await screen.until('up');
    await pty.write(ctrlC);
    await screen.until('^C');
    await pty.write('echo code=$?; tr a-z A-Z\r');
    await screen.until('code=130');
    await pty.write('line\r');
    await screen.until('LINE');
    await pty.write(`${ctrlD}exit 3\r`);
    expect(await pty.wait()).toMatchObject({ exitCode: 3 });
  });

  test('has job control: Ctrl-Z stops, bg and fg go on', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty(bash);
    const screen = new Shown(pty.output);
    await pty.write('sh -c "echo u\'\'p; read line; echo got=\\$line"\r');
    await screen.until('up');
    await pty.write(ctrlZ);
    await screen.until('Stopped');
    await pty.write('jobs; fg\r');
    await screen.until('Stopped');
    await pty.write('this\r');
    await screen.until('got=this');
    await pty.write('sleep 1000 &\rkill %1; wait; exit\r');
    expect(await pty.wait()).toMatchObject({ exitCode: 0 });
  });

  test('works with programs that draw on all of it', async ({ shared: sandbox }) => {
    await using top = await sandbox.pty({ ...size, command: ['top', '-d', '1000'] });
    await new Shown(top.output).until('COMMAND');
    await top.write('q');
    expect(await top.wait()).toMatchObject({ exitCode: 0 });

    await sandbox.fs.writeFile('long', Array.from({ length: 500 }, (_, line) => `line ${line}.`).join('\n'));
    await using less = await sandbox.pty({ ...size, command: ['less', 'long'] });
    const screen = new Shown(less.output);
    await screen.until('line 22.');
    await less.write('G');
    await screen.until('line 499.');
    await less.write('q');
    expect(await less.wait()).toMatchObject({ exitCode: 0 });
  });

  test('erases a character of several bytes as a whole', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty({ ...size, command: 'echo ready; read line; echo "$line" | od -An -c' });
    const screen = new Shown(pty.output);
    await screen.until('ready');
    await pty.write('aü\x7fb\r');
    await screen.until('a   b');
  });
});

describe('what is typed', () => {
  test('arrives to the last byte, however slowly it is read', async ({ shared: sandbox }) => {
    const command = 'stty raw -echo; echo ready; sleep 0.3; head -c 3000000 | sha256sum';
    await using pty = await sandbox.pty({ ...size, command });
    const screen = new Shown(pty.output);
    await screen.until('ready');
    const typed = randomBytes(3_000_000);
    await pty.write(typed);
    await screen.until(createHash('sha256').update(typed).digest('hex'));
  });

  test('waits for a program that does not read, and holds up nothing else', async ({ shared: sandbox }) => {
    await using deaf = await sandbox.pty({ ...size, command: 'stty raw -echo; echo ready; sleep 1000' });
    await new Shown(deaf.output).until('ready');
    let isTaken = false;
    const typing = deaf.write(Buffer.alloc(4_000_000)).then(() => {
      isTaken = true;
    });
    expect((await show(sandbox, { command: 'echo on' })).shown).toBe('on\r\n');
    expect(isTaken).toBe(false);
    await deaf.kill();
    await expect(typing).rejects.toBeInstanceOf(ProcessEndedError);
  });

  test('after the end is an error of ours', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty({ ...size, command: 'exit 0' });
    await pty.wait();
    await expect(pty.write('late')).rejects.toBeInstanceOf(ProcessEndedError);
    await expect(pty.write('later')).rejects.toBeInstanceOf(ProcessEndedError);
  });
});

describe('several views of a terminal', () => {
  test('show the same bytes, whenever they began, and type on the same terminal', async ({ shared: sandbox }) => {
    await using first = await sandbox.pty(bash);
    const one = new Shown(first.output);
    await first.write('echo from the $((1))st\r');
    await one.until('from the 1st');
    const second = await sandbox.attachPty(first.id, { from: 0 });
    expect(second.pid).toBe(first.pid);
    const two = new Shown(second.output);
    await two.until('from the 1st');
    await second.write('echo from the $((2))nd; stty size\r');
    await Promise.all([one, two].map((screen) => screen.until('from the 2nd')));
    await second.resize({ cols: 99, rows: 9 });
    await first.write('stty size\r');
    await Promise.all([one, two].map((screen) => screen.until('9 99')));
    await second.write('exit 4\r');
    expect(await Promise.all([first.wait(), second.wait()])).toMatchObject([{ exitCode: 4 }, { exitCode: 4 }]);
    expect(two.bytes).toEqual(one.bytes);

    const afterwards = await sandbox.attachPty(first.id, { from: 5 });
    expect(await buffer(afterwards.output)).toEqual(one.bytes.subarray(5));
    expect(await afterwards.wait()).toMatchObject({ exitCode: 4, outputBytes: one.bytes.length });
  });

  test('are one terminal for the same key, which can be told from other processes', async ({ shared: sandbox }) => {
    const opened = { ...bash, key: 'work', umask: 0o027 };
    await using one = await sandbox.pty(opened);
    const [two] = await Promise.all([sandbox.pty(opened), new Shown(one.output).until('> ')]);
    expect(two.id).toBe(one.id);
    await using other = await sandbox.spawn(['sleep', '1000'], { key: 'work' });
    expect(await sandbox.processes()).toMatchObject([
      { id: one.id, terminal: true },
      { id: other.id, terminal: false },
    ]);
    await expect(sandbox.attachPty(other.id)).rejects.toMatchObject({ meta: { reason: 'not_a_terminal' } });
    await two.write('umask\r');
    await new Shown(two.output).until('0027');
  });

  test('end each by itself; the terminal ends with the one that opened it', async ({ shared: sandbox }) => {
    const first = await sandbox.pty(bash);
    const screen = new Shown(first.output);
    await using left = await sandbox.attachPty(first.id);
    {
      await using other = await sandbox.attachPty(first.id);
      await new Shown(other.output).until('> ');
    }
    await first.write('echo still $((1))\r');
    await screen.until('still 1');
    await first[Symbol.asyncDispose]();
    expect(await left.wait()).toMatchObject({ signal: 'SIGKILL' });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('go on without one that stopped reading', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty({ ...size, command: 'head -c 40000000 /dev/zero' });
    const shown = buffer((await sandbox.attachPty(pty.id, { from: 0 })).output);
    await new Promise((resolve) => pty.output.once('readable', resolve));
    expect((await shown).length).toBe(40_000_000);
  });

  test('come back after a lost connection, from the byte where they were', async () => {
    await using opened = await openHost();
    const sandbox = await opened.host.create();
    const before = await sandbox.pty(bash);
    const screen = new Shown(before.output);
    await before.write('echo before $((1))\r');
    await screen.until('before 1');
    await opened.host.close();
    await expect(before.wait()).rejects.toMatchObject({ code: 'wire_closed' });
    await expect(before.write('x')).rejects.toMatchObject({ code: 'wire_closed' });

    const again = await SandboxHost.open({ stateDir: opened.stateDir });
    try {
      const from = screen.bytes.length;
      const after = await (await again.connect(sandbox.id)).attachPty(before.id, { from });
      const rest = new Shown(after.output);
      await after.write('echo after $((2)); exit 5\r');
      expect(await after.wait()).toMatchObject({ exitCode: 5 });
      const whole = Buffer.concat([screen.bytes, rest.bytes]).toString();
      expect(whole).toMatch(/before 1(.|\s)*after 2/);
      const kept = await (await again.connect(sandbox.id)).attachPty(before.id, { from: 0 });
      expect((await buffer(kept.output)).toString()).toBe(whole);
    } finally {
      await again.remove(sandbox.id);
      await again.close();
    }
  });
});

describe('the end of a terminal', () => {
  test('comes with its session', async ({ shared: sandbox }) => {
    const session = await sandbox.session({ env: { OF: 'session' }, cwd: '/tmp' });
    const pty = await session.pty({ ...size, command: 'echo $OF $PWD; setsid sleep 1001 & exec sleep 1001' });
    await new Shown(pty.output).until('session /tmp');
    await session.close();
    expect(await pty.wait()).toMatchObject({ signal: 'SIGKILL' });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('is a hang-up at first, of all that runs on it', async ({ shared: sandbox }) => {
    // Ready when the child is there, too: the shell waits for it before it runs the trap.
    const command = `trap "echo hung up; exit 6" HUP; sh -c 'echo ready; exec sleep 1000'; :`;
    const pty = await sandbox.pty({ ...size, command });
    const screen = new Shown(pty.output);
    await screen.until('ready');
    await pty.kill();
    expect(await pty.wait()).toMatchObject({ exitCode: 6 });
    await screen.until('hung up');
  });

  test('does not wait for what was left running on it', async ({ shared: sandbox }) => {
    const command = 'trap "" HUP; (while echo on; do sleep 0.01; done; exec sleep 1002) & exit 8';
    const durations: number[] = [];
    for (let time = 0; time < 3; time++) {
      const pty = await sandbox.pty({ ...size, command }); // disposing it would kill what it left
      const exit = await pty.wait();
      expect(exit).toMatchObject({ exitCode: 8 });
      durations.push(exit.durationMs);
    }
    // On a busy machine any one of them may take long.
    expect(Math.min(...durations)).toBeLessThan(1_500);
    // Its terminal is gone: writing fails, and it goes on to the next.
    const goesOn = 'until pgrep -fx "sleep 1002"; do sleep 0.05; done';
    expect(await sandbox.exec(goesOn, { timeout: 20_000 })).toMatchObject({ exitCode: 0 });
  });

  test('comes with its time, and says so', async ({ shared: sandbox }) => {
    await using pty = await sandbox.pty({ ...size, command: 'setsid sleep 1000 & sleep 1000', timeout: 100 });
    expect(await pty.wait()).toMatchObject({ exitCode: null, signal: 'SIGKILL', timedOut: true });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('comes at once when the sandbox stops: a shell ignores SIGTERM, and ends when it is hung up', async ({
    sandbox,
  }) => {
    const command = 'trap : TERM HUP; bash --norc --noprofile -i; touch hung-up';
    await using pty = await sandbox.pty({ ...bash, command });
    await new Shown(pty.output).until('> ');
    await sandbox.stop();
    await sandbox.start();
    expect(await sandbox.fs.exists('hung-up')).toBe(true);
  });

  test('comes to a program that did not notice that it was hung up: it is told again', async ({ sandbox }) => {
    const command =
      'trap : TERM; n=0; trap "n=\\$((n + 1)); [ \\$n = 1 ] || { touch hung-up; exit; }" HUP; echo "> "; while :; do sleep 0.05; done';
    await using pty = await sandbox.pty({ ...bash, command });
    await new Shown(pty.output).until('> ');
    await sandbox.stop();
    await sandbox.start();
    expect(await sandbox.fs.exists('hung-up')).toBe(true);
  });

  test('comes on abort', async ({ shared: sandbox }) => {
    const abort = new AbortController();
    const pty = await sandbox.pty({ ...size, command: 'sleep 1000', signal: abort.signal });
    abort.abort('enough');
    await expect(pty.wait()).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    await expect(sandbox.pty({ ...size, signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('leaves nothing open in the sandbox-agent', async ({ sandbox }) => {
    await show(sandbox, { command: 'true' });
    const before = await agentDescriptors(sandbox);
    for (let round = 0; round < 10; round++) {
      const opened = await Promise.all(Array.from({ length: 10 }, () => sandbox.pty({ ...size, command: 'cat' })));
      expect((await sandbox.fs.readdir('/dev/pts')).length).toBe(11);
      await Promise.all(opened.map((pty) => pty[Symbol.asyncDispose]()));
    }
    expect(await sandbox.fs.readdir('/dev/pts')).toEqual(['ptmx']);
    expect((await sandbox.exec('ps -o tty= -p 1')).stdout.trim()).toBe('?');
    expect(await agentDescriptors(sandbox)).toEqual(before);
  });
});

test.for<[string, unknown]>([
  ['no columns', { rows: 24 }],
  ['0 columns', { cols: 0, rows: 24 }],
  ['more rows than the kernel has room for', { cols: 80, rows: 65_536 }],
  ['half a row', { cols: 80, rows: 1.5 }],
  ['a size that is no number', { cols: '80', rows: Number.NaN }],
  ['an empty command', { ...size, command: [] }],
  ['a command with a NUL', { ...size, command: ['a\0b'] }],
  ['a variable without a name', { ...size, env: { '': 'x' } }],
  ['an option that is none', { ...size, maxOutput: 5 }],
  ['no time at all', { ...size, timeout: 0 }],
  ['an empty key', { ...size, key: '' }],
  ['nothing', undefined],
])('%s is refused before anything is started', async ([, options], { shared: sandbox }) => {
  await expect(sandbox.pty(options as never)).rejects.toBeInstanceOf(InvalidOptionsError);
  expect(await sandbox.processes()).toEqual([]);
});

test('what is no terminal can not be used as one', async ({ shared: sandbox }) => {
  await using pty = await sandbox.pty(bash);
  await expect(pty.resize({ cols: 0, rows: 5 })).rejects.toBeInstanceOf(InvalidOptionsError);
  await expect(pty.kill('HUP' as never)).rejects.toBeInstanceOf(InvalidOptionsError);
  await using process = await sandbox.spawn('cat');
  await expect(sandbox.attachPty(process.id)).rejects.toMatchObject({ meta: { reason: 'not_a_terminal' } });
  await expect(sandbox.attachPty('p_0')).rejects.toMatchObject({ meta: { reason: 'unknown_process' } });
  await expect(sandbox.attachPty('../p')).rejects.toBeInstanceOf(InvalidOptionsError);
  await expect(sandbox.attachPty(pty.id, { from: -1 })).rejects.toBeInstanceOf(InvalidOptionsError);
  expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
});

test('a sandbox in which no terminal can be made says so, and goes on', async ({ sandbox }) => {
  await sandbox.exec('chmod 0 /dev/pts/ptmx; mkfifo /tmp/fifo; ln -sf /tmp/fifo /dev/ptmx', { user: 'root' });
  await expect(sandbox.pty(size)).rejects.toMatchObject({ meta: { reason: 'EACCES' } });
  await sandbox.exec('chmod 666 /dev/pts/ptmx', { user: 'root' });
  expect((await show(sandbox, { command: 'echo on' })).shown).toBe('on\r\n');
});

/** What the sandbox-agent has open, by kind. Commands can not see it, the engine can. */
async function agentDescriptors({ id }: Sandbox): Promise<string[]> {
  const exec = await (await openDocker()).getContainer(`berth-${id}`).exec({
    Cmd: ['sh', '-c', 'for fd in /proc/1/fd/*; do readlink "$fd"; done | sed "s/[0-9]*//g" | sort'],
    AttachStdout: true,
    Privileged: true,
    User: '0',
    Tty: true,
  });
  return (await buffer(await exec.start({ Tty: true }))).toString().split('\r\n');
}

test('a program that closes its terminal before it ends gives its code', async ({ shared: sandbox }) => {
  await using pty = await sandbox.pty({ cols: 80, rows: 24, command: 'exec <&- >&- 2>&-; sleep 0.2; exit 7' });
  expect(await pty.wait()).toMatchObject({ exitCode: 7, signal: null });
});
