import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import { Shown } from '../support/shown.ts';
import { type Cli, test } from './command.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** `berth sandbox shell` on a real terminal, that of script(1), and then whether the terminal is as it was before. */
function onTerminal({ stateDir }: Cli, args: string) {
  const lines = [
    'stty cols 90 rows 20; before=$(stty -g); echo on=$(tty)=',
    `(sh -c 'echo pid=$PPID='; exec '${process.execPath}' dist/cli/main.js sandbox shell ${args}); echo code=$?=`,
    '[ "$(stty -g)" = "$before" ] && echo as it was',
  ];
  const running = execa('script', ['-qefc', lines.join('\n'), '/dev/null'], {
    cwd: root,
    env: { BERTH_STATE_DIR: stateDir, SHELL: '/bin/sh' },
    reject: false,
    buffer: false,
    encoding: 'buffer',
  });
  onTestFinished(() => void running.kill('SIGKILL'));
  const shown = new Shown(running.stdout);
  return { shown, type: (text: string) => running.stdin.write(text), running };
}

test('is a terminal of the size of this one, and ends with the code of its shell', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-shell']);
  const { shown, type, running } = onTerminal(berth, 'cli-shell --cwd /tmp --env GREETING=hello');
  const path = await shown.between('on=', '=');
  await shown.until('$ ');
  type('echo $GREETING from $PWD; stty size; tty\r');
  await shown.until('hello from /tmp');
  await shown.until('20 90');
  await shown.until('/dev/pts/0');
  type("trap 'stty size' WINCH; echo set $((1))\r");
  await shown.until('set 1');
  await execa('stty', ['-F', path, 'cols', '70', 'rows', '33']);
  await shown.until('33 70');
  type('sh -c "echo u\'\'p; exec sleep 1000"\r');
  await shown.until('up');
  type('\x03');
  await shown.until('^C');
  type('exit 7\r');
  await shown.until('code=7=');
  await shown.until('as it was');
  await running;
  await berth.run(['sandbox', 'rm', 'cli-shell']);
});

test('runs a command in place of the shell, and Ctrl-D is an end for it', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-command']);
  const { shown, type } = onTerminal(
    berth,
    `cli-command --user root -- sh -c 'id -u; tr a-z A-Z; stty raw; echo down; kill -TERM $$'`,
  );
  await shown.until('0\r\n');
  type('line\r');
  await shown.until('LINE');
  type('\x04');
  // As it is: a program that draws means straight down by it.
  await shown.until('down\n');
  await shown.until('code=143=');
  await shown.until('as it was');
  await berth.run(['sandbox', 'rm', 'cli-command']);
});

test.for<[string, (berth: Cli, pid: number) => unknown, code: number, said: string]>([
  ['a signal', (_, pid) => process.kill(pid, 'SIGTERM'), 143, ''],
  ['a terminal that is closed', (_, pid) => process.kill(pid, 'SIGHUP'), 129, ''],
  ['a sandbox that is gone', (berth) => berth.run(['sandbox', 'rm', 'cli-lost']), 1, 'Sandbox cli-lost ended'],
])('gives the terminal back as it was after %s', async ([, end, code, said], { berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-lost']);
  // A program that has drawn on all of it, takes the mouse and hides the cursor.
  const full = String.raw`printf "\033[?1049;1006h\033[?25lready"; exec sleep 1000`;
  const { shown } = onTerminal(berth, `cli-lost -- sh -c '${full}'`);
  const pid = await shown.between('pid=', '=');
  await shown.until('ready');
  await end(berth, Number(pid));
  await shown.until('\x1b[?1049l');
  await shown.until('\x1b[?1006l');
  await shown.until('\x1b[?25h');
  await shown.until(said);
  await shown.until(`code=${code}=`);
  await shown.until('as it was');
  const left = await berth.run(['sandbox', 'exec', 'cli-lost', '--', 'ps', '-e', '-o', 'args=']);
  expect(left.stdout).not.toContain('sleep 1000');
  await berth.run(['sandbox', 'rm', 'cli-lost']);
});

test('ends with its terminal, and so does what ran in the sandbox', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-closed']);
  const { shown, running } = onTerminal(berth, `cli-closed -- sh -c 'echo ready; exec sleep 1000'`);
  await shown.until('ready');
  running.kill('SIGKILL');
  const gone = 'while pgrep -x sleep; do sleep 0.05; done';
  const { exitCode } = await berth.run(['sandbox', 'exec', 'cli-closed', '--timeout', '20000', '--', 'sh', '-c', gone]);
  expect(exitCode).toBe(0);
  await berth.run(['sandbox', 'rm', 'cli-closed']);
});

test('leaves the terminal open at Ctrl-] three times, and comes back to its screen', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-left']);
  const first = onTerminal(berth, `cli-left -- sh -c 'printf "\\033[?1049h\\033[3;5Hfull screen"; read line; exit 5'`);
  await first.shown.until('full screen');
  first.type('\x1d\x1d\x1d');
  await first.shown.until('\x1b[?1049l');
  const id = await first.shown.between('shell cli-left --attach ', '\r\n');
  await first.shown.until('code=0=');
  await first.shown.until('as it was');
  for (const which of [id, '']) {
    const again = onTerminal(berth, `cli-left --attach ${which}`);
    await again.shown.until('\x1b[?1049h');
    await again.shown.until('full screen');
    again.type(which === id ? '\x1d\x1d\x1d' : 'line\r');
    await again.shown.until(`code=${which === id ? 0 : 5}=`);
    await again.shown.until('as it was');
  }
  const { shown } = onTerminal(berth, 'cli-left --attach');
  await shown.until('No terminal is open in sandbox cli-left.');
  await shown.until('code=2=');
  await berth.run(['sandbox', 'rm', 'cli-left']);
});

test('comes to a terminal without a command of its own', async ({ berth }) => {
  for (const more of [
    ['--', 'true'],
    ['--cwd', '/tmp'],
    ['--env', 'A=b'],
    ['--user', 'root'],
  ]) {
    const { exitCode, stderr } = await berth.run(['sandbox', 'shell', 'some', '--attach', 'p_1', ...more]);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 2,
      stderr: expect.stringContaining('--attach comes to a terminal'),
    });
  }
});

test('is refused without a terminal, with the command to use', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['sandbox', 'shell', 'some']);
  expect(stderr).toMatch(/^berth: sandbox shell needs a terminal .* berth sandbox exec some -- COMMAND$/);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
});
