import { LinkedAbort } from '../linked-abort.ts';

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
  const stop = new LinkedAbort(...signals);
  const promise = start(stop.signal);
  const release = () => stop.release();
  promise.then(release, release); // who wants the error awaits the handle
  return Object.assign(promise, { signal: stop.signal, abort: (reason?: unknown) => stop.abort(reason) });
}
