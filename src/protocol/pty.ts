import * as v from 'valibot';
import { limits } from './limits.ts';
import { processStart } from './process.ts';
import { byteCount, id, requestId, streamId } from './values.ts';

const cells = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limits.terminal));

export const terminalSize = v.strictObject({ columns: cells, rows: cells });
export type TerminalSize = v.InferOutput<typeof terminalSize>;

/**
 * Host → sandbox-agent. Starts a process on a terminal of its own, and attaches to it from the first byte. It is one of
 * the processes of the sandbox: listed, killed and kept as they are, its terminal's bytes as its standard output. Answer:
 * `process.started`, then `process.exited`.
 */
export const ptyOpen = v.strictObject({
  type: v.literal('pty.open'),
  requestId,
  sessionId: id,
  /** Left out: the shell of the user. */
  argv: v.optional(processStart.entries.argv),
  cwd: processStart.entries.cwd,
  env: processStart.entries.env,
  user: processStart.entries.user,
  umask: processStart.entries.umask,
  timeoutMs: processStart.entries.timeoutMs,
  /** As of `process.start`; the two kinds of process do not share their keys. */
  key: processStart.entries.key,
  size: terminalSize,
  /** What is typed. Its end is no end for the program: a terminal has none but the byte 4. */
  input: streamId,
  output: streamId,
});
export type PtyOpen = v.InferOutput<typeof ptyOpen>;

/**
 * Host → sandbox-agent. As `process.attach`: any number of hosts may watch a terminal, and type on it. One that is no
 * terminal is an error with code `not_a_terminal`.
 */
export const ptyAttach = v.strictObject({
  type: v.literal('pty.attach'),
  requestId,
  processId: id,
  input: streamId,
  output: v.strictObject({ stream: streamId, from: byteCount }),
});

/** Host → sandbox-agent. Answer: `ok`; also for a terminal that has ended. */
export const ptyResize = v.strictObject({
  type: v.literal('pty.resize'),
  requestId,
  processId: id,
  size: terminalSize,
});
