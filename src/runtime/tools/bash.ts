import { randomUUID } from 'node:crypto';
import { constants } from 'node:os';
import * as v from 'valibot';
import type { ExecResult } from '../../sandbox/process/result.ts';
import { type CallContext, type LoopTool, textResult } from '../model/tool.ts';
import { checkedTool } from './arguments.ts';
import { keepEnd, keepStart } from './cut.ts';
import { quoted } from './shell.ts';
import type { ToolEnvironment } from './tool-environment.ts';

const DEFAULT_TIMEOUT_S = 600;
/** Characters of a stream that are shown. They are kept with the events, on this machine, and a command may print without end. */
const SHOWN_CHARACTERS = 1024 * 1024;

export function bashTool({ env, shared, key }: ToolEnvironment): LoopTool {
  return checkedTool({
    name: 'bash',
    description:
      'Runs a command in the shell and gives its output. Each call is a shell of its own: only files, and processes in ' +
      'the background, outlive it. There is no terminal and no input. Of a long output the end is given.',
    order: 'sequential',
    // Where the sandbox knows it again by its key.
    isResumable: env.session !== undefined,
    input: v.strictObject({
      command: v.pipe(v.string(), v.minLength(1), v.description('The command line')),
      timeout: v.optional(
        v.pipe(
          v.number(),
          v.gtValue(0),
          v.description(`Seconds; then it is killed, with all that it started. Default: ${DEFAULT_TIMEOUT_S}`),
        ),
      ),
    }),
    async run({ command, timeout = DEFAULT_TIMEOUT_S }, context) {
      const stdout = shownOutput(context, 'stdout');
      const stderr = shownOutput(context, 'stderr');
      const result = await env.exec(inBash(command), {
        timeoutMs: timeout * 1000,
        signal: context.signal,
        key: key(context.toolCallId),
        onStdout: stdout.chunk,
        onStderr: stderr.chunk,
      });
      stdout.end();
      stderr.end();
      const text = await resultText(result, timeout * 1000, (all) => keepOutput({ env, shared }, all));
      const { stdout: _, stderr: __, ...details } = result;
      return textResult(text, { details });
    },
  });
}

/** The command in bash where there is bash, else in sh; both without a further process in between. */
function inBash(command: string): string {
  const line = quoted(command);
  return `if command -v bash >/dev/null 2>&1; then exec bash -c ${line}; else exec /bin/sh -c ${line}; fi`;
}

/** Shows a stream's output while it comes, up to a limit. Characters that a chunk cuts wait for their other half. */
export function shownOutput(context: Pick<CallContext, 'output'>, stream: 'stdout' | 'stderr') {
  const decoder = new TextDecoder();
  let left = SHOWN_CHARACTERS;
  const show = (text: string) => {
    if (text === '') return;
    const shown = keepStart(text, left);
    context.output(stream, shown === text ? text : `${shown}\n[More output came, which is not shown here.]\n`);
    left -= text.length;
  };
  return {
    chunk: (chunk: Uint8Array) => {
      if (left >= 0) show(decoder.decode(chunk, { stream: true }));
    },
    end: () => {
      if (left >= 0) show(decoder.decode());
    },
  };
}

/**
 * What a model gets to see of a command that has ended.
 * @param keep - keeps an output that is too long in a file, and gives its path
 */
export async function resultText(
  result: ExecResult,
  timeoutMs: number | undefined,
  keep?: (text: string) => Promise<string | undefined>,
): Promise<string> {
  return (await outputText(result, keep)) + ending(result, timeoutMs);
}

async function outputText(result: ExecResult, keep?: (text: string) => Promise<string | undefined>): Promise<string> {
  const { stdout, stderr, stdoutBytes, stderrBytes, truncated } = result;
  const text = `${stdout}\n${stderr}`.trim();
  const { kept, missingBytes } = keepEnd(text);
  if (missingBytes === 0 && !truncated) return text === '' ? '(no output)' : text;
  const total = stdoutBytes + stderrBytes;
  const cut = `The beginning is missing: this is the end of ${total} bytes of output.`;
  if (!keep) return `[${cut}]\n${kept}`;
  const path = await keep(text);
  const all = truncated ? `The last ${Buffer.byteLength(text)} bytes of it are` : 'All of it is';
  const where = path === undefined ? 'It could not be kept in a file.' : `${all} in ${path}`;
  return `[${cut} ${where}]\n${kept}`;
}

/** Keeps an output in the sandbox, where the model can search it. A full disk must not take the end of it away, too. */
export async function keepOutput({ env, shared }: Pick<ToolEnvironment, 'env' | 'shared'>, text: string) {
  shared.outputDirectory ??= `/tmp/.berth-output-${randomUUID()}`;
  const path = `${shared.outputDirectory}/${randomUUID().slice(0, 8)}.txt`;
  try {
    await env.writeFile(path, text);
    return path;
  } catch {
    return undefined;
  }
}

function ending({ exitCode, signal, timedOut, oomKilled }: ExecResult, timeoutMs: number | undefined): string {
  const lines: string[] = [];
  if (timedOut) lines.push(`Killed after ${(timeoutMs ?? 0) / 1000} s, with all that it had started.`);
  else if (signal !== null) lines.push(`Ended by ${signal}.`);
  if (oomKilled) lines.push('Out of memory: the kernel killed a process.');
  const code = timedOut ? 124 : (exitCode ?? signalCode(signal));
  if (code !== 0) lines.push(`Exit code: ${code}`);
  return lines.length === 0 ? '' : `\n\n${lines.join('\n')}`;
}

/** What a shell reports for a command that a signal ended. */
function signalCode(signal: string | null): number {
  const numbers: Record<string, number | undefined> = constants.signals;
  return 128 + (numbers[signal ?? ''] ?? 0);
}
