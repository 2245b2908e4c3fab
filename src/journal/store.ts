/**
 * What a runtime keeps: runs, instances with their submissions, and what happened in them. All of it belongs to an
 * owner, a run or an instance, and only who holds the owner's lease writes.
 *
 * A `json` is a text as `JSON.stringify` makes it; what is in it is the runtime's. Other texts may hold any character.
 * Every call rejects with `StoreError` when the database fails.
 */
export interface Store extends AsyncDisposable {
  /** Unlike that of any other store, and the same for as long as there is this one. */
  readonly id: string;

  /** Takes a run in, `queued`. A run of this id that is there already is given instead, and nothing is written. */
  admitRun(run: NewRun): Promise<Admission<RunRow>>;
  /** Takes a submission into the inbox of its instance, which is made when it is the first. The same for its key. */
  admitSubmission(submission: NewSubmission): Promise<Admission<SubmissionRow>>;

  /** @returns `undefined`: somebody holds it, it is not known, or it is a run that has ended */
  claim(owner: Owner, host: string, ttlMs: number): Promise<Lease | undefined>;
  /** @returns those that are still held */
  renew(leases: readonly Lease[], ttlMs: number): Promise<Lease[]>;
  /** Gives the owner free before its time. One that was lost meanwhile is left to who has it. */
  release(lease: Lease): Promise<void>;
  /**
   * Work that nobody has a lease for and that can go on: runs that are queued, or were interrupted, or whose time to wait is
   * over, and instances with submissions that are not settled. In order of their admission.
   */
  unowned(page: Page): Promise<UnownedRow[]>;

  /**
   * Puts something into the mailbox of a run, whoever has its lease. A suspended run can go on from now on.
   * @returns `false`: one of this key is there already
   */
  send(message: NewMail): Promise<boolean>;
  /** Lets a suspended run go on from now on; without effect for any other. */
  wake(run: string): Promise<void>;
  /** Those that were not taken, in the order in which they came. */
  mail(run: string, page: Page): Promise<MailRow[]>;

  /**
   * Writes all of it or nothing, in this order.
   * @throws {WriteRefusedError} the lease was lost, or an entry goes against what is there: `Entry` says what each needs
   */
  write(lease: Lease, entries: readonly Entry[]): Promise<void>;

  run(id: string): Promise<RunRow | undefined>;
  /** Newest first. */
  runs(query: RunsQuery): Promise<RunRow[]>;
  submission(id: string): Promise<SubmissionRow | undefined>;
  /** In order of admission. */
  submissions(instance: InstanceOwner, query: SubmissionsQuery): Promise<SubmissionRow[]>;
  /** The index of the last event; -1: there is none. */
  lastEvent(owner: Owner): Promise<number>;
  events(owner: Owner, page: Page): Promise<EventRow[]>;
  /** By position. */
  steps(owner: Owner, page: Page<string>): Promise<StepRow[]>;
  conversation(owner: Owner, id: string): Promise<ConversationRow | undefined>;
  /** By id. */
  conversations(owner: Owner, page: Page<string>): Promise<ConversationRow[]>;
  records(owner: Owner, conversation: string, page: Page): Promise<RecordRow[]>;
  attachment(owner: Owner, conversation: string, id: string): Promise<AttachmentRow | undefined>;

  /**
   * Removes the runs that ended before this time, with all that belongs to them.
   * @returns how many
   */
  removeRuns(endedBefore: Date): Promise<number>;
  /** Calls that come after it are rejected. */
  close(): Promise<void>;
}

export interface RunOwner {
  run: string;
}

export interface InstanceOwner {
  agent: string;
  instance: string;
}

export type Owner = RunOwner | InstanceOwner;

/** The right to write for an owner, for as long as nobody else has claimed it. */
export interface Lease {
  readonly owner: Owner;
  /** How many leases of this owner there were, this one included: for a run, the number of the attempt. */
  readonly fence: number;
}

export interface Admission<Row> {
  row: Row;
  /** `false`: it was there already, maybe with another payload. */
  isNew: boolean;
}

/** The last three are final. */
export const runStates = ['queued', 'running', 'suspended', 'completed', 'failed', 'cancelled'] as const;
/** Where a run is: `suspended` is one that nobody works on, until a time, a message or `resume()`. The last three are final. */
export type RunState = (typeof runStates)[number];

/** What can go on; the seq is what `after` takes. */
export interface UnownedRow {
  seq: number;
  owner: Owner;
  /** Of a run. */
  workflow?: string;
}

export interface NewMail {
  run: string;
  name: string;
  /** At most one of a run has it. Default: none */
  key?: string;
  json: string;
}

export interface MailRow extends Omit<NewMail, 'run'> {
  /** Grows within the run. */
  seq: number;
}

export interface NewRun {
  id: string;
  workflow: string;
  /** What is known from the start, and never changes: its input, its parent, when it was accepted. */
  json: string;
}

export interface RunRow extends NewRun {
  state: RunState;
  /** How often it was claimed. */
  attempt: number;
  /** What its last `run` entry said. */
  progress?: string;
  /** Grows from one admission to the next: what `before` takes. */
  seq: number;
}

export interface RunsQuery {
  state?: RunState;
  workflow?: string;
  /** Only those with a lower `seq`. */
  before?: number;
  limit: number;
}

/** The last three are final. */
export type SubmissionState = 'queued' | 'running' | 'completed' | 'failed' | 'aborted';

export interface NewSubmission extends InstanceOwner {
  id: string;
  /** At most one submission of an instance has it. Default: none */
  key?: string;
  /** What is known from the start, and never changes: the payload, when it was accepted. */
  json: string;
}

export interface SubmissionRow extends NewSubmission {
  state: SubmissionState;
  /** What its last `submission` entry said. */
  progress?: string;
  /** Grows within the instance, in order of admission: what `after` takes. */
  seq: number;
}

export interface SubmissionsQuery {
  /** Only those that are not settled. Default: all */
  unsettled?: boolean;
  /** Only those with a higher `seq`. */
  after?: number;
  limit: number;
}

/** The part of a list right after `after`; without it, the first. Less than `limit` is the end. */
export interface Page<After = number> {
  after?: After;
  limit: number;
}

export interface EventRow {
  index: number;
  json: string;
}

export interface StepRow {
  position: string;
  /** What was written before its work began. */
  start: string;
  /** How it ended. */
  end?: string;
}

export interface ConversationRow {
  id: string;
  json: string;
}

export interface RecordRow {
  seq: number;
  json: string;
}

export interface AttachmentRow {
  digest: string;
  json: string;
  bytes: Uint8Array;
}

export type Entry =
  /** Each index once. */
  | ({ kind: 'event' } & EventRow)
  /** Each position once. */
  | { kind: 'step.start'; position: string; json: string }
  /** Once, after its start. */
  | { kind: 'step.end'; position: string; json: string }
  /** The steps whose positions begin with this one and a `/`, if there are any. */
  | { kind: 'step.removeBelow'; position: string }
  /** A message to the run; each once. */
  | { kind: 'mail.take'; seq: number }
  /** Makes it, or changes what is said of it. */
  | ({ kind: 'conversation' } & ConversationRow)
  /** With its records and attachments; it has to be there. */
  | { kind: 'conversation.remove'; id: string }
  /** Each seq once in its conversation. */
  | ({ kind: 'record'; conversation: string } & RecordRow)
  /** The same digest may come again, another one under the same id may not. */
  | ({ kind: 'attachment'; conversation: string; id: string } & AttachmentRow)
  /** A final state ends the lease, so that nothing comes after it. */
  | { kind: 'run'; state: Exclude<RunState, 'suspended'>; progress: string }
  /** Ends the lease. @param wakeAt - ms since 1970, from when on it can go on by itself. Default: only when it is told to */
  | { kind: 'run'; state: 'suspended'; progress: string; wakeAt?: number }
  /** Until it is settled. */
  | { kind: 'submission'; id: string; state: SubmissionState; progress: string };
