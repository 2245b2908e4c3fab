import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import { OutputGoneError } from '../../src/sandbox/errors.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { type Cli, test as cliTest } from '../cli/command.ts';
import { OuterTerminal } from '../support/outer-terminal.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';
import { Shown } from '../support/shown.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const size = { cols: 90, rows: 20 };

/** Debian's vim-tiny, which the base image does not have, with the libraries that it needs. */
async function unpackVim(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-vim-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await execa('apt-get', ['download', 'vim-tiny', 'libacl1', 'libselinux1', 'libpcre2-8-0'], { cwd: folder });
  for (const name of await readdir(folder)) await execa('dpkg-deb', ['-x', name, 'vim'], { cwd: folder });
  return join(folder, 'vim');
}

/** `berth sandbox shell` on a terminal of script(1), and what a person sees on that. */
function onTerminal({ stateDir }: Cli, args: string) {
  const shell = `stty cols ${size.cols} rows ${size.rows}; echo "on=$(tty)="; '${process.execPath}' dist/cli/main.js sandbox shell ${args}; echo code=$?=`;
  const running = execa('script', ['-qefc', shell, '/dev/null'], {
    cwd: root,
    env: { BERTH_STATE_DIR: stateDir, SHELL: '/bin/sh' },
    reject: false,
    buffer: false,
    encoding: 'buffer',
  });
  onTestFinished(() => void running.kill('SIGKILL'));
  const outer = new OuterTerminal(size.cols, size.rows);
  let wake = () => {};
  running.stdout.on('data', async (chunk: Buffer) => {
    await outer.write(chunk);
    wake();
  });
  const shown = new Shown(running.stdout);
  const until = async (isShown: (screen: string[]) => boolean) => {
    while (!isShown(outer.lines.slice(-outer.terminal.rows).map((line) => line.trimEnd()))) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { shown, outer, until, type: (text: string) => running.stdin.write(text) };
}

cliTest('vim and top work through berth sandbox shell, and are there again for who comes back', async ({ berth }) => {
  const vim = await unpackVim();
  await berth.run(['sandbox', 'create', '--id', 'long-vim']);
  const copied = await berth.run(['sandbox', 'cp', vim, 'long-vim:/tmp']);
  expect(copied).toMatchObject({ exitCode: 0 });
  const libraries = '/tmp/vim/lib/x86_64-linux-gnu:/tmp/vim/usr/lib/x86_64-linux-gnu';
  const command = `long-vim --env LD_LIBRARY_PATH=${libraries} -- /tmp/vim/usr/bin/vim.tiny -u NONE --cmd 'set ruler' note`;
  const first = onTerminal(berth, command);
  const path = await first.shown.between('on=', '=');
  await first.until((screen) => screen.some((line) => line.includes('"note"')));
  first.type('ihello from vim\x1b');
  await first.until((screen) => screen[0] === 'hello from vim' && screen[1] === '~');
  // A window that is made larger is filled.
  first.outer.terminal.resize(100, 30);
  await execa('stty', ['-F', path, 'cols', '100', 'rows', '30']);
  await first.until((screen) => screen[25] === '~');
  first.type('\x1d\x1d\x1d');
  await first.shown.until('code=0=');
  expect(first.outer.terminal.buffer.active.type).toBe('normal');

  const second = onTerminal(berth, 'long-vim --attach');
  // The keys that left went to vim, too, which may have looked for a tag and asks for Enter now.
  await second.until((screen) => screen.some((line) => /^(hello from vim|Press ENTER)/.test(line)));
  second.type('\r');
  await second.until((screen) => screen[0] === 'hello from vim' && screen[1] === '~');
  expect(second.outer.terminal.buffer.active.type).toBe('alternate');
  second.type(':wq\r');
  await second.shown.until('code=0=');
  const { stdout } = await berth.run(['sandbox', 'exec', 'long-vim', '--', 'cat', 'note']);
  expect(stdout).toBe('hello from vim');

  const top = onTerminal(berth, 'long-vim -- top');
  await top.until((screen) => screen.some((line) => /PID USER .* COMMAND/.test(line)));
  top.type('q');
  await top.shown.until('code=0=');
  await berth.run(['sandbox', 'rm', 'long-vim']);
});

async function look(sandbox: Sandbox, id: string): Promise<string[]> {
  const pty = await sandbox.attachPty(id);
  const outer = new OuterTerminal(pty.size.cols, pty.size.rows);
  for await (const chunk of pty.output) await outer.write(chunk);
  return outer.lines;
}

test('a terminal with more output than is kept shows its screen, and says so of the bytes before', async ({
  sandbox,
}) => {
  const pty = await sandbox.pty({ ...size, command: 'yes "$(printf %088d 0)" | head -n 900000; echo the end' });
  expect(await pty.wait()).toMatchObject({ exitCode: 0 });
  expect((await look(sandbox, pty.id)).filter(Boolean).slice(-2)).toEqual(['0'.repeat(88), 'the end']);
  const fromStart = await sandbox.attachPty(pty.id, { from: 0 });
  const read = async () => {
    for await (const _ of fromStart.output);
  };
  await expect(read()).rejects.toBeInstanceOf(OutputGoneError);
});

test('output that is made to take all memory ends the screens and nothing else', async ({ sandbox }) => {
  await using other = await sandbox.pty({ ...size, command: 'cat' });
  const typed = new Shown(other.output);
  const links = `import sys
for i in range(500_000): sys.stdout.write('\\x1b]8;id=%d;http://%d\\x1b\\\\x\\x1b[H' % (i, i))
print('\\r\\nthe end')`;
  const pty = await sandbox.pty({ ...size, command: ['python3', '-c', links] });
  expect(await pty.wait()).toMatchObject({ exitCode: 0 });
  const late = await sandbox.attachPty(pty.id);
  expect(late.screenBytes).toBe(0);
  await new Shown(late.output).until('the end');
  await other.write('still here\r');
  await typed.until('still here\r\nstill here');
  // The next one has a screen again.
  const next = await sandbox.pty({ ...size, command: 'echo next' });
  await next.wait();
  expect((await look(sandbox, next.id))[0]).toBe('next');
});

test('over the exec stream a view begins with the screen, too', async () => {
  await using opened = await openHost('exec');
  const sandbox = await opened.host.create();
  const pty = await sandbox.pty({ ...size, command: ['bash', '--norc'], env: { PS1: '> ' } });
  await new Shown(pty.output).until('> ');
  const view = await sandbox.attachPty(pty.id, { size: { cols: 70, rows: 10 } });
  const shown = new Shown(view.output);
  await shown.until('> ');
  await view.write('stty size; exit 4\r');
  await shown.until('10 70');
  expect(await view.wait()).toMatchObject({ exitCode: 4 });
});
