import { expect } from 'vitest';
import { OutputGoneError } from '../../src/sandbox/errors.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { OuterTerminal } from '../support/outer-terminal.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';
import { Shown } from '../support/shown.ts';

const size = { cols: 90, rows: 20 };

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
