import { buffer } from 'node:stream/consumers';
import { describe, expect } from 'vitest';
import { InvalidOptionsError } from '../../../src/sandbox/errors.ts';
import { SandboxHost } from '../../../src/sandbox/host.ts';
import type { Pty } from '../../../src/sandbox/pty/pty.ts';
import { OuterTerminal } from '../../support/outer-terminal.ts';
import { openHost, test } from '../../support/sandbox-fixture.ts';
import { Shown } from '../../support/shown.ts';

const size = { cols: 80, rows: 24 };
const bash = { ...size, command: ['bash', '--norc', '--noprofile'], env: { PS1: '> ' } };

/** What a person sees who looks at it until its end. */
async function look(pty: Pty): Promise<OuterTerminal> {
  const outer = new OuterTerminal(pty.size.cols, pty.size.rows);
  for await (const chunk of pty.output) await outer.write(chunk);
  return outer;
}

describe('who comes to a terminal later', () => {
  test('sees what who was there from the start sees: screen, colours, cursor, modes and lines above', async ({
    shared: sandbox,
  }) => {
    await using first = await sandbox.pty(bash);
    const early = look(first);
    const typed = new Shown((await sandbox.attachPty(first.id, { from: 0 })).output);
    await first.write('for i in $(seq 100); do echo "line $i"; done; seq 1000 > long; stty -echo; echo r\'\'eady\r');
    await typed.until('ready');
    // The alternate screen, keys and colours of its own.
    await first.write('printf "\\033[31;44m"; less -R long\r');
    await typed.until('\x1b[7mlong');
    const inLess = await sandbox.attachPty(first.id);
    expect(inLess).toMatchObject({ size, screenBytes: expect.any(Number), from: expect.any(Number) });
    const second = look(inLess);
    await inLess.write('G');
    await typed.until('(END)');
    const third = look(await sandbox.attachPty(first.id));
    await inLess.write('q');
    await typed.until('> ');
    await inLess.write('printf "\\033[0m"; echo o\'\'ver; exit 7\r');
    const [one, two, three] = await Promise.all([early, second, third]);
    expect(one.lines).toContain('line 1');
    expect(one.lines).toContain('over');
    expect(two.state).toEqual(one.state);
    expect(three.state).toEqual(one.state);
    expect(await inLess.wait()).toMatchObject({ exitCode: 7 });
    // Also after its end.
    const after = await look(await sandbox.attachPty(first.id));
    expect(after.state).toEqual(one.state);
  });

  test('gets every byte from there on, however fast they come', async ({ shared: sandbox }) => {
    const command = 'read go; for i in $(seq 20000); do echo "$i of many"; done; stty raw; head -c 300000 /dev/urandom';
    await using first = await sandbox.pty({ ...size, command });
    const all = buffer(first.output);
    await first.write('\r');
    const views: { bytes: Buffer; screenBytes: number; from: number }[] = [];
    for (let count = 0; count < 3; count++) {
      const view = await sandbox.attachPty(first.id);
      const { screenBytes, from } = view;
      views.push({ bytes: await buffer(view.output), screenBytes, from });
    }
    const whole = await all;
    for (const { bytes, screenBytes, from } of views) {
      expect(bytes.subarray(screenBytes).equals(whole.subarray(from))).toBe(true);
    }
  });

  test('may come from another host, and with a size of its own, which is that of all', async () => {
    await using opened = await openHost();
    const sandbox = await opened.host.create();
    const before = await sandbox.pty(bash);
    const screen = new Shown(before.output);
    await before.write('echo before $((1))\r');
    await screen.until('before 1');
    await opened.host.close();

    const again = await SandboxHost.open({ stateDir: opened.stateDir });
    try {
      const found = await again.connect(sandbox.id);
      const [listed] = await found.processes();
      const after = await found.attachPty(listed?.id ?? '', { size: { cols: 100, rows: 30 } });
      expect(after.size).toEqual({ cols: 100, rows: 30 });
      const seen = look(after);
      await after.write('echo after $(stty size); exit 5\r');
      expect((await seen).lines).toEqual(expect.arrayContaining(['before 1', 'after 30 100']));
      expect(await after.wait()).toMatchObject({ exitCode: 5 });
    } finally {
      await again.remove(sandbox.id);
      await again.close();
    }
  });

  test('to a program that could not be started reads why', async ({ shared: sandbox }) => {
    const pty = await sandbox.pty({ ...size, command: ['no-such-program'] });
    await pty.wait();
    expect((await look(await sandbox.attachPty(pty.id))).lines[0]).toBe('no-such-program: not found');
  });

  test.for<[string, unknown]>([
    ['half a size', { size: { cols: 80 } }],
    ['a negative byte', { from: -1 }],
    ['a size beside its name', size],
  ])('%s is refused', async ([, options], { shared: sandbox }) => {
    await expect(sandbox.attachPty('p_1', options as never)).rejects.toBeInstanceOf(InvalidOptionsError);
  });
});
