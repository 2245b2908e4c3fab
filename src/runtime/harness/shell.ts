import type { ExecResult } from '../../sandbox/process/result.ts';
import { InvalidRequestError } from '../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import { checkOptions } from '../options.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import { isPlainObject } from '../schema/snapshot.ts';
import { resultText, shownOutput } from '../tools/bash.ts';
import type { ShellOptions } from './harness.ts';
import type { Operation } from './operation.ts';

/** @throws {InvalidRequestError} */
export function checkShell(command: string, options: ShellOptions): void {
  checkOptions('shell', options, { env: true, cwd: true, timeoutMs: true, signal: true, maxOutput: true });
  if (typeof command !== 'string') throw new InvalidRequestError('a command is a text');
  const { env = {}, cwd = '.', timeoutMs = 1, maxOutput = 0 } = options;
  const isRecord = typeof env === 'object' && env !== null && isPlainObject(env);
  if (!isRecord || !Object.values(env).every((value) => typeof value === 'string')) {
    throw new InvalidRequestError('env must be a record of strings');
  }
  if (typeof cwd !== 'string') throw new InvalidRequestError('cwd must be a path');
  if (typeof timeoutMs !== 'number' || !(timeoutMs > 0))
    throw new InvalidRequestError('timeoutMs must be a number over 0');
  if (!Number.isSafeInteger(maxOutput) || maxOutput < 0) throw new InvalidRequestError('maxOutput is a count of bytes');
}

/** What events and records show of a command. Of variables only the names: values may be secrets. */
export function shellArguments(command: string, { env, cwd }: ShellOptions): object {
  const shown = env && Object.fromEntries(Object.keys(env).map((name) => [name, '<redacted>']));
  return { command, ...(cwd !== undefined && { cwd }), ...(shown && { env: shown }) };
}

/** What a command is, besides its kind: what is shown of it, and how much of its output is wanted. */
export function shellAbout(command: string, options: ShellOptions): unknown[] {
  const { timeoutMs, maxOutput } = options ?? {};
  return [shellArguments(command, options ?? {}), { timeoutMs, maxOutput }];
}

/** What became of a command, without its output. */
export function shellDetails({ stdout: _, stderr: __, ...details }: ExecResult): object {
  return details;
}

/**
 * Runs a command for code, with the events of a call of `bash`.
 * @param call.keep - keeps an output that is too long for `text` in a file
 * @returns `text` is what a model gets to see
 */
export async function recordedShell(
  env: SandboxEnv,
  command: string,
  options: ShellOptions,
  { signal, emit, step }: Operation,
  call: { toolCallId: string; keep?: (text: string) => Promise<string | undefined> },
): Promise<{ result: ExecResult; text: string }> {
  const { env: variables, cwd, timeoutMs, maxOutput } = options;
  const head = { toolName: 'bash', toolCallId: call.toolCallId };
  const startedAt = performance.now();
  const ending = () => ({ ...head, durationMs: Math.round(performance.now() - startedAt) });
  const shown = {
    output: (stream: 'stdout' | 'stderr', text: string) =>
      emit({ type: 'tool_output', toolCallId: call.toolCallId, stream, text }),
  };
  const stdout = shownOutput(shown, 'stdout');
  const stderr = shownOutput(shown, 'stderr');
  emit({ type: 'tool_start', ...head, args: shellArguments(command, options) });
  try {
    const result = await env.exec(command, {
      signal,
      key: step.key,
      onStdout: stdout.chunk,
      onStderr: stderr.chunk,
      ...(variables && { env: variables }),
      ...(cwd !== undefined && { cwd }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(maxOutput !== undefined && { maxOutput }),
    });
    stdout.end();
    stderr.end();
    const text = await resultText(result, timeoutMs, call.keep);
    const shownResult = { content: [{ type: 'text', text }], details: shellDetails(result) };
    emit({ type: 'tool', ...ending(), result: shownResult, isError: false });
    return { result, text };
  } catch (error) {
    emit({ type: 'tool', ...ending(), error: recordedError(error), isError: true });
    throw error;
  }
}
