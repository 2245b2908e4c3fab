/** What an error says about itself besides its text; every value must be safe to show to any caller. */
export type ErrorMeta = object | undefined;

/** The prototypes of all error classes that are loaded, by the name that their errors have. */
const prototypes = new Map<string, object>();

/**
 * An error of a class of ours, made again from what was kept of it.
 * @returns `undefined`: there is no class of this name
 */
export function restoreError(kept: { name: string; code?: string; message: string; meta?: unknown }) {
  const prototype = prototypes.get(kept.name);
  if (!prototype) return undefined;
  const { code, message, meta } = kept;
  return Object.assign(construct(prototype, kept), { code, meta, message });
}

/** Its constructor gives the fields that every error of the class has; where it needs more than `meta` there are none. */
function construct(prototype: object, { message, meta }: { message: string; meta?: unknown }): BerthError {
  try {
    return Reflect.construct(prototype.constructor, [meta]);
  } catch {
    return Object.create(prototype, { stack: { value: message, configurable: true, writable: true } });
  }
}

/**
 * Base class of every error that Berth throws. A subclass sets a `code` that stays the same over versions; the text is
 * for people and may change. Cancellation is not among them: that is a `DOMException` named `AbortError`.
 */
export abstract class BerthError<Meta extends ErrorMeta = ErrorMeta> extends Error {
  static {
    // A class sets the name on its prototype. From then on its errors can be restored.
    Object.defineProperty(BerthError.prototype, 'name', {
      configurable: true,
      get: () => 'Error',
      set(this: object, value: string) {
        Object.defineProperty(this, 'name', { value, configurable: true, writable: true });
        if (Object.hasOwn(this, 'constructor')) prototypes.set(value, this);
      },
    });
  }
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
