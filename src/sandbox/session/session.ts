import { WireProtocolError, WireResumeError } from '../../protocol/errors.ts';
import { WireClosedError } from '../errors.ts';
import { FileSystem } from '../fs/file-system.ts';
import type { Command, ExecOptions, PtyOptions } from '../options.ts';
import { exec, type Place, type Process, spawn } from '../process/exec.ts';
import type { ExecResult } from '../process/result.ts';
import { openPty, type Pty } from '../pty/pty.ts';

function isConnectionError(error: unknown): boolean {
  return [WireClosedError, WireProtocolError, WireResumeError].some((type) => error instanceof type);
}

/** Commands with a process tree, an environment and a directory of their own, and the files of the sandbox. */
export class Session implements AsyncDisposable {
  /** In `processes()`: what was started here has it. */
  readonly id: string;
  /** For people. The id where none was given. */
  readonly name: string;
  /** Where its commands start, absolute. */
  readonly cwd: string;
  /** The files of the sandbox, with the rights of its user; relative paths start at `cwd`. */
  readonly fs: FileSystem;
  readonly #place: Place;
  readonly #onClose: () => Promise<void>;
  #closing: Promise<void> | undefined;

  /** @internal made by `sandbox.session()` */
  constructor(place: Place, name: string, onClose: () => Promise<void>) {
    this.id = place.sessionId;
    this.name = name;
    this.cwd = place.cwd;
    this.fs = new FileSystem(place.wire, place.cwd);
    this.#place = place;
    this.#onClose = onClose;
  }

  /** As `sandbox.exec`, in this session. */
  exec(command: Command, options?: ExecOptions): Promise<ExecResult> {
    return exec(this.#place, command, options);
  }

  /** As `sandbox.spawn`, in this session. */
  spawn(command: Command, options?: ExecOptions): Promise<Process> {
    return spawn(this.#place, command, options);
  }

  /** As `sandbox.pty`, in this session. */
  pty(options: PtyOptions): Promise<Pty> {
    return openPty(this.#place, options);
  }

  /** Kills all that was started here but for detached processes; resolves when it is dead. */
  close(): Promise<void> {
    this.#closing ??= this.#onClose();
    return this.#closing;
  }

  /**
   * As `close`. That the connection is gone is no error here: what was under way has told it, and its error is the one to
   * see.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close();
    } catch (error) {
      if (!isConnectionError(error)) throw error;
    }
  }
}
