/** A promise that can be aborted. One that nobody awaits never causes an unhandled rejection. */
export interface CallHandle<Result> extends Promise<Result> {
  /** Aborts when the call is aborted, by whomever. */
  readonly signal: AbortSignal;
  /** Stops the call; it rejects with an `AbortError` when everything that it started has ended. */
  abort(reason?: unknown): void;
}

/** Starts a call. `signals` abort it too; the call itself decides what its signal means. */
export function callHandle<Result>(
  signals: readonly (AbortSignal | undefined)[],
  start: (signal: AbortSignal) => Promise<Result>,
): CallHandle<Result> {
  const controller = new AbortController();
  const given = signals.filter((signal) => signal !== undefined);
  const signal = given.length === 0 ? controller.signal : AbortSignal.any([controller.signal, ...given]);
  const promise = start(signal);
  promise.catch(() => {}); // who wants the error awaits the handle
  return Object.assign(promise, { signal, abort: (reason?: unknown) => controller.abort(reason) });
}
