/** What became of a command. A command that fails is a result, never an exception. Sizes are bytes. */
export interface ExecResult {
  /** `null` when a signal ended the command. 127: not found; 126: not executable. */
  exitCode: number | null;
  /** The signal that ended the command, as in `SIGKILL`, else `null`. */
  signal: string | null;
  /** UTF-8; bytes that are not are replaced by U+FFFD. At most `maxOutput` bytes of the stream. */
  stdout: string;
  /** As `stdout`. */
  stderr: string;
  /** What the command wrote in all, kept in `stdout` or not. */
  stdoutBytes: number;
  /** As `stdoutBytes`. */
  stderrBytes: number;
  /** `stdout` or `stderr` holds less than the command wrote. */
  truncated: boolean;
  /** Berth killed the command because its `timeout` was over. */
  timedOut: boolean;
  /** The kernel killed a process of the sandbox for want of memory while the command ran. */
  oomKilled: boolean;
  /** From its start to its end. */
  durationMs: number;
}
