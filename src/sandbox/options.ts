import { X509Certificate } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { Readable } from 'node:stream';
import * as v from 'valibot';
import { limits } from '../protocol/limits.ts';
import { hasEscapes } from '../protocol/names.ts';
import { port as portNumber } from '../protocol/network.ts';
import {
  absolutePath,
  argument,
  durationMs,
  type Environment,
  environment,
  fileName,
  id,
  key,
  mode,
  name,
  signal,
  terminalSize,
  timeoutMs,
  umask,
  user,
} from '../protocol/values.ts';
import { InvalidOptionsError } from './errors.ts';
import { type NetworkPolicy, networkPolicy } from './network/policy.ts';
import { tokenPattern, tokenRule } from './preview/access.ts';
import { defaultMaxOutput } from './process/newest-output.ts';

/** Options that are not what the schema says are refused before anything is done. */
export function check<Schema extends v.GenericSchema>(
  operation: string,
  schema: Schema,
  value: unknown,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new InvalidOptionsError({
    operation,
    issues: result.issues.map((issue) => ({
      path: v.getDotPath(issue) ?? '',
      message: issue.type === 'strict_object' && issue.expected === 'never' ? 'is not an option of it' : issue.message,
    })),
  });
}

/** A record of strings, as the pairs that the wire takes; Valibot's own record would drop some names. */
const env = v.pipe(
  v.custom<Record<string, string>>(
    (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    'is no record of strings',
  ),
  v.rawTransform(({ dataset: { value: record }, addIssue, NEVER }): Environment => {
    const result = v.safeParse(environment, Object.entries(record));
    if (result.success) return result.output;
    for (const { message, path } of result.issues) {
      const key = Object.keys(record)[Number(path?.[0].key)];
      // Of one variable, or of all together.
      if (key === undefined) addIssue({ message });
      else addIssue({ message, path: [{ type: 'unknown', origin: 'value', input: record, key, value: record[key] }] });
    }
    return NEVER;
  }),
);

/** Of a sandbox: the engine has text only. */
const textEnv = v.pipe(
  env,
  v.check((pairs) => !pairs.flat().some(hasEscapes), 'holds bytes that are no UTF-8'),
);

const path = fileName;
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

export const signalName = signal;
export const killOptions = v.strictObject({ graceMs: v.optional(durationMs) });
export const processId = id;

export const command = v.union([
  v.pipe(argument, v.minLength(1)),
  v.pipe(v.array(argument), v.minLength(1), v.maxLength(limits.arguments)),
]);
/** A string is run by `/bin/sh -c`; an array is started as it is, without a shell. */
export type Command = string | readonly string[];

/** Bytes to give to a command, of any length. */
export type Input = string | Uint8Array | Readable | AsyncIterable<string | Uint8Array>;

const input = v.custom<Input>(
  (value) =>
    typeof value === 'string' ||
    value instanceof Uint8Array ||
    (typeof value === 'object' && value !== null && Symbol.asyncIterator in value),
  'is no string, bytes or stream',
);

const listener = v.custom<(chunk: Uint8Array) => void>((value) => typeof value === 'function', 'is no function');
const abortSignal = v.instance(AbortSignal);

const commandOptions = {
  cwd: v.optional(path),
  env: v.optional(env, {}),
  user: v.optional(user),
  umask: v.optional(umask),
  login: v.optional(v.boolean(), false),
  stdin: v.optional(input),
  timeout: v.optional(timeoutMs),
  signal: v.optional(abortSignal),
  maxOutput: v.optional(bytes, defaultMaxOutput),
  detached: v.optional(v.boolean(), false),
  key: v.optional(key),
  backpressure: v.optional(v.boolean(), false),
  onStdout: v.optional(listener),
  onStderr: v.optional(listener),
  onOomKill: v.optional(v.custom<(count: number) => void>((value) => typeof value === 'function', 'is no function')),
};
export const execOptions = v.strictObject(commandOptions);
export type CheckedExecOptions = v.InferOutput<typeof execOptions>;

/** Options of one command. Times are milliseconds, sizes bytes. */
export interface ExecOptions {
  /** Relative paths resolve against the working directory of the session or sandbox. Default: that directory */
  cwd?: string;
  /** Added to the environment of the session or sandbox. */
  env?: Record<string, string>;
  /** `name`, `uid`, `name:group` or `uid:gid`. Default: that of the session or sandbox */
  user?: string;
  /** The permissions that files which it makes do not get, as in `0o027`. Default: `0o022` */
  umask?: number;
  /** The shell of a string reads `/etc/profile` and `~/.profile` first: it is run by `/bin/sh -l -c`. Default: false */
  login?: boolean;
  /** What the command reads; then it reads the end. Default of `exec`: the end at once */
  stdin?: Input;
  /** Then the whole process tree is killed, and the result says `timedOut`. Default: none */
  timeout?: number;
  /** Kills the whole process tree; the call then rejects with an `AbortError`. */
  signal?: AbortSignal;
  /** Bytes kept per stream for the result, the newest ones; the rest is counted. Default: 16 MiB */
  maxOutput?: number;
  /** It outlives its session. Default: false */
  detached?: boolean;
  /** The same key in the same session starts the command once, and later calls join it. */
  key?: string;
  /**
   * The command waits for this reader, however long it does not read: nothing of its output is dropped. Of several readers
   * those count that asked for it, the slowest first; one that is gone does not. Default: false, a reader that stops does
   * not stop the command
   */
  backpressure?: boolean;
  /** Called with each piece of output as it comes. */
  onStdout?: (chunk: Uint8Array) => void;
  /** As `onStdout`. */
  onStderr?: (chunk: Uint8Array) => void;
  /**
   * Called when the kernel has killed processes of the sandbox for want of memory, within 100 ms, also when the command goes on
   * without them; with how many that were since the last call. The kernel counts, and does not say whom it killed.
   */
  onOomKill?: (count: number) => void;
}

const { columns: cols, rows } = terminalSize.entries;
const size = { cols, rows };
export const ptySize = v.strictObject(size);
/** Of a terminal, in characters; 1 to 65,535. */
export interface PtySize {
  /** Characters a line. */
  cols: number;
  /** Lines. */
  rows: number;
}

export const ptyOptions = v.strictObject({
  ...size,
  command: v.optional(command),
  cwd: v.optional(path),
  env: v.optional(env, {}),
  user: v.optional(user),
  umask: v.optional(umask),
  timeout: v.optional(timeoutMs),
  key: v.optional(key),
  signal: v.optional(abortSignal),
});
/** Options of a terminal. */
export interface PtyOptions extends PtySize {
  /** What runs on it, as in `exec`. Default: the user's shell */
  command?: Command;
  /** Relative paths resolve against the working directory of the session or sandbox. Default: that directory */
  cwd?: string;
  /** Added to the environment of the session or sandbox; `TERM` is `xterm-256color` where it is in neither. */
  env?: Record<string, string>;
  /** `name`, `uid`, `name:group` or `uid:gid`. Default: that of the session or sandbox */
  user?: string;
  /** The permissions that files which are made on it do not get, as in `0o027`. Default: `0o022` */
  umask?: number;
  /** Milliseconds; then all that runs on it is killed, and `wait()` says `timedOut`. Default: none */
  timeout?: number;
  /** The same key in the same session opens the terminal once, and later calls join it. */
  key?: string;
  /** Kills all that runs on it; `wait()` then rejects with an `AbortError`. */
  signal?: AbortSignal;
}

/** Options of a session. */
export interface SessionOptions {
  /**
   * The same key in the same sandbox gives the same session, whoever asks for it and from whichever process. Commands with a key
   * that were started in it are known in it also after it was closed, or the sandbox was stopped. Default: a new session
   */
  key?: string;
  /** For people. */
  name?: string;
  /** Where its commands start. Default: that of the sandbox */
  cwd?: string;
  /** Added to the environment of the sandbox. */
  env?: Record<string, string>;
  /** Of its commands. Default: that of the sandbox */
  user?: string;
}
export const sessionOptions = v.strictObject({
  key: v.optional(key),
  name: v.optional(name),
  cwd: v.optional(path),
  env: v.optional(env, {}),
  user: v.optional(user),
});

/** On the sandbox of a run, with the run's id: it goes when no process owns it any more. */
export const runLabel = 'berth.run';
/** The same for an agent instance, with the names of agent and instance. */
export const instanceLabel = 'berth.instance';
/** One with either of these stays nevertheless. */
export const keepLabel = 'berth.keep';
/** On a fork that work of the runtime has made of its sandbox, with the key of that. */
export const forkLabel = 'berth.fork';
/** Labels of ours that a sandbox can be asked for with. */
export const workLabels: ReadonlySet<string> = new Set([runLabel, instanceLabel, keepLabel, forkLabel]);

const sandboxId = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9_.-]{0,62}$/, 'is not 1 to 63 of a-z, 0-9, _, ., -, the first a letter or digit'),
);

export const sandboxName = v.strictObject({ id: sandboxId });

const labels = v.pipe(
  v.custom<Record<string, string>>(
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.values(value).every((label) => typeof label === 'string'),
    'is no record of strings',
  ),
  v.check(
    (record) =>
      Object.keys(record).every((name) => name !== '' && (workLabels.has(name) || !name.startsWith('berth.'))),
    'names that begin with berth. are kept for Berth',
  ),
);

// The sandbox-agent has 15 MiB of its own at rest and 30 MiB at work, and 50 MiB of Node's text, which may have to share
// the limit.
const minMemory = 128 * 1024 * 1024;

const minDisk = 16 * 1024 * 1024;

/** The engine says whether it is one; this keeps out what could not even be asked for. */
const imageName = v.pipe(v.string(), v.maxLength(512), v.regex(/^[\w][\w./:@-]*$/, 'is not the name of an image'));

const runtimeName = v.pipe(v.string(), v.maxLength(128), v.regex(/^[\w][\w./-]*$/, 'is not the name of a runtime'));

/** Linux divides a CPU no finer. */
const cpus = v.pipe(v.number(), v.finite(), v.minValue(0.01));

const sandboxLimits = v.optional(
  v.strictObject({
    memory: v.optional(
      v.pipe(
        v.number(),
        v.safeInteger(),
        v.minValue(minMemory, 'is less than 128 MiB: the sandbox-agent needs up to half of that'),
      ),
    ),
    cpus: v.optional(cpus),
    pids: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(16))),
    disk: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(minDisk, 'is less than 16 MiB'))),
  }),
  {},
);

export const createOptions = v.strictObject({
  id: v.optional(sandboxId),
  image: v.optional(imageName),
  workspace: v.optional(
    v.union([
      v.strictObject({ bind: v.pipe(v.string(), v.check(isAbsolute, 'is not an absolute path')) }),
      v.strictObject({ volume: v.pipe(v.string(), v.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/)) }),
    ]),
  ),
  env: v.optional(textEnv, {}),
  user: v.optional(user),
  cwd: v.optional(absolutePath, '/workspace'),
  limits: sandboxLimits,
  runtime: v.optional(runtimeName),
  idleTimeout: v.optional(timeoutMs),
  maxLifetime: v.optional(timeoutMs),
  labels: v.optional(labels, {}),
  key: v.optional(key),
  network: v.optional(networkPolicy),
  signal: v.optional(abortSignal),
});
/** With the policy as it was given, of which `setNetwork` keeps what it can. */
export type CheckedCreateOptions = Omit<v.InferOutput<typeof createOptions>, 'network'> & {
  network: NetworkPolicy | undefined;
};

/** Whatever a pool is, it takes as much of the machine as that many sandboxes. */
const maxPool = 256;
const poolSize = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(maxPool));
const poolOptions = v.pipe(
  v.union([poolSize, v.strictObject({ size: poolSize, image: v.optional(imageName), limits: sandboxLimits })]),
  v.transform((given) => (typeof given === 'number' ? { size: given, limits: {} } : given)),
);

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem) !== undefined;
  } catch {
    return false;
  }
}

const anObject = v.custom<object>((value) => typeof value === 'object' && value !== null, 'is no object');
export const hostOptions = v.strictObject({
  docker: v.optional(anObject),
  image: v.optional(imageName),
  stateDir: v.optional(v.pipe(v.string(), v.minLength(1))),
  pool: v.optional(poolOptions, 0),
  dns: v.optional(v.pipe(v.array(v.string()), v.minLength(1))),
  ca: v.optional(
    v.pipe(v.array(v.pipe(v.string(), v.check(isCertificate, 'is no certificate in PEM'))), v.minLength(1)),
  ),
  logger: v.optional(anObject),
});

/** Sandboxes that are started before they are asked for. */
export interface PoolOptions {
  /** How many wait; 0 to 256. */
  size: number;
  /** Default: that of the host */
  image?: string;
  /** As in `create`: given away to who asks for the same ones. */
  limits?: NonNullable<CreateOptions['limits']>;
}
export interface CheckedPool {
  size: number;
  image?: string | undefined;
  limits: CheckedCreateOptions['limits'];
}

/** Options of a new sandbox. Sizes are bytes. */
export interface CreateOptions {
  /** 1 to 63 of `a-z`, `0-9`, `_`, `.`, `-`. Default: a random one */
  id?: string;
  /** Any Linux image that the engine has. Default: that of the host */
  image?: string;
  /** What is at `/workspace`: a directory of the engine's machine, or a volume. Default: a part of the sandbox */
  workspace?: { bind: string } | { volume: string };
  /** Added to the image's environment. */
  env?: Record<string, string>;
  /**
   * `name`, `uid`, `name:group` or `uid:gid`, of commands and files. Default: the image's; where the workspace is a
   * directory of this machine, the user of this process, or of the directory when this process is root's
   */
  user?: string;
  /** Where commands start; made when it is not there. Default: `/workspace` */
  cwd?: string;
  /** What it may use. One that is given and that the engine can't hold to is refused with `LimitUnsupportedError`. */
  limits?: {
    /** Bytes for all that runs in it, without swap; at least 128 MiB. Default: 2 GiB */
    memory?: number;
    /** CPUs at once, at least 0.01. Default: 2, or what the host has when that is less */
    cpus?: number;
    /** Processes and threads at once, at least 16. Default: 1024 */
    pids?: number;
    /**
     * Bytes of files that are changed or made, but for volumes; at least 16 MiB. Most engines can't hold to one, and then
     * it is refused: overlay2 needs xfs with `pquota`. Default: what there is
     */
    disk?: number;
  };
  /**
   * What runs the container, by the name that the engine has for it: `runsc` for gVisor, `kata-runtime`, `sysbox-runc`.
   * Default: the engine's own, mostly `runc`
   */
  runtime?: string;
  /**
   * Milliseconds in which no command runs, nobody follows one and no file is worked on; then the sandbox stops by itself,
   * also when no host runs. At most 24 days. Default: none
   */
  idleTimeout?: number;
  /** Milliseconds from its start on; then the sandbox stops by itself, whatever runs. At most 24 days. Default: none */
  maxLifetime?: number;
  /**
   * What programs in it may reach, through a process that has the sandbox. Default: `'none'`; where `key` gives one that is
   * there, what was set of it last
   */
  network?: NetworkPolicy;
  /** To find it by. Names that begin with `berth.` are kept, but for `berth.run`, `berth.instance` and `berth.keep`. */
  labels?: Record<string, string>;
  /**
   * The same key in a state directory gives the same sandbox, whoever asks for it and however often; one that does not
   * run is started, with its files. Until it is removed. Default: each call makes a new sandbox
   */
  key?: string;
  /** Ends the waiting or the making; nothing is left then, and the call rejects with an `AbortError`. */
  signal?: AbortSignal;
}

export const forkOptions = v.strictObject({
  keys: v.pipe(
    v.array(key),
    v.minLength(1),
    v.check((keys) => new Set(keys).size === keys.length, 'has a key twice'),
  ),
});

export const fileSize = bytes;
// The wire has the byte behind the end.
const lastByte = v.pipe(bytes, v.maxValue(Number.MAX_SAFE_INTEGER - 1));
export const readStreamOptions = v.pipe(
  v.strictObject({ start: v.optional(bytes, 0), end: v.optional(lastByte) }),
  v.check(({ start, end }) => end === undefined || start <= end, 'start is behind end'),
);
export const permissions = mode;
/** Of a file: see `FileSystem` for names that are no UTF-8. */
export const pathText = fileName;
export const writeStreamOptions = v.strictObject({ mode: v.optional(mode), append: v.optional(v.boolean(), false) });
export const watchOptions = v.strictObject({
  recursive: v.optional(v.boolean(), false),
  signal: v.optional(abortSignal),
});
export const readdirOptions = v.strictObject({
  withStats: v.optional(v.boolean(), false),
  signal: v.optional(abortSignal),
});
export const signalOptions = v.strictObject({ signal: v.optional(abortSignal) });
export const checkpointOptions = v.strictObject({
  copy: v.optional(v.boolean(), false),
  signal: v.optional(abortSignal),
});
export const uploadOptions = v.strictObject({
  gitignore: v.optional(v.boolean(), false),
  signal: v.optional(abortSignal),
});
export const uploadSource = v.union([v.pipe(v.string(), v.minLength(1)), v.instance(Readable)]);
export const downloadToOptions = v.strictObject({
  maxBytes: v.optional(v.pipe(bytes, v.minValue(1))),
  signal: v.optional(abortSignal),
});
export const fileContent = v.union([v.string(), v.instance(Uint8Array)]);
export const hostPathText = v.pipe(v.string(), v.minLength(1), v.excludes('\0'));
export const mkdirOptions = v.strictObject({ recursive: v.optional(v.boolean(), false), mode: v.optional(mode) });
export const rmOptions = v.strictObject({
  recursive: v.optional(v.boolean(), false),
  force: v.optional(v.boolean(), false),
  signal: v.optional(abortSignal),
});
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(limits.found));
const pattern = v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.path));
export const searchPattern = pattern;
export const globOptions = v.strictObject({
  path: v.optional(path),
  limit: v.optional(count, 1_000),
  signal: v.optional(abortSignal),
});
export const grepOptions = v.strictObject({
  path: v.optional(path),
  include: v.optional(pattern),
  literal: v.optional(v.boolean(), false),
  limit: v.optional(count, 1_000),
  signal: v.optional(abortSignal),
});
/** Options of `attach`. */
export interface AttachOptions {
  /** The byte from which on it is read. Default: 0, the first */
  stdout?: number;
  /** As `stdout`. */
  stderr?: number;
  /** Bytes kept per stream for the result. Default: 16 MiB */
  maxOutput?: number;
  /** As in `exec`: the process waits for this reader. Default: false */
  backpressure?: boolean;
  /** Follow also what it has left running, after its end, until none of that can write any more. Default: false */
  rest?: boolean;
}
export const attachOptions = v.strictObject({
  stdout: v.optional(bytes, 0),
  stderr: v.optional(bytes, 0),
  maxOutput: v.optional(bytes, defaultMaxOutput),
  backpressure: v.optional(v.boolean(), false),
  rest: v.optional(v.boolean(), false),
});
/** Options of a further view of a terminal. */
export interface AttachPtyOptions {
  /** Of the one who looks: it becomes that of the terminal first, for all. Default: as it is */
  size?: PtySize;
  /** Byte of the output to begin with, from 0, in place of the screen as it is. Default: the screen */
  from?: number;
}
export const attachPtyOptions = v.strictObject({ size: v.optional(ptySize), from: v.optional(bytes) });
export const listOptions = v.strictObject({ labels: v.optional(labels, {}) });
export const collectOptions = v.strictObject({ dryRun: v.optional(v.boolean(), false) });
export const exposedPort = portNumber;
export const exposeOptions = v.strictObject({
  token: v.optional(v.union([v.literal(true), v.pipe(v.string(), v.regex(tokenPattern, tokenRule))])),
});
export const statsOptions = v.strictObject({ disk: v.optional(v.boolean(), false) });
export const processesOptions = v.strictObject({ all: v.optional(v.boolean(), false) });
