import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import type { Pty, PtySize } from '../../../sandbox/index.ts';
import { UsageError } from '../../errors.ts';
import { pairs, withHost } from '../../host.ts';
import { brokenPipe, isOutputLost } from '../../output.ts';
import { TerminalModes } from '../../terminal-modes.ts';
import { codeOf, write } from './exec.ts';

interface Options {
  cwd?: string;
  env: string[];
  user?: string;
}

/**
 * Opens a terminal in a sandbox on that of this process: what is typed and what is shown pass through as they are. The
 * terminal is given back as it was, however this ends.
 */
export async function shell(id: string, command: readonly string[], options: Options): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new UsageError(
      `sandbox shell needs a terminal as its input and output. Without one, use: berth sandbox exec ${id} -- COMMAND`,
    );
  }
  const { env, ...rest } = options;
  const variables = pairs('--env', env);
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    const given = command.length > 0 ? { command } : {};
    await using pty = await sandbox.pty({ ...rest, ...given, ...currentSize(), env: variables });
    const modes = new TerminalModes();
    const interruption = listen();
    const takeBack = lend(pty);
    try {
      return await Promise.race([interruption.code, show(pty, modes)]);
    } catch (error) {
      if (isOutputLost()) return brokenPipe;
      throw error;
    } finally {
      // Before all that may take time or fail. Nothing more is shown then that could change the terminal again.
      pty.output.destroy();
      process.stdout.write(modes.restoring);
      takeBack();
      interruption.stop();
    }
  });
}

/** A terminal may not know its size, on a serial line say. */
function currentSize(): PtySize {
  const { columns, rows } = process.stdout;
  return { cols: columns || 80, rows: rows || 24 };
}

/** Signals from outside: what is typed comes as bytes, also Ctrl-C. A terminal that is closed sends SIGHUP. */
function listen(): { code: Promise<number>; stop: () => void } {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
  let onSignal = (_: NodeJS.Signals) => {};
  const code = new Promise<number>((resolve) => {
    onSignal = (signal) => resolve(128 + constants.signals[signal]);
  });
  for (const signal of signals) process.on(signal, onSignal);
  return {
    code,
    stop: () => {
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}

/** Gives this process's keyboard and window to `pty`. @returns what takes them back */
function lend(pty: Pty): () => void {
  const { stdin, stdout } = process;
  const resize = () => void pty.resize(currentSize()).catch(() => {}); // its end is told by wait()
  stdin.on('error', () => {}); // a terminal that is gone; SIGHUP tells
  stdin.setRawMode(true);
  // Node's raw mode still makes CR LF of an LF, by which programs that draw mean straight down. Its end undoes this, too.
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  stdin.pipe(pty.input);
  stdout.on('resize', resize);
  return () => {
    stdout.off('resize', resize);
    stdin.unpipe();
    if (!stdin.destroyed) stdin.setRawMode(false);
    stdin.destroy();
  };
}

async function show(pty: Pty, modes: TerminalModes): Promise<number> {
  const copy = async () => {
    for await (const chunk of pty.output) {
      modes.see(chunk);
      await write(process.stdout, chunk);
    }
  };
  const [exit] = await Promise.all([pty.wait(), copy()]);
  return codeOf(exit);
}
