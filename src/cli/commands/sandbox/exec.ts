import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { type ExecResult, type Process, SandboxPausedError } from '../../../sandbox/index.ts';
import { failedWork } from '../../failure.ts';
import { pairs, withHost } from '../../host.ts';
import { brokenPipe, isOutputLost, printJson } from '../../output.ts';
import { HarmlessStream } from '../../print/harmless.ts';

type End = Pick<ExecResult, 'exitCode' | 'signal'> & { timedOut?: boolean };

interface Options {
  cwd?: string;
  env: string[];
  user?: string;
  timeout?: number;
  json?: boolean;
}

/**
 * Runs a command in a sandbox with the three standard streams of this process. What goes to a terminal is made
 * harmless, as a sandbox must not control it; what goes to a file or a pipe is left as it is.
 */
export async function exec(id: string, command: readonly string[], options: Options): Promise<number> {
  const { json = false, env, ...rest } = options;
  const variables = pairs('--env', env);
  return withHost(async (host) => {
    const sandbox = await host.connect(id);
    // `spawn` tells of the end of a timeout only in its result, so nothing here needs a clock.
    await using process_ = await sandbox.spawn(command, { ...rest, env: variables, backpressure: true });
    const signals = passSignals(process_);
    process.stdin.on('error', () => {}).pipe(process_.stdin);
    try {
      const copied = json ? [] : [copy(process_.stdout, process.stdout), copy(process_.stderr, process.stderr)];
      const ended = Promise.all([process_.wait(), ...copied]).then(([result]) => {
        if (json) printJson(result);
        return codeOf(result);
      });
      return await Promise.race([ended, signals.unheard]);
    } catch (error) {
      if (isOutputLost()) return brokenPipe;
      throw error;
    } finally {
      signals.stop();
      process.stdin.unpipe().destroy();
    }
  });
}

/**
 * The first one reaches the command as it would without a sandbox, a second one of a kind kills it. `unheard`: what to
 * end with when the sandbox is paused, as the command then gets none before it is resumed.
 */
function passSignals(target: Process): { unheard: Promise<number>; stop: () => void } {
  const seen = new Set<NodeJS.Signals>();
  let pass = (_: NodeJS.Signals) => {};
  const unheard = new Promise<number>((resolve) => {
    pass = (signal) => {
      target.kill(seen.has(signal) ? 'SIGKILL' : signal).catch((error: unknown) => {
        // Else the command has ended just now, or the sandbox: that is told by wait().
        if (!(error instanceof SandboxPausedError)) return;
        failedWork(error);
        resolve(128 + constants.signals[signal]);
      });
      seen.add(signal);
    };
  });
  process.on('SIGINT', pass).on('SIGTERM', pass);
  return { unheard, stop: () => process.off('SIGINT', pass).off('SIGTERM', pass) };
}

/** As fast as it is read: a reader that stops slows the command down. */
async function copy(from: Readable, to: NodeJS.WriteStream): Promise<void> {
  const harmless = to.isTTY ? new HarmlessStream() : undefined;
  for await (const chunk of from) await write(to, harmless ? harmless.push(chunk) : chunk);
  if (harmless) await write(to, harmless.end());
}

/** Waits until it is written. */
export function write(to: NodeJS.WriteStream, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    to.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}

/** What a shell gives for a command that ended so. */
export function codeOf({ exitCode, signal, timedOut = false }: End): number {
  if (timedOut) return 124;
  if (exitCode !== null) return exitCode;
  // Real-time signals have their number for a name; one that this system does not know counts as 0.
  return 128 + (constants.signals[signal as NodeJS.Signals] ?? (Number(signal?.slice(3)) || 0));
}
