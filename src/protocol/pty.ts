import * as v from 'valibot';
import { processStart } from './process.ts';
import { byteCount, id, requestId, streamId, terminalSize } from './values.ts';

/**
 * Host → sandbox-agent. Starts a process on a terminal of its own, and attaches to it from the first byte; one that was
 * started before with the same key is attached to as by `pty.attach`. It is one of the processes of the sandbox: listed,
 * killed and kept as they are, its terminal's bytes as its standard output. Answer: `process.started` with a `view`, then
 * `process.exited`.
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
 * Host → sandbox-agent. As `process.attach`: any number of hosts may watch a terminal, and type on it. Without `from` the
 * output begins with what draws the screen as it is. One that is no terminal is an error with code `not_a_terminal`.
 */
export const ptyAttach = v.strictObject({
  type: v.literal('pty.attach'),
  requestId,
  processId: id,
  /** It becomes that of the terminal first. */
  size: v.optional(terminalSize),
  input: streamId,
  output: v.strictObject({ stream: streamId, from: v.optional(byteCount) }),
});

/** Host → sandbox-agent. Answer: `ok`; also for a terminal that has ended. */
export const ptyResize = v.strictObject({
  type: v.literal('pty.resize'),
  requestId,
  processId: id,
  size: terminalSize,
});
