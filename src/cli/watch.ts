import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type RunOptions, readInput } from './commands/run.ts';
import { complain, exitCodes } from './failure.ts';
import { Interruption } from './interruption.ts';
import { findWorkflow } from './load-workflow.ts';
import { brokenPipe, sayProgress } from './output.ts';
import { WatchedFiles } from './watched-files.ts';

/**
 * Runs a workflow again whenever its file changes, or a file that it imports and that is no package. A run that has not
 * ended by then is cancelled first. Each run is a process: modules can't be loaded anew.
 */
export async function watch(target: string, options: RunOptions): Promise<number> {
  await readInput(options);
  const interruption = new Interruption({ onAgain: () => {} }); // the run answers
  using files = new WatchedFiles();
  files.add(await findWorkflow(target), Date.now());
  for (;;) {
    const startedAt = Date.now();
    const run = startRun(target, options, (path) => files.add(path, startedAt));
    let stopped = false;
    const ended = run.ended.then(
      (code) => {
        if (code === brokenPipe) interruption.stop(code);
        else if (!stopped) sayProgress('waits for a change of the workflow or of what it imports; Ctrl-C ends it');
      },
      (error: Error) => {
        complain(`The run can't be started: ${error.message}`, error);
        interruption.stop(exitCodes.failed);
      },
    );
    await files.change(interruption.signal);
    stopped = true;
    run.stop();
    await ended;
    if (interruption.code !== undefined) return interruption.code;
  }
}

/** `ended` has the exit code. `stop` makes the process cancel its run; its death would be heard in the same way. */
function startRun(target: string, options: RunOptions, onImport: (path: string) => void) {
  const { input, inputFile, model, json } = options;
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      process.argv[1] ?? '',
      'run',
      target,
      '--watched',
      ...(input === undefined ? [] : ['--input', input]),
      ...(inputFile === undefined ? [] : ['--input-file', inputFile]),
      ...(model === undefined ? [] : ['--model', model]),
      ...(json ? ['--json'] : []),
    ],
    { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] },
  );
  const channel = child.stdio[3] as Duplex; // what `pipe` makes
  channel.on('error', () => {}); // the process is gone, which `ended` tells
  createInterface({ input: channel }).on('line', (url) => {
    const { protocol, pathname } = new URL(url);
    if (protocol === 'file:' && !pathname.includes('/node_modules/')) onImport(fileURLToPath(`file://${pathname}`));
  });
  const ended = once(child, 'close').then(([code, signal]: (number | NodeJS.Signals | null)[]) =>
    typeof code === 'number' ? code : 128 + constants.signals[signal as NodeJS.Signals],
  );
  return { ended, stop: () => channel.end() };
}
