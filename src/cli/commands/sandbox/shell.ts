import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import type { Pty, PtySize, Sandbox } from '../../../sandbox/index.ts';
import { DetachKey } from '../../detach-key.ts';
import { UsageError } from '../../errors.ts';
import { pairs, withHost } from '../../host.ts';
import { brokenPipe, isOutputLost } from '../../output.ts';
import { TerminalModes } from '../../terminal-modes.ts';
import { codeOf, write } from './exec.ts';

interface Options {
  cwd?: string;
  env: string[];
  user?: string;
  /** The id of a terminal that is open, or true: the only one. */
  attach?: string | true;
}

/**
 * Opens a terminal in a sandbox on that of this process, or comes to one that is open: what is typed and what is shown
 * pass through as they are. The terminal is given back as it was, however this ends.
 */
export async function shell(id: string, command: readonly string[], options: Options): Promise<number> {
  const { env, attach, ...rest } = options;
  const variables = pairs('--env', env);
  if (attach !== undefined && (command.length > 0 || env.length > 0 || Object.keys(rest).length > 0)) {
    throw new UsageError('--attach comes to a terminal that is open: it takes no command, --cwd, --env or --user.');
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new UsageError(
      `sandbox shell needs a terminal as its input and output. Without one, use: berth sandbox exec ${id} -- COMMAND`,
    );
  }
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    const given = command.length > 0 ? { command } : {};
    const pty =
      attach === undefined
        ? await sandbox.pty({ ...rest, ...given, ...currentSize(), env: variables })
        : await sandbox.attachPty(attach === true ? await onlyTerminal(sandbox) : attach, { size: currentSize() });
    // What is on the terminal now goes above, before the screen is drawn in its place.
    if (attach !== undefined) process.stdout.write('\n'.repeat(currentSize().rows));
    const modes = new TerminalModes();
    const interruption = listen();
    const key = new DetachKey();
    const takeBack = lend(pty, key);
    let isLeft = false;
    try {
      const left = key.pressed.then(() => {
        isLeft = true;
        return 0;
      });
      return await Promise.race([interruption.code, left, show(pty, modes)]);
    } catch (error) {
      if (isOutputLost()) return brokenPipe;
      throw error;
    } finally {
      // Before all that may take time or fail. Nothing more is shown then that could change the terminal again.
      pty.output.destroy();
      process.stdout.write(modes.restoring);
      takeBack();
      interruption.stop();
      // Disposing what was opened here would end it.
      if (isLeft)
        process.stderr.write(
          `\r\nThe terminal is left open. To come back: berth sandbox shell ${id} --attach ${pty.id}\n`,
        );
      else await pty[Symbol.asyncDispose]();
    }
  });
}

async function onlyTerminal(sandbox: Sandbox): Promise<string> {
  const open = (await sandbox.processes()).filter(({ terminal, state }) => terminal && state === 'running');
  const [first, second] = open;
  if (first && !second) return first.id;
  if (!first) {
    throw new UsageError(
      `No terminal is open in sandbox ${sandbox.id}. Open one with: berth sandbox shell ${sandbox.id}`,
    );
  }
  const ids = open.map(({ id, startedAt }) => `${id} (since ${startedAt.toISOString()})`).join(', ');
  throw new UsageError(`${open.length} terminals are open in sandbox ${sandbox.id}; give --attach one of them: ${ids}`);
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
function lend(pty: Pty, key: DetachKey): () => void {
  const { stdin, stdout } = process;
  const resize = () => void pty.resize(currentSize()).catch(() => {}); // its end is told by wait()
  stdin.on('error', () => {}); // a terminal that is gone; SIGHUP tells
  stdin.setRawMode(true);
  // Node's raw mode still makes CR LF of an LF, by which programs that draw mean straight down. Its end undoes this, too.
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  const watch = (typed: Uint8Array) => key.see(typed);
  stdin.on('data', watch);
  stdin.pipe(pty.input);
  stdout.on('resize', resize);
  return () => {
    stdout.off('resize', resize);
    stdin.off('data', watch);
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
