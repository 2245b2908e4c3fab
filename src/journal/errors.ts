import { BerthError } from '../errors.ts';
import type { Entry, Store } from './store.ts';

/** What the store failed at, and why. */
interface Failed {
  /** The call of the store that failed. */
  operation: Exclude<keyof Store, symbol> | 'open';
  /** What is wrong; what has no name here has the code of SQLite or of the file system. */
  reason: 'full' | 'read_only' | 'corrupt' | 'locked' | 'not_a_store' | 'closed' | 'unavailable' | (string & {});
}

const remedies: Record<string, string> = {
  full: 'its disk is full; make room',
  read_only: 'its file or directory can only be read; let this user write there',
  corrupt: 'its file is damaged; restore it from a copy, or begin with another one',
  locked: 'another process keeps it locked; end that one or let it finish',
  not_a_store: 'its file is not a store of Berth; name another one',
  closed: 'it was closed',
  unavailable: 'its file could not be opened',
};

/** The database failed, and nothing of this call is in it. Where it is stands in the hint, the database's own error in the cause. */
export class StoreError extends BerthError<Failed> {
  static {
    StoreError.prototype.name = 'StoreError';
  }
  readonly code = 'store';
  constructor(meta: Failed, options?: ErrorOptions & { hint?: string }) {
    super(`The store failed (${meta.operation}): ${remedies[meta.reason] ?? meta.reason}.`, meta, options);
  }
}

/** The store was written by another version of Berth, whose layout this one does not know. Nothing was changed. */
export class StoreVersionError extends BerthError<{ stored: number; supported: number }> {
  static {
    StoreVersionError.prototype.name = 'StoreVersionError';
  }
  readonly code = 'store_version';
  constructor(meta: { stored: number; supported: number }, options?: ErrorOptions & { hint?: string }) {
    super(
      `The store has layout ${meta.stored}, this version of Berth knows those up to ${meta.supported}: use a newer version, or another store.`,
      meta,
      options,
    );
  }
}

/**
 * Nothing was written: the lease was lost, or an entry of this kind goes against what is there. For the runtime, which
 * has to stop that work; it reaches no caller.
 */
export class WriteRefusedError extends BerthError<{ reason: 'lease' | Entry['kind'] }> {
  static {
    WriteRefusedError.prototype.name = 'WriteRefusedError';
  }
  readonly code = 'write_refused';
  constructor(reason: 'lease' | Entry['kind']) {
    super(`The store refused to write: ${reason}.`, { reason });
  }
}
