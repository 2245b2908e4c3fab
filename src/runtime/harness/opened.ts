import { abortError } from '../../errors.ts';
import type { Emit } from '../events/event.ts';
import { eventLog } from '../events/log.ts';
import { unlessIgnored } from '../unless-ignored.ts';
import { graceMs } from './grace.ts';

/**
 * Waits until the harness of a root is open. An agent and a sandbox of the application may take for ever, and ignore that
 * they are not asked for any more.
 */
export function opened<Harness>(opening: Promise<Harness>, signal: AbortSignal, emit: Emit): Promise<Harness> {
  return unlessIgnored(opening, signal, {
    graceMs: graceMs(0),
    giveUp: () => {
      eventLog(emit).warn(
        'The agent or its sandbox was still being made when the work was aborted; it is not waited for',
      );
      return abortError(signal.reason);
    },
  });
}
