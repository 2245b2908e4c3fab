import type { Logger } from 'pino';
import { isDelta } from './deltas.ts';
import type { RuntimeEvent } from './event.ts';

/**
 * An observer that writes each event as one line: failures as `warn`, `log` events at their own level, the others as
 * `info`. The line is the event, with the owner's ids and all of its content.
 * @param options.deltas - also the pieces of texts and outputs, as `debug`. Default: false
 * @example runtime.observe(pinoSink(logger));
 */
export function pinoSink(logger: Logger, { deltas = false }: { deltas?: boolean } = {}): (event: RuntimeEvent) => void {
  return (event) => {
    if (isDelta(event)) {
      if (deltas) logger.debug({ event }, event.type);
    } else if (event.type === 'log') {
      logger[event.level]({ event }, event.message);
    } else if (event.type !== 'turn_request') {
      // as large as the whole conversation, each time
      logger['isError' in event && event.isError ? 'warn' : 'info']({ event }, event.type);
    }
  };
}
