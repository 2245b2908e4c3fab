import { EngineUnreachableError } from '../engine/socket.ts';
import { BerthError } from '../errors.ts';
import { harmlessLine } from './print/harmless.ts';

export const exitCodes = { failed: 1, usage: 2, engine: 3 } as const;

/** Says on standard error, in one line, what went wrong. @returns the exit code for it */
export function fail(error: unknown): number {
  complain(error instanceof Error ? messageOf(error) : String(error), error);
  if (error instanceof EngineUnreachableError) return exitCodes.engine;
  return error instanceof BerthError && error.status >= 400 && error.status < 500 ? exitCodes.usage : exitCodes.failed;
}

/** As `fail`, for what went wrong inside of a run or a sandbox: that is never wrong usage. */
export function failedWork(error: unknown): number {
  return fail(error) === exitCodes.engine ? exitCodes.engine : exitCodes.failed;
}

/** One line; its origin only for who looks for a bug: `BERTH_LOG=debug`. */
export function complain(text: string, cause?: unknown): void {
  process.stderr.write(`berth: ${harmlessLine(text.trim().replace(/\s*\n\s*/g, ' '))}\n`);
  if (cause instanceof Error && isDebugging()) process.stderr.write(`${stackOf(cause)}\n`);
}

function messageOf(error: Error): string {
  const text = error.message || error.name;
  if (error instanceof BerthError) return error.hint === undefined ? text : `${text} ${error.hint}`;
  return isDebugging() ? text : `${text} (BERTH_LOG=debug shows more)`;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return (error.stack ?? error.message).split('\n').map(harmlessLine).join('\n') + cause;
}

function isDebugging(): boolean {
  return process.env.BERTH_LOG === 'debug' || process.env.BERTH_LOG === 'trace';
}
