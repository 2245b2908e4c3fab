import * as v from 'valibot';
import { limits } from './limits.ts';
import {
  absolutePath,
  argument,
  byteCount,
  durationMs,
  environment,
  id,
  key,
  maxDateMs,
  requestId,
  signal,
  streamId,
  terminalSize,
  timeoutMs,
  uint32,
  umask,
  user,
} from './values.ts';

/** A reader that stops then stops the process. */
const backpressure = v.boolean();

const argv = v.pipe(v.array(argument), v.minLength(1), v.maxLength(limits.arguments));

/**
 * Host → sandbox-agent. Starts a process in a session and attaches to its output from the first byte. The same `key`
 * in the same session answers with the process that it started before, attached from the offsets given here.
 * Answer: `process.started`, then `process.exited`. Streams that are left out are not sent; what the process writes is
 * kept all the same. A process without `stdin` reads the end at once.
 */
export const processStart = v.strictObject({
  type: v.literal('process.start'),
  requestId,
  sessionId: id,
  key: v.optional(key),
  argv,
  cwd: v.optional(absolutePath),
  /** Added to the session's environment. */
  env: environment,
  user: v.optional(user),
  /** Left out: 022. */
  umask: v.optional(umask),
  timeoutMs: v.optional(timeoutMs),
  /** Outlives its session. */
  detached: v.boolean(),
  stdin: v.optional(streamId),
  stdout: v.optional(streamId),
  stderr: v.optional(streamId),
  backpressure,
});
export type ProcessStart = v.InferOutput<typeof processStart>;

const outputFrom = v.strictObject({ stream: streamId, from: byteCount });

/**
 * Host → sandbox-agent. Sends kept output from byte `from` on, then what follows. Answer: `process.started`, then
 * `process.exited` (at once when it has ended), or the error `process_lost`: the sandbox-agent died while it ran, so that
 * nobody knows its end. A stream whose next byte is no longer kept breaks off (`gone`). With `rest` what the process has left
 * running is followed, too, until none of that can write any more; `process.exited` comes after it.
 */
export const processAttach = v.strictObject({
  type: v.literal('process.attach'),
  requestId,
  processId: id,
  stdout: v.optional(outputFrom),
  stderr: v.optional(outputFrom),
  backpressure,
  rest: v.boolean(),
});
export type ProcessAttach = v.InferOutput<typeof processAttach>;

/**
 * Host → sandbox-agent. Sends `signal` to the whole process tree; after `graceMs` what is left gets SIGKILL.
 * Without `graceMs` nothing follows. Answer: `ok` when the signal was sent. A process that has ended is no error.
 */
export const processKill = v.strictObject({
  type: v.literal('process.kill'),
  requestId,
  processId: id,
  signal,
  graceMs: v.optional(durationMs),
});

/**
 * Host → sandbox-agent. Sends a `listedProcess` for each process whose output is kept, the oldest first. Answer: `ok`.
 */
export const processList = v.strictObject({ type: v.literal('process.list'), requestId, stream: streamId });

/**
 * Host → sandbox-agent. Answer: `memory.kills`, as soon as the kernel has killed more than `after` processes of the sandbox
 * for want of memory since its start, at the latest after `waitMs`.
 */
export const memoryWatch = v.strictObject({
  type: v.literal('memory.watch'),
  requestId,
  after: byteCount,
  waitMs: timeoutMs,
});

/** Sandbox-agent → host. How many that are. */
export const memoryKills = v.strictObject({ type: v.literal('memory.kills'), requestId, kills: byteCount });

/** Sandbox-agent → host. `pid` is that inside the sandbox; 0 when the command could not be started (code 126 or 127). */
export const processStarted = v.strictObject({
  type: v.literal('process.started'),
  requestId,
  processId: id,
  pid: uint32,
  /**
   * Of one on a terminal. The first `screenBytes` of its output draw the screen as it was then, on a terminal of `size`;
   * what the program writes follows from its byte `from` on.
   */
  view: v.optional(v.strictObject({ size: terminalSize, screenBytes: byteCount, from: byteCount })),
});
export type ProcessStarted = v.InferOutput<typeof processStarted>;

/** How a process ended: from the kernel, never a guess. Exactly one of `exitCode` and `signal` is there. */
export const processEnd = v.pipe(
  v.strictObject({
    exitCode: v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255))),
    signal: v.nullable(signal),
    /** The sandbox-agent killed it when `timeoutMs` was over. */
    timedOut: v.boolean(),
    /** The kernel's counter of processes killed for want of memory grew while it ran. */
    oomKilled: v.boolean(),
    stdoutBytes: byteCount,
    stderrBytes: byteCount,
    durationMs,
  }),
  v.check(({ exitCode, signal }) => (exitCode === null) !== (signal === null), 'not one of exitCode and signal'),
);
export type ProcessEnd = v.InferOutput<typeof processEnd>;

/** Sandbox-agent → host, once per attachment, after the last byte of its streams. */
export const processExited = v.strictObject({
  type: v.literal('process.exited'),
  /** The number of the `process.start` or `process.attach` that it ends. */
  requestId,
  end: processEnd,
});

/** Milliseconds since 1970, as far as a `Date` goes. */
const date = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(maxDateMs));

/** What a process wrote to one of its outputs, and the parts `[from, to)` of it that are no longer kept. */
const listedOutput = v.strictObject({
  bytes: byteCount,
  gaps: v.pipe(v.array(v.strictTuple([byteCount, byteCount])), v.maxLength(64)),
});

/** A record. `pids` are what still runs of its tree: the process itself, and what it started that outlived it. */
export const listedProcess = v.strictObject({
  processId: id,
  sessionId: id,
  argv: v.pipe(v.array(v.pipe(v.string(), v.maxLength(limits.listedArgument))), v.maxLength(limits.listedArguments)),
  pid: uint32,
  /** It runs on one, and can be attached to with `pty.attach`. */
  terminal: v.boolean(),
  startedAt: date,
  /** `lost`: the sandbox-agent died while it ran, so that nobody knows its end. */
  state: v.picklist(['running', 'ended', 'lost']),
  /** Of one that has ended. */
  end: v.optional(processEnd),
  pids: v.pipe(v.array(uint32), v.maxLength(1_024)),
  stdout: listedOutput,
  stderr: listedOutput,
});
export type ListedProcess = v.InferOutput<typeof listedProcess>;
