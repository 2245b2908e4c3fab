import type { RuntimeEvent } from './event.ts';
import type { EventStore } from './event-log.ts';

const maxPieceBytes = 8 * 1024 * 1024;

interface Kept {
  events: RuntimeEvent[];
  /** Estimate of what `text_delta`, `thinking_delta` and `tool_output` events among them hold. */
  pieceBytes: number;
}

/**
 * Events in memory. Of one log at most about 8 MiB of pieces are kept (`text_delta`, `thinking_delta`, `tool_output`):
 * beyond that the oldest pieces are dropped, whose whole text stands in the event that ends the message or the call.
 * A reader that comes later then finds gaps where pieces were.
 */
export class MemoryEvents implements EventStore {
  readonly #logs = new Map<string, Kept>();

  append(logId: string, event: RuntimeEvent): void {
    let log = this.#logs.get(logId);
    if (log === undefined) {
      log = { events: [], pieceBytes: 0 };
      this.#logs.set(logId, log);
    }
    log.events.push(event);
    log.pieceBytes += pieceBytes(event);
    if (log.pieceBytes > maxPieceBytes) dropPieces(log);
  }

  next(logId: string, after: number): RuntimeEvent | undefined {
    const events = this.#logs.get(logId)?.events ?? [];
    let low = 0;
    for (let high = events.length; low < high; ) {
      const middle = (low + high) >>> 1;
      const event = events[middle];
      if (event !== undefined && event.eventIndex <= after) low = middle + 1;
      else high = middle;
    }
    return events[low];
  }

  remove(logId: string): void {
    this.#logs.delete(logId);
  }
}

/** Drops the older half, so that this is rare. */
function dropPieces(log: Kept): void {
  log.events = log.events.filter((event) => {
    const bytes = pieceBytes(event);
    if (bytes === 0 || log.pieceBytes <= maxPieceBytes / 2) return true;
    log.pieceBytes -= bytes;
    return false;
  });
}

function pieceBytes(event: RuntimeEvent): number {
  switch (event.type) {
    case 'text_delta':
    case 'tool_output':
      return 200 + event.text.length;
    case 'thinking_delta':
      return 200 + event.delta.length;
    default:
      return 0;
  }
}
