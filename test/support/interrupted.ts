import Database from 'libsql';

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

/** Lets the time of all leases be over, as after 30 s of a process that died. */
export function endLeases(store: string): void {
  const db = new Database(store);
  try {
    db.exec('UPDATE owners SET leased_until = 0');
  } finally {
    db.close();
  }
}
