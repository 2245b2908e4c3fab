/**
 * A request that can't be carried out, for a reason that is ours and not the kernel's; the answer carries `code`.
 * Errors of `node:fs` need no wrapping: their `code` is the POSIX name already.
 */
export class RequestError extends Error {
  readonly code: string;
  /** Of an archive: the name of the entry at which it failed. */
  readonly entry: string | undefined;
  constructor(code: string, message: string, entry?: string) {
    super(message);
    this.code = code;
    this.entry = entry;
  }
}
