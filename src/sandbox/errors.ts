import { BerthError } from '../errors.ts';

/** One thing that is wrong with options or arguments. */
export interface OptionIssue {
  /** Of the option, as in `limits.memory`; empty for the whole. */
  path: string;
  /** What is wrong with it. */
  message: string;
}

/** Options or arguments that are not what the call takes; each one named, with the reason. */
export class InvalidOptionsError extends BerthError<{ operation: string; issues: readonly OptionIssue[] }> {
  static {
    InvalidOptionsError.prototype.name = 'InvalidOptionsError';
  }
  readonly code = 'invalid_options';
  override readonly status = 400;
  constructor(meta: { operation: string; issues: readonly OptionIssue[] }) {
    const text = meta.issues.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join('; ');
    super(`${meta.operation} was called with something that it does not take: ${text}`, meta);
  }
}

/** The directory in which a host keeps who it is can't be used. */
export class StateDirError extends BerthError<{ path: string; reason: string }> {
  static {
    StateDirError.prototype.name = 'StateDirError';
  }
  readonly code = 'state_dir';
  constructor(meta: { path: string; reason: string }, options?: ErrorOptions) {
    super(
      `The state directory ${meta.path} can't be used: ${meta.reason}. Set BERTH_STATE_DIR to a directory of this user.`,
      meta,
      options,
    );
  }
}

/** There is no sandbox with this id in this state directory. */
export class SandboxNotFoundError extends BerthError<{ sandboxId: string }> {
  static {
    SandboxNotFoundError.prototype.name = 'SandboxNotFoundError';
  }
  readonly code = 'sandbox_not_found';
  override readonly status = 404;
  constructor(meta: { sandboxId: string }) {
    super(`There is no sandbox ${meta.sandboxId}. List those that are there with: berth sandbox ls`, meta);
  }
}

/** The id is taken. */
export class SandboxExistsError extends BerthError<{ sandboxId: string; ownedHere: boolean }> {
  static {
    SandboxExistsError.prototype.name = 'SandboxExistsError';
  }
  readonly code = 'sandbox_exists';
  override readonly status = 409;
  constructor(meta: { sandboxId: string; ownedHere: boolean }, options?: ErrorOptions) {
    super(
      meta.ownedHere
        ? `There is a sandbox ${meta.sandboxId} already. Use it with: host.connect('${meta.sandboxId}'), or: ` +
            `berth sandbox exec ${meta.sandboxId} -- COMMAND`
        : `The id ${meta.sandboxId} is taken by a sandbox of another state directory. Choose another id, or set ` +
            `BERTH_STATE_DIR to that directory and use it with: host.connect('${meta.sandboxId}')`,
      meta,
      options,
    );
  }
}

/** A key was used before, and its sandbox is there: `options` are those that were others then. */
export class SandboxKeyConflictError extends BerthError<{
  key: string;
  sandboxId: string;
  options: readonly string[];
}> {
  static {
    SandboxKeyConflictError.prototype.name = 'SandboxKeyConflictError';
  }
  readonly code = 'sandbox_key_conflict';
  override readonly status = 409;
  constructor(meta: { key: string; sandboxId: string; options: readonly string[] }) {
    super(
      `The key ${JSON.stringify(meta.key)} gives sandbox ${meta.sandboxId}, which was made with something else as ` +
        `${meta.options.join(', ')}. Ask for it as before, take another key, or remove it with: ` +
        `host.remove('${meta.sandboxId}'), or: berth sandbox rm ${meta.sandboxId}`,
      meta,
    );
  }
}

/** Why a sandbox does not run. */
export interface SandboxEnd {
  /**
   * `oom`: the kernel killed it for want of memory. `killed`: somebody killed it. `stopped`: it was asked to end.
   * `idle`, `expired`: its `idleTimeout` or `maxLifetime` was over. `exited`: its sandbox-agent failed. `lost`: it went with
   * its engine or its machine. `removed`: its container is gone. `restarted`, in `SandboxDiedError` only: it ended, and
   * somebody has started it again since.
   */
  reason: 'oom' | 'killed' | 'stopped' | 'idle' | 'expired' | 'exited' | 'lost' | 'removed' | 'restarted';
  /** Of the container, where the engine has one. */
  exitCode?: number;
}

/** The container ended while a call was waiting, or before it. Unless it was removed its files are kept. */
export class SandboxDiedError extends BerthError<SandboxEnd & { sandboxId: string }> {
  static {
    SandboxDiedError.prototype.name = 'SandboxDiedError';
  }
  readonly code = 'sandbox_died';
  constructor(meta: SandboxEnd & { sandboxId: string }, options?: ErrorOptions) {
    const reasons = {
      oom: 'it ran out of memory',
      killed: 'it was killed',
      stopped: 'it was stopped',
      idle: 'it was idle for the time of its idleTimeout',
      expired: 'the time of its maxLifetime was over',
      lost: 'its engine or its machine went away',
      exited: `its sandbox-agent ended with code ${meta.exitCode}`,
      removed: 'its container was removed',
      restarted: 'somebody started it again meanwhile',
    };
    const remedies: Partial<Record<SandboxEnd['reason'], string>> = {
      removed: 'Make a new one.',
      restarted: 'It runs, with its files: ask again.',
    };
    const goOn = `Go on with its files: sandbox.start(), or: berth sandbox start ${meta.sandboxId}`;
    super(`Sandbox ${meta.sandboxId} ended: ${reasons[meta.reason]}. ${remedies[meta.reason] ?? goOn}`, meta, options);
  }
}

/**
 * The sandbox is paused: nothing in it can answer. `timedOut`: the command's time was over meanwhile; it is killed when
 * the sandbox is resumed.
 */
export class SandboxPausedError extends BerthError<{ sandboxId: string; timedOut?: boolean }> {
  static {
    SandboxPausedError.prototype.name = 'SandboxPausedError';
  }
  readonly code = 'sandbox_paused';
  override readonly status = 409;
  constructor(meta: { sandboxId: string; timedOut?: boolean }) {
    super(
      `Sandbox ${meta.sandboxId} is paused. Let it go on first: sandbox.resume(), or: ` +
        `berth sandbox resume ${meta.sandboxId}`,
      meta,
    );
  }
}

/** The connection to a sandbox that still runs broke and could not be joined again, or was closed by `host.close()`. */
export class WireClosedError extends BerthError<{ sandboxId: string }> {
  static {
    WireClosedError.prototype.name = 'WireClosedError';
  }
  readonly code = 'wire_closed';
  constructor(meta: { sandboxId: string }, options?: ErrorOptions) {
    super(
      `The connection to sandbox ${meta.sandboxId} is closed. Open a new one with: host.connect('${meta.sandboxId}')`,
      meta,
      options,
    );
  }
}

/** An operation on a file failed; `code` is the POSIX name, as in `ENOENT`. */
export class FileError extends BerthError<{ path: string; operation: string }> {
  static {
    FileError.prototype.name = 'FileError';
  }
  readonly code: string;
  /** What it failed with: absolute, or as the call had it. The same as `meta.path`. */
  readonly path: string;
  /** What was done, as in `read`. The same as `meta.operation`. */
  readonly operation: string;
  constructor(meta: { code: string; path: string; operation: string; detail?: string }, options?: ErrorOptions) {
    const { code, path, operation, detail } = meta;
    super(
      `${operation} ${path}: ${code}${detail && detail !== code ? ` (${detail})` : ''}`,
      { path, operation },
      options,
    );
    this.code = code;
    this.path = path;
    this.operation = operation;
  }
}

/**
 * The files of a fork were changed at the same paths as those that they should go to, in another way. Nothing was put there.
 * `paths` are the first 20 of them, relative to the directory of the files, `count` is how many there are.
 */
export class FilesConflictError extends BerthError<{ paths: readonly string[]; count: number }> {
  static {
    FilesConflictError.prototype.name = 'FilesConflictError';
  }
  readonly code = 'files_conflict';
  override readonly status = 409;
  constructor(meta: { paths: readonly string[]; count: number }, options?: ErrorOptions) {
    const more = meta.count > meta.paths.length ? ` and ${meta.count - meta.paths.length} more` : '';
    super(
      `The changes were not put in place, as other work has changed the same files meanwhile: ${meta.paths.join(', ')}${more}. ` +
        'Do the work again, on the files as they are now.',
      meta,
      options,
    );
  }
}

/** An entry of a tar that would end up outside of the directory that it is unpacked to, or is a device. */
export class UnsafeEntryError extends BerthError<{ entry: string; reason: string }> {
  static {
    UnsafeEntryError.prototype.name = 'UnsafeEntryError';
  }
  readonly code = 'unsafe_entry';
  override readonly status = 400;
  constructor(meta: { entry: string; reason: string }) {
    super(`The archive was refused at its entry ${JSON.stringify(meta.entry)}: ${meta.reason}.`, meta);
  }
}

/** What a sandbox gave as an archive is none, breaks off, or would take too much memory to read. */
export class InvalidArchiveError extends BerthError<{ reason: string }> {
  static {
    InvalidArchiveError.prototype.name = 'InvalidArchiveError';
  }
  readonly code = 'invalid_archive';
  override readonly status = 502;
  constructor(meta: { reason: string }, options?: ErrorOptions) {
    super(`The archive was refused: ${meta.reason}.`, meta, options);
  }
}

/** What comes out of a sandbox is more than the copy may take of this machine's disk. */
export class CopyLimitError extends BerthError<{ maxBytes: number }> {
  static {
    CopyLimitError.prototype.name = 'CopyLimitError';
  }
  readonly code = 'copy_limit';
  override readonly status = 502;
  constructor(meta: { maxBytes: number }) {
    super(`The copy takes more than ${meta.maxBytes} bytes.`, meta);
  }
}

/** Input was written to a process that has ended or reads no more. */
export class ProcessEndedError extends BerthError<{ processId: string }> {
  static {
    ProcessEndedError.prototype.name = 'ProcessEndedError';
  }
  readonly code = 'process_ended';
  override readonly status = 409;
  constructor(meta: { processId: string }, options?: ErrorOptions) {
    super(
      `Process ${meta.processId} takes no input from here: it ended, closed its standard input, or was started elsewhere.`,
      meta,
      options,
    );
  }
}

/** The idempotency key of a command was used before, for another one. */
export class ProcessKeyConflictError extends BerthError<{ reason: string }> {
  static {
    ProcessKeyConflictError.prototype.name = 'ProcessKeyConflictError';
  }
  readonly code = 'process_key_conflict';
  override readonly status = 409;
  constructor(meta: { reason: string }, options?: ErrorOptions) {
    super(`The command was not started: ${meta.reason}. Use another key, or the same command again.`, meta, options);
  }
}

/** The sandbox died, or was killed, while the process ran: nobody knows how the process ended. Its output is kept. */
export class ProcessLostError extends BerthError<{ processId: string }> {
  static {
    ProcessLostError.prototype.name = 'ProcessLostError';
  }
  readonly code = 'process_lost';
  constructor(meta: { processId: string }, options?: ErrorOptions) {
    super(
      `Process ${meta.processId} ended with its sandbox, and nobody knows how. Read what it wrote with: ` +
        `sandbox.attach('${meta.processId}'); a key that it was started with stays used.`,
      meta,
      options,
    );
  }
}

/** A reader was so far behind, or came so late, that the next bytes for it are no longer kept. */
export class OutputGoneError extends BerthError<{ processId: string; output: 'stdout' | 'stderr'; from: number }> {
  static {
    OutputGoneError.prototype.name = 'OutputGoneError';
  }
  readonly code = 'output_gone';
  override readonly status = 410;
  constructor(meta: { processId: string; output: 'stdout' | 'stderr'; from: number }, options?: ErrorOptions) {
    super(
      `The ${meta.output} of process ${meta.processId} is no longer kept from byte ${meta.from} on. ` +
        'sandbox.processes() says where it goes on; backpressure: true makes a process wait for its reader.',
      meta,
      options,
    );
  }
}

/** The sandbox is at its limit of processes and threads: the command was not started. */
export class ProcessLimitError extends BerthError<{ operation: string }> {
  static {
    ProcessLimitError.prototype.name = 'ProcessLimitError';
  }
  readonly code = 'process_limit';
  override readonly status = 503;
  constructor(meta: { operation: string }, options?: ErrorOptions) {
    super(
      `The sandbox could not ${meta.operation}: it is at its limit of processes. End some, as those of ` +
        'sandbox.processes(), or make a sandbox with more limits.pids.',
      meta,
      options,
    );
  }
}

/** The sandbox could not carry out what was asked; `reason` is the code that it gave. */
export class SandboxRequestError extends BerthError<{ operation: string; reason: string; detail: string }> {
  static {
    SandboxRequestError.prototype.name = 'SandboxRequestError';
  }
  readonly code = 'sandbox_request';
  constructor(meta: { operation: string; reason: string; detail: string }, options?: ErrorOptions) {
    super(`The sandbox could not ${meta.operation}: ${meta.detail} (${meta.reason})`, meta, options);
  }
}
