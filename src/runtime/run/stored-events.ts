import { abortError } from '../../errors.ts';
import { StoreVersionError } from '../../journal/errors.ts';
import type { Owner, Store } from '../../journal/store.ts';
import { InvalidRequestError } from '../errors.ts';
import type { RuntimeEvent } from '../events/event.ts';
import { checkOptions } from '../options.ts';

const pageSize = 256;

/** @throws {InvalidRequestError} an option of `events` is not known, or not of its type */
export function checkEvents(options: { after?: number; signal?: AbortSignal }): void {
  checkOptions('events', options, { after: true, signal: true });
  const { after = 0 } = options;
  if (!Number.isSafeInteger(after))
    throw new InvalidRequestError('after is the number of an event, or -1 for all of them');
}

/**
 * The events of an owner with a number over `after`, as they are in the store.
 * @param live.isOver - asked before a page is read: none can come after those that are there
 * @param live.more - resolves when it is worth to look again; `seen` is the last number that was read
 */
export async function* storedEvents(
  { store, owner }: { store: Store; owner: Owner },
  after: number,
  signal: AbortSignal | undefined,
  live: { isOver(): boolean | Promise<boolean>; more(seen: number): Promise<void> },
): AsyncGenerator<RuntimeEvent, void, undefined> {
  for (let seen = after; ; ) {
    if (signal?.aborted) throw abortError(signal.reason);
    const isOver = await live.isOver();
    const page = await store.events(owner, { after: seen, limit: pageSize });
    for (const { index, json } of page) {
      if (signal?.aborted) throw abortError(signal.reason);
      seen = index;
      yield storedEvent(json);
    }
    if (page.length === pageSize) continue;
    if (isOver) return;
    await live.more(seen);
  }
}

/** @throws {StoreVersionError} it has another shape than this version knows */
function storedEvent(json: string): RuntimeEvent {
  const event = JSON.parse(json) as RuntimeEvent; // we wrote it
  if (event.v !== 1) throw new StoreVersionError({ stored: event.v, supported: 1 });
  return event;
}
