/** What an error says about itself besides its text; every value must be safe to show to any caller. */
export type ErrorMeta = object | undefined;

/**
 * Base class of every error that Berth throws. A subclass sets a `code` that stays the same over versions; the text is
 * for people and may change. Cancellation is not among them: that is a `DOMException` named `AbortError`.
 */
export abstract class BerthError<Meta extends ErrorMeta = ErrorMeta> extends Error {
  /** Stable, in snake case: what programs look at. */
  abstract readonly code: string;
  /** The HTTP status with which a server reports this error. */
  readonly status: number = 500;
  /** What caused it, safe for any caller; the fields are those that the class documents. */
  readonly meta: Meta;
  /** For the developer only: what to change. Not shown to callers outside of development. */
  readonly hint?: string;

  constructor(message: string, meta: Meta, options?: ErrorOptions & { hint?: string }) {
    super(message, options);
    this.meta = meta;
    if (options?.hint !== undefined) this.hint = options.hint;
  }

  /** The same as `code`. */
  get type(): string {
    return this.code;
  }

  /** The text that any caller may see. */
  get details(): string {
    return this.message;
  }
}

/**
 * The error that a cancelled call rejects with: a `DOMException` named `AbortError`, the reason kept as its `cause`.
 * @param message - what there is to say besides. Default: none; a reason that is such an error is then given as it is
 */
export function abortError(reason: unknown, message?: string): DOMException {
  if (message === undefined && reason instanceof DOMException && reason.name === 'AbortError') return reason;
  const error = new DOMException(message ?? 'The operation was aborted.', 'AbortError');
  // The constructor of DOMException takes no cause on Node 20.
  return Object.defineProperty(error, 'cause', { value: reason, configurable: true });
}
