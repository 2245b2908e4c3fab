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
  // Not AbortSignal.any(): on Node 20 a signal of a long run would keep that of every call alive.
  const links = signals
    .filter((signal) => signal !== undefined)
    .map((signal) => ({ signal, onAbort: () => controller.abort(signal.reason) }));
  for (const { signal, onAbort } of links) {
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  }
  const promise = start(controller.signal);
  const unlink = () => {
    for (const { signal, onAbort } of links) signal.removeEventListener('abort', onAbort);
  };
  promise.then(unlink, unlink); // who wants the error awaits the handle
  return Object.assign(promise, {
    signal: controller.signal,
    abort: (reason?: unknown) => controller.abort(reason),
  });
}
