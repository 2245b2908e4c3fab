import { BerthError } from '../errors.ts';

/** The command was called with something that it can't work with; the text says what to do. */
export class UsageError extends BerthError<undefined> {
  static {
    UsageError.prototype.name = 'UsageError';
  }
  readonly code = 'usage';
  override readonly status = 400;
  constructor(message: string, options?: ErrorOptions) {
    super(message, undefined, options);
  }
}
