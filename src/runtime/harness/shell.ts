import type { ExecResult } from '../../sandbox/process/result.ts';
import { recordedError } from '../events/recorded-error.ts';
import type { SandboxEnv } from '../sandbox/env.ts';
import type { ShellOptions } from './harness.ts';
import type { Operation } from './open-harness.ts';

/** Runs a command for code, with the events of a call of `bash`. */
export async function recordedShell(
  env: SandboxEnv,
  command: string,
  { env: variables, cwd, timeoutMs, maxOutput }: Omit<ShellOptions, 'signal'>,
  { signal, emit }: Operation,
  toolCallId: string,
): Promise<ExecResult> {
  const startedAt = performance.now();
  // Names only: values may be secrets.
  const shown = variables && Object.fromEntries(Object.keys(variables).map((name) => [name, '<redacted>']));
  const args = { command, ...(cwd !== undefined && { cwd }), ...(shown && { env: shown }) };
  emit({ type: 'tool_start', toolName: 'bash', toolCallId, args });
  const end = (outcome: { result: unknown } | { error: unknown }) => {
    const failed = 'error' in outcome;
    emit({
      type: 'tool',
      toolName: 'bash',
      toolCallId,
      ...(failed ? { error: recordedError(outcome.error) } : { result: outcome.result }),
      durationMs: Math.round(performance.now() - startedAt),
      isError: failed,
    });
  };
  const watch = (stream: 'stdout' | 'stderr') => {
    const decoder = new TextDecoder();
    return (chunk: Uint8Array) => {
      const text = decoder.decode(chunk, { stream: true });
      if (text !== '') emit({ type: 'tool_output', toolCallId, stream, text });
    };
  };
  try {
    const result = await env.exec(command, {
      signal,
      onStdout: watch('stdout'),
      onStderr: watch('stderr'),
      ...(variables && { env: variables }),
      ...(cwd !== undefined && { cwd }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(maxOutput !== undefined && { maxOutput }),
    });
    const { stdout: _, stderr: __, ...details } = result;
    end({ result: { details } });
    return result;
  } catch (error) {
    end({ error });
    throw error;
  }
}
