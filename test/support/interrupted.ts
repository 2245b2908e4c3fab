import Database from 'libsql';
import type { RuntimeEvent } from '../../src/runtime/events/event.ts';
import type { Runtime } from '../../src/runtime/run/runtime.ts';

/**
 * What a store would be if its process died now: a copy, whose leases are over. All that was told is in it.
 * @param path - where the copy is made
 * @returns the index of the last event in it
 */
export function interruptedCopy(store: string, path: string): number {
  const db = new Database(store);
  try {
    db.exec(`VACUUM INTO '${path.replaceAll("'", "''")}'`);
  } finally {
    db.close();
  }
  endLeases(path);
  const copy = new Database(path);
  try {
    return (copy.prepare('SELECT max(idx) AS last FROM events').get() as { last: number }).last;
  } finally {
    copy.close();
  }
}

/**
 * Lets a runtime work until an event, and closes it.
 * @param begin - gives it the work
 * @param left - where the store is made that its process would have left if it had died right after the event
 */
export async function interruptedAt(
  runtime: Runtime,
  {
    store,
    left,
    when,
    begin,
  }: { store: string; left: string; when: (event: RuntimeEvent) => boolean; begin: () => Promise<void> },
): Promise<void> {
  const isThere = new Promise<void>((resolve) => {
    const stop = runtime.observe((event) => {
      if (!when(event)) return;
      stop();
      interruptedCopy(store, left);
      resolve();
    });
  });
  await begin();
  await isThere;
  await runtime.close({ timeoutMs: 0 });
}

/** Lets the time of all leases be over, as after 30 s of a process that died. */
export function endLeases(store: string): void {
  const db = new Database(store);
  try {
    db.exec('UPDATE owners SET leased_until = 0');
  } finally {
    db.close();
  }
}
