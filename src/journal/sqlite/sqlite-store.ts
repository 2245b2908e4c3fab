import { setImmediate as turn } from 'node:timers/promises';
import { WriteRefusedError } from '../errors.ts';
import type {
  Admission,
  AttachmentRow,
  ConversationRow,
  Entry,
  EventRow,
  InstanceOwner,
  Lease,
  MailRow,
  NewMail,
  NewRun,
  NewSubmission,
  Owner,
  Page,
  RecordRow,
  RunRow,
  RunsQuery,
  StepRow,
  Store,
  SubmissionRow,
  SubmissionsQuery,
  UnownedRow,
} from '../store.ts';
import { Database, type DatabaseOptions } from './database.ts';
import { escapeText, unescapeText } from './escape.ts';
import { migrations } from './migrations.ts';

const finalStates = new Set<string>(['completed', 'failed', 'cancelled', 'aborted']);

const selectRuns = `SELECT o.id AS seq, o.run AS id, o.fence AS attempt, r.workflow, r.state, r.json, r.progress
  FROM runs r JOIN owners o ON o.id = r.owner`;
const selectSubmissions = `SELECT s.id, o.agent, o.instance, s.key, s.state, s.json, s.progress, s.seq
  FROM submissions s JOIN owners o ON o.id = s.owner`;

/** A store in a file, which several processes of one machine may have open; or in memory. */
export class SqliteStore implements Store {
  readonly id: string;
  readonly #db: Database;

  private constructor(db: Database, id: string) {
    this.#db = db;
    this.id = id;
  }

  /**
   * @param path - a file, made when it is not there, with the directories above it; or `:memory:`
   * @throws {StoreError} also when the file is not a store, which is not touched then
   * @throws {StoreVersionError}
   */
  static async open(path: string, options?: DatabaseOptions): Promise<SqliteStore> {
    const db = await Database.open(path, migrations, options);
    const row = await db.read('open', () => db.get<{ id: string }>('SELECT id FROM store'));
    return new SqliteStore(db, row?.id ?? '');
  }

  admitRun({ id, workflow, json }: NewRun): Promise<Admission<RunRow>> {
    return this.#db.transact('admitRun', () => {
      const known = this.#run(id);
      if (known) return { row: known, isNew: false };
      const seq = this.#makeOwner({ run: id });
      this.#db.run('INSERT INTO runs (owner, workflow, json) VALUES (?, ?, ?)', seq, escapeText(workflow), json);
      return { row: { id, workflow, json, state: 'queued', attempt: 0, seq }, isNew: true };
    });
  }

  admitSubmission(submission: NewSubmission): Promise<Admission<SubmissionRow>> {
    const { id, key, json } = submission;
    return this.#db.transact('admitSubmission', () => {
      const owner = this.#owner(submission) || this.#makeOwner(submission);
      const known =
        key === undefined ? undefined : this.#submission('s.owner = ? AND s.key = ?', owner, escapeText(key));
      if (known) return { row: known, isNew: false };
      const last = this.#db.get<{ seq: number | null }>(
        'SELECT max(seq) AS seq FROM submissions WHERE owner = ?',
        owner,
      );
      const seq = (last?.seq ?? 0) + 1;
      this.#db.run(
        'INSERT INTO submissions (id, owner, seq, key, json) VALUES (?, ?, ?, ?, ?)',
        ...[escapeText(id), owner, seq, key === undefined ? null : escapeText(key), json],
      );
      return { row: { ...submission, state: 'queued', seq }, isNew: true };
    });
  }

  claim(owner: Owner, host: string, ttlMs: number): Promise<Lease | undefined> {
    return this.#db.transact('claim', () => {
      const now = Date.now();
      const claimed = this.#db.get<{ fence: number }>(
        `UPDATE owners SET host = ?, fence = fence + 1, leased_until = ?
         WHERE id = ? AND (host IS NULL OR leased_until <= ?)
           AND NOT EXISTS (SELECT 1 FROM runs WHERE owner = owners.id AND ended_at IS NOT NULL)
         RETURNING fence`,
        ...[escapeText(host), now + ttlMs, this.#owner(owner), now],
      );
      return claimed && { owner, fence: claimed.fence };
    });
  }

  renew(leases: readonly Lease[], ttlMs: number): Promise<Lease[]> {
    return this.#db.transact('renew', () =>
      leases.filter(
        (lease) =>
          this.#db.run(
            'UPDATE owners SET leased_until = ? WHERE id = ? AND fence = ? AND host IS NOT NULL',
            ...[Date.now() + ttlMs, this.#owner(lease.owner), lease.fence],
          ) > 0,
      ),
    );
  }

  release({ owner, fence }: Lease): Promise<void> {
    return this.#db.transact('release', () => {
      this.#db.run('UPDATE owners SET host = NULL WHERE id = ? AND fence = ?', this.#owner(owner), fence);
    });
  }

  unowned({ after = 0, limit }: Page): Promise<UnownedRow[]> {
    // Each branch by an index of its own: what has ended, or has nothing to do, is most of what there is.
    const sql = `SELECT o.id AS seq, o.run, o.agent, o.instance, w.workflow FROM (
        SELECT owner, workflow FROM runs WHERE state IN ('queued', 'running')
        UNION ALL SELECT owner, workflow FROM runs WHERE state = 'suspended' AND wake_at <= ?
        UNION ALL SELECT DISTINCT owner, NULL FROM submissions WHERE state IN ('queued', 'running')
      ) w JOIN owners o ON o.id = w.owner
      WHERE (o.host IS NULL OR o.leased_until <= ?) AND o.id > ? ORDER BY o.id LIMIT ?`;
    const now = Date.now();
    return this.#db.read('unowned', () =>
      this.#db.all<StoredUnowned>(sql, now, now, after, limit).map(({ seq, run, agent, instance, workflow }) => ({
        seq,
        owner:
          run === null
            ? { agent: unescapeText(agent ?? ''), instance: unescapeText(instance ?? '') }
            : { run: unescapeText(run) },
        ...(workflow !== null && { workflow: unescapeText(workflow) }),
      })),
    );
  }

  send({ run, name, key, json }: NewMail): Promise<boolean> {
    return this.#db.transact('send', () => {
      const owner = this.#owner({ run });
      const last = this.#db.get<{ seq: number | null }>('SELECT max(seq) AS seq FROM mail WHERE owner = ?', owner);
      const isNew =
        this.#db.run(
          'INSERT OR IGNORE INTO mail (owner, seq, name, key, json) VALUES (?, ?, ?, ?, ?)',
          ...[owner, (last?.seq ?? 0) + 1, escapeText(name), key === undefined ? null : escapeText(key), json],
        ) > 0;
      this.#wake(owner);
      return isNew;
    });
  }

  wake(run: string): Promise<void> {
    return this.#db.transact('wake', () => this.#wake(this.#owner({ run })));
  }

  mail(run: string, { after = 0, limit }: Page): Promise<MailRow[]> {
    const sql = 'SELECT seq, name, key, json FROM mail WHERE owner = ? AND seq > ? AND taken = 0 ORDER BY seq LIMIT ?';
    return this.#db.read('mail', () =>
      this.#db.all<Stored<MailRow>>(sql, this.#owner({ run }), after, limit).map(({ name, key, ...row }) => ({
        ...row,
        name: unescapeText(name),
        ...(key !== null && { key: unescapeText(key) }),
      })),
    );
  }

  write({ owner, fence }: Lease, entries: readonly Entry[]): Promise<void> {
    return this.#db.transact('write', () => {
      const id = this.#owner(owner);
      const held = this.#db.get('SELECT 1 FROM owners WHERE id = ? AND fence = ? AND host IS NOT NULL', id, fence);
      if (!held) throw new WriteRefusedError('lease');
      for (const entry of entries) {
        if (this.#write(id, entry) === 0) throw new WriteRefusedError(entry.kind);
      }
    });
  }

  run(id: string): Promise<RunRow | undefined> {
    return this.#db.read('run', () => this.#run(id));
  }

  runs({ state, workflow, before = Number.MAX_SAFE_INTEGER, limit }: RunsQuery): Promise<RunRow[]> {
    const conditions = ['r.owner < ?'];
    const values: (string | number)[] = [before];
    if (state !== undefined) {
      conditions.push('r.state = ?');
      values.push(state);
    }
    if (workflow !== undefined) {
      conditions.push('r.workflow = ?');
      values.push(escapeText(workflow));
    }
    return this.#db.read('runs', () =>
      this.#db
        .all<StoredRun>(
          `${selectRuns} WHERE ${conditions.join(' AND ')} ORDER BY r.owner DESC LIMIT ?`,
          ...values,
          limit,
        )
        .map(runRow),
    );
  }

  submission(id: string): Promise<SubmissionRow | undefined> {
    return this.#db.read('submission', () => this.#submission('s.id = ?', escapeText(id)));
  }

  submissions(
    instance: InstanceOwner,
    { unsettled = false, after = 0, limit }: SubmissionsQuery,
  ): Promise<SubmissionRow[]> {
    const which = unsettled ? `AND s.state IN ('queued', 'running')` : '';
    return this.#db.read('submissions', () =>
      this.#db
        .all<StoredSubmission>(
          `${selectSubmissions} WHERE s.owner = ? AND s.seq > ? ${which} ORDER BY s.seq LIMIT ?`,
          ...[this.#owner(instance), after, limit],
        )
        .map(submissionRow),
    );
  }

  lastEvent(owner: Owner): Promise<number> {
    return this.#db.read('lastEvent', () => {
      const sql = 'SELECT max(idx) AS last FROM events WHERE owner = ?';
      return this.#db.get<{ last: number | null }>(sql, this.#owner(owner))?.last ?? -1;
    });
  }

  events(owner: Owner, { after = -1, limit }: Page): Promise<EventRow[]> {
    const sql = 'SELECT idx AS "index", json FROM events WHERE owner = ? AND idx > ? ORDER BY idx LIMIT ?';
    return this.#db.read('events', () => this.#db.all<EventRow>(sql, this.#owner(owner), after, limit));
  }

  steps(owner: Owner, { after = '', limit }: Page<string>): Promise<StepRow[]> {
    const sql = 'SELECT * FROM steps WHERE owner = ? AND position > ? ORDER BY position LIMIT ?';
    return this.#db.read('steps', () =>
      this.#db
        .all<{ position: string; started: string; ended: string | null }>(
          sql,
          ...[this.#owner(owner), escapeText(after), limit],
        )
        .map(({ position, started, ended }) => ({
          position: unescapeText(position),
          start: started,
          ...(ended !== null && { end: ended }),
        })),
    );
  }

  conversation(owner: Owner, id: string): Promise<ConversationRow | undefined> {
    return this.#db.read('conversation', () => {
      const sql = 'SELECT json FROM conversations WHERE owner = ? AND id = ?';
      const row = this.#db.get<{ json: string }>(sql, this.#owner(owner), escapeText(id));
      return row && { id, json: row.json };
    });
  }

  conversations(owner: Owner, { after = '', limit }: Page<string>): Promise<ConversationRow[]> {
    const sql = 'SELECT id, json FROM conversations WHERE owner = ? AND id > ? ORDER BY id LIMIT ?';
    return this.#db.read('conversations', () =>
      this.#db
        .all<ConversationRow>(sql, this.#owner(owner), escapeText(after), limit)
        .map(({ id, json }) => ({ id: unescapeText(id), json })),
    );
  }

  records(owner: Owner, conversation: string, { after = -1, limit }: Page): Promise<RecordRow[]> {
    const sql = 'SELECT seq, json FROM records WHERE owner = ? AND conversation = ? AND seq > ? ORDER BY seq LIMIT ?';
    return this.#db.read('records', () =>
      this.#db.all<RecordRow>(sql, this.#owner(owner), escapeText(conversation), after, limit),
    );
  }

  attachment(owner: Owner, conversation: string, id: string): Promise<AttachmentRow | undefined> {
    return this.#db.read('attachment', () => {
      const sql = 'SELECT digest, json, bytes FROM attachments WHERE owner = ? AND conversation = ? AND id = ?';
      const row = this.#db.get<{ digest: string; json: string; bytes: Uint8Array }>(
        sql,
        ...[this.#owner(owner), escapeText(conversation), escapeText(id)],
      );
      return row && { ...row, bytes: new Uint8Array(row.bytes) };
    });
  }

  async removeRuns(endedBefore: Date): Promise<number> {
    for (let removed = 0; ; removed++) {
      if (!(await this.#db.transact('removeRuns', () => this.#removeRun(endedBefore)))) return removed;
      await turn(); // there may be many
    }
  }

  async close(): Promise<void> {
    this.#db.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @returns how many rows this changed; 0 when it goes against what is there */
  #write(owner: number, entry: Entry): number {
    switch (entry.kind) {
      case 'event':
        return this.#db.run(
          'INSERT OR IGNORE INTO events (owner, idx, json) VALUES (?, ?, ?)',
          owner,
          entry.index,
          entry.json,
        );
      case 'step.start':
        return this.#db.run(
          'INSERT OR IGNORE INTO steps (owner, position, started) VALUES (?, ?, ?)',
          ...[owner, escapeText(entry.position), entry.json],
        );
      case 'step.end':
        return this.#db.run(
          'UPDATE steps SET ended = ? WHERE owner = ? AND position = ? AND ended IS NULL',
          ...[entry.json, owner, escapeText(entry.position)],
        );
      case 'step.removeBelow': {
        const below = escapeText(entry.position);
        // What comes after `/` is `0`.
        this.#db.run(
          'DELETE FROM steps WHERE owner = ? AND position > ? AND position < ?',
          owner,
          `${below}/`,
          `${below}0`,
        );
        return 1;
      }
      case 'mail.take':
        return this.#db.run('UPDATE mail SET taken = 1 WHERE owner = ? AND seq = ? AND taken = 0', owner, entry.seq);
      case 'conversation':
        return this.#db.run(
          `INSERT INTO conversations (owner, id, json) VALUES (?, ?, ?)
           ON CONFLICT (owner, id) DO UPDATE SET json = excluded.json`,
          ...[owner, escapeText(entry.id), entry.json],
        );
      case 'conversation.remove': {
        const id = escapeText(entry.id);
        this.#db.run('DELETE FROM records WHERE owner = ? AND conversation = ?', owner, id);
        this.#db.run('DELETE FROM attachments WHERE owner = ? AND conversation = ?', owner, id);
        return this.#db.run('DELETE FROM conversations WHERE owner = ? AND id = ?', owner, id);
      }
      case 'record':
        return this.#db.run(
          'INSERT OR IGNORE INTO records (owner, conversation, seq, json) VALUES (?, ?, ?, ?)',
          ...[owner, escapeText(entry.conversation), entry.seq, entry.json],
        );
      case 'attachment':
        // Of the same digest: one row is changed, to what it is.
        return this.#db.run(
          `INSERT INTO attachments (owner, conversation, id, digest, json, bytes) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (owner, conversation, id) DO UPDATE SET digest = digest WHERE digest = excluded.digest`,
          ...[owner, escapeText(entry.conversation), escapeText(entry.id), entry.digest, entry.json, entry.bytes],
        );
      case 'run': {
        const ends = finalStates.has(entry.state);
        const wakeAt = entry.state === 'suspended' ? entry.wakeAt : undefined;
        if (ends || entry.state === 'suspended') this.#db.run('UPDATE owners SET host = NULL WHERE id = ?', owner);
        return this.#db.run(
          'UPDATE runs SET state = ?, progress = ?, ended_at = ?, wake_at = ? WHERE owner = ?',
          ...[entry.state, entry.progress, ends ? Date.now() : null, wakeAt ?? null, owner],
        );
      }
      case 'submission':
        return this.#db.run(
          `UPDATE submissions SET state = ?, progress = ? WHERE id = ? AND owner = ? AND state IN ('queued', 'running')`,
          ...[entry.state, entry.progress, escapeText(entry.id), owner],
        );
    }
  }

  #wake(owner: number): void {
    this.#db.run(`UPDATE runs SET wake_at = 0 WHERE owner = ? AND state = 'suspended'`, owner);
  }

  /** 0, which is nobody's number, when it is not known. */
  #owner(owner: Owner): number {
    const row =
      'run' in owner
        ? this.#db.get<{ id: number }>('SELECT id FROM owners WHERE run = ?', escapeText(owner.run))
        : this.#db.get<{ id: number }>(
            'SELECT id FROM owners WHERE agent = ? AND instance = ?',
            ...[escapeText(owner.agent), escapeText(owner.instance)],
          );
    return row?.id ?? 0;
  }

  #makeOwner(owner: Owner): number {
    if ('run' in owner) this.#db.run('INSERT INTO owners (run) VALUES (?)', escapeText(owner.run));
    else {
      const names = [escapeText(owner.agent), escapeText(owner.instance)];
      this.#db.run('INSERT INTO owners (agent, instance) VALUES (?, ?)', ...names);
    }
    return this.#owner(owner);
  }

  #run(id: string): RunRow | undefined {
    const row = this.#db.get<StoredRun>(`${selectRuns} WHERE o.run = ?`, escapeText(id));
    return row && runRow(row);
  }

  #submission(condition: string, ...values: (string | number)[]): SubmissionRow | undefined {
    const row = this.#db.get<StoredSubmission>(`${selectSubmissions} WHERE ${condition}`, ...values);
    return row && submissionRow(row);
  }

  /** @returns whether there was one to remove */
  #removeRun(endedBefore: Date): boolean {
    const sql = 'SELECT owner FROM runs WHERE ended_at < ? LIMIT 1';
    const run = this.#db.get<{ owner: number }>(sql, endedBefore.getTime());
    if (!run) return false;
    for (const table of ['events', 'steps', 'conversations', 'records', 'attachments', 'mail', 'runs']) {
      this.#db.run(`DELETE FROM ${table} WHERE owner = ?`, run.owner);
    }
    this.#db.run('DELETE FROM owners WHERE id = ?', run.owner);
    return true;
  }
}

/** A row of ours as the database gives it: `null` for what there is not, and its texts escaped. */
type Stored<Row> = { [Name in keyof Row]-?: undefined extends Row[Name] ? string | null : Row[Name] };
type StoredRun = Stored<RunRow>;
type StoredSubmission = Stored<SubmissionRow>;
interface StoredUnowned {
  seq: number;
  run: string | null;
  agent: string | null;
  instance: string | null;
  workflow: string | null;
}

function runRow({ id, workflow, progress, ...row }: StoredRun): RunRow {
  return {
    ...row,
    id: unescapeText(id),
    workflow: unescapeText(workflow),
    ...(progress !== null && { progress }),
  };
}

function submissionRow({ id, agent, instance, key, progress, ...row }: StoredSubmission): SubmissionRow {
  return {
    ...row,
    id: unescapeText(id),
    agent: unescapeText(agent),
    instance: unescapeText(instance),
    ...(key !== null && { key: unescapeText(key) }),
    ...(progress !== null && { progress }),
  };
}
