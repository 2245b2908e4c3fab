/**
 * Each brings the tables from the version that is its place in this list to the next one. One that was released is
 * never changed: what has to be different comes as a new one.
 *
 * Rows belong to an owner by its number, which also is what comes first in their keys. Texts that are not JSON are
 * escaped (escape.ts).
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- no number twice, also after the newest was removed
    run TEXT UNIQUE,
    agent TEXT,
    instance TEXT,
    host TEXT, -- NULL: nobody has a lease
    fence INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0, -- ms since 1970
    UNIQUE (agent, instance)
  ) STRICT;

  CREATE TABLE runs (
    owner INTEGER PRIMARY KEY,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    json TEXT NOT NULL,
    progress TEXT,
    ended_at INTEGER -- ms since 1970
  ) STRICT;
  CREATE INDEX runs_by_state ON runs (state);
  CREATE INDEX runs_by_workflow ON runs (workflow);
  CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;

  CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    key TEXT,
    state TEXT NOT NULL DEFAULT 'queued',
    json TEXT NOT NULL,
    progress TEXT,
    UNIQUE (owner, seq),
    UNIQUE (owner, key)
  ) STRICT;
  CREATE INDEX submissions_unsettled ON submissions (owner, seq) WHERE state IN ('queued', 'running');

  CREATE TABLE events (
    owner INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (owner, idx)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE steps (
    owner INTEGER NOT NULL,
    position TEXT NOT NULL,
    started TEXT NOT NULL,
    ended TEXT,
    PRIMARY KEY (owner, position)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE conversations (
    owner INTEGER NOT NULL,
    id TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (owner, id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE records (
    owner INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    seq INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (owner, conversation, seq)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE attachments (
    owner INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT NOT NULL,
    json TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (owner, conversation, id)
  ) STRICT;
  `,
  `
  CREATE TABLE store (id TEXT NOT NULL) STRICT;
  INSERT INTO store VALUES (lower(hex(randomblob(8))));
  `,
  `
  ALTER TABLE runs ADD COLUMN wake_at INTEGER; -- ms since 1970; NULL: a suspended run waits until it is told to go on

  CREATE TABLE mail (
    owner INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    json TEXT NOT NULL,
    PRIMARY KEY (owner, seq),
    UNIQUE (owner, key)
  ) STRICT;
  `,
  `
  ALTER TABLE mail ADD COLUMN taken INTEGER NOT NULL DEFAULT 0;
  `,
];
