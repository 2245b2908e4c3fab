import { Suspension } from './run/rest.ts';

/**
 * Waits for code that is not ours; after an abort only so long as code may take that looks at its signal. What comes of
 * it later is dropped.
 * @param giveUp - called when the time is over; gives the error
 */
export async function unlessIgnored<Result>(
  running: Promise<Result>,
  signal: AbortSignal,
  { graceMs, giveUp }: { graceMs: number; giveUp: () => unknown },
): Promise<Result> {
  let grace: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const ignored = new Promise<never>((_, reject) => {
    onAbort = () => {
      if (signal.reason instanceof Suspension) return; // what becomes of it does not matter, and it is not waited for
      grace = setTimeout(() => reject(giveUp()), graceMs);
    };
  });
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([running, ignored]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearTimeout(grace);
  }
}
