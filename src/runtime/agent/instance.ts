import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { WriteRefusedError } from '../../journal/errors.ts';
import type { InstanceOwner, Lease, Store, SubmissionRow, SubmissionState } from '../../journal/store.ts';
import { after } from '../after.ts';
import { type AgentDefinition, defaultMaxAttempts } from '../define/agent.ts';
import {
  InvalidRequestError,
  RuntimeUnavailableError,
  SubmissionAbortedError,
  SubmissionConflictError,
  SubmissionRetryExhaustedError,
  SubmissionTimeoutError,
} from '../errors.ts';
import type { RecordedError } from '../events/event.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { opened } from '../harness/opened.ts';
import { newId } from '../id.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { ImagePart } from '../model/model.ts';
import type { OwnerJournal } from '../run/owner-journal.ts';
import { never, Rest } from '../run/rest.ts';
import type { OpenRootHarness } from '../run/run.ts';
import type { Admit } from '../run/slots.ts';
import { Steps } from '../run/step.ts';
import type { WorkOutcome } from '../sandbox/env.ts';
import { canonicalJson, type JsonValue } from '../schema/snapshot.ts';
import type { PromptResult } from '../session/session.ts';
import { type Signal, signalText } from '../session/signal.ts';

/** How often it is looked whether another process has let go of an instance, or settled a submission. */
const pollMs = 200;
const pageSize = 256;

/** Where the agent's `durability` does not say it. */
const defaultTimeoutMs = 60 * 60 * 1000;

/** What `dispatch` gives: the message was taken, and will be worked on in its turn. */
export interface Receipt {
  /** `disp_` and a ULID: in the events of this message, and in what a model gets for `input`. */
  readonly dispatchId: string;
  /** `sub_` and a ULID: in the events of this message, and in `SubmissionAbortedError`. */
  readonly submissionId: string;
  /** ISO 8601. */
  readonly acceptedAt: string;
  /**
   * The answer, whatever process gives it.
   * @throws the error of the work; {SubmissionAbortedError} it was aborted; {StoreError} its end could not be recorded;
   * {RuntimeUnavailableError} this runtime was closed meanwhile: a later one goes on with it
   */
  result(): Promise<PromptResult>;
}

/** What is put into the inbox: the words of a person, or data. */
export type Payload = ({ message: string } | { input: JsonValue }) & { images: ImagePart[] };

/** What never changes of a submission, as the store keeps it. */
interface Admitted {
  dispatchId: string;
  acceptedAt: string;
  payload: Payload;
}

/** How far it is, or how it ended. */
interface Progress {
  /** The first time. */
  startedAt?: string;
  endedAt?: string;
  /** How often it was begun. */
  attempts?: number;
  /** Why, where it was asked to be aborted. */
  aborted?: string;
  result?: PromptResult;
  error?: RecordedError;
}

interface Submission {
  seq: number;
  said: string | Signal;
  images: ImagePart[];
  scope: { dispatchId: string; submissionId: string };
  signal: AbortSignal;
  /** Aborts when somebody with a place for work waits for it. */
  urgent: AbortSignal;
  /** As far as it is known here. */
  progress: Progress;
}

interface Unsettled {
  receipt: Receipt;
  stop: AbortController;
  urgent: AbortController;
  submission: Submission;
  /** Tells who waits for its result that it comes later. */
  giveUp: (error: unknown) => void;
}

/** An agent with a sandbox and one conversation, and an inbox that it works through in order. */
export class AgentInstance {
  readonly agent: AgentDefinition;
  readonly #owner: InstanceOwner;
  readonly #store: Store;
  readonly #isDurable: boolean;
  readonly #canSuspend: boolean;
  readonly #openJournal: () => OwnerJournal;
  readonly #openHarness: OpenRootHarness;
  readonly #admit: Admit;
  readonly #closed: AbortSignal;
  readonly #stop = new AbortController();
  /** One for each submission that is not settled, by its id. */
  readonly #unsettled = new Map<string, Unsettled>();
  #journal: OwnerJournal;
  #harness: Promise<OpenHarness> | undefined;
  /** Of the harness. */
  #rest = new Rest();
  #atWork: Submission | undefined;
  /** Ends the wait for what is at work, which goes on elsewhere or later. */
  #leave: (error: unknown) => void = () => {};
  #isClosing = false;
  /** Of the last claim. */
  #fence: number | undefined;
  #admitted: Promise<unknown> = Promise.resolve();
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: {
    agent: AgentDefinition;
    owner: InstanceOwner;
    store: Store;
    /** Later processes have it too. */
    isDurable: boolean;
    /** What is under way can go on in a later process. */
    canSuspend: boolean;
    /** Also after one has failed. */
    openJournal: (onFailure: (error: unknown) => void) => OwnerJournal;
    openHarness: OpenRootHarness;
    admit: Admit;
    /** Aborts when the runtime is closed, and nothing of its work can ask any more. */
    closed: AbortSignal;
  }) {
    this.agent = options.agent;
    this.#owner = options.owner;
    this.#store = options.store;
    this.#isDurable = options.isDurable;
    this.#canSuspend = options.canSuspend;
    this.#openJournal = () => options.openJournal((error) => this.#fail(error));
    this.#openHarness = options.openHarness;
    this.#admit = options.admit;
    this.#journal = this.#openJournal();
    this.#closed = options.closed;
    const giveUp = () => {
      for (const unsettled of this.#unsettled.values()) unsettled.giveUp(options.closed.reason);
    };
    options.closed.addEventListener('abort', giveUp, { once: true });
  }

  /** The right to write for it, while it is had. */
  get lease(): Lease | undefined {
    return this.#journal.lease;
  }

  /**
   * Resolves when it is in the inbox, also that of later processes.
   * @param isWithin - who submits it has a place for work, and may wait for it: then it must not wait for one
   * @throws {SubmissionConflictError} the key was used with another payload
   */
  submit(payload: Payload, { key, isWithin }: { key?: string | undefined; isWithin: boolean }): Promise<Receipt> {
    // One after the other: then they are worked on in the order in which the store has them.
    const receipt = this.#admitted.then(() => this.#take(payload, key));
    this.#admitted = receipt.then(
      () => {
        // With those before it.
        if (isWithin) for (const { urgent } of this.#unsettled.values()) urgent.abort();
      },
      () => {},
    );
    return receipt;
  }

  /**
   * Aborts all that is not settled; resolves when it is.
   * @returns whether there was any
   * @throws {InvalidRequestError} another process has the instance
   */
  async abort(reason: string): Promise<boolean> {
    await this.#admitted;
    if (this.#unsettled.size > 0 && !(await this.#journal.claim())) {
      const { agent, instance } = this.#owner;
      throw new InvalidRequestError(`${agent}/${instance} is under way in another process: abort it there`);
    }
    return this.#abort(reason);
  }

  async #abort(reason: string): Promise<boolean> {
    await this.#admitted;
    const any = this.#unsettled.size > 0;
    for (const { stop, submission } of this.#unsettled.values()) {
      // Also if this process dies before it is settled.
      if (this.#atWork === submission) this.#put(submission, 'running', { aborted: reason });
      stop.abort(reason);
    }
    // Of what a closed runtime leaves to later ones too, there is an end to wait for.
    await Promise.allSettled([...this.#unsettled.values()].map(({ receipt }) => receipt.result()));
    if (!this.#closed.aborted) await this.#last;
    return any;
  }

  /** Goes on with what other processes have left in its inbox. */
  takeUp(): Promise<void> {
    const adopted = this.#admitted.then(() => this.#adopt(Number.MAX_SAFE_INTEGER));
    this.#admitted = adopted.catch(() => {});
    return adopted;
  }

  /** Another process has it now. */
  lost(): void {
    this.#journal.lost();
  }

  /**
   * Lets what is under way go on in a later process, as what waits does: when a turn of the model has ended, at the latest
   * after `timeoutMs`. Where there will be none, it is aborted, and the sandbox ends.
   */
  async close(timeoutMs: number): Promise<void> {
    if (this.#canSuspend) return this.#suspend(timeoutMs);
    const reason = 'The runtime was closed.';
    this.#stop.abort(reason);
    await this.#abort(reason);
    if (this.#isDurable) return this.#end();
    await this.#journal.claim().catch(() => {}); // only to tell of it
    await this.#end('completed');
  }

  async #suspend(timeoutMs: number): Promise<void> {
    await this.#admitted;
    this.#isClosing = true;
    if (this.#atWork) {
      await Promise.race([this.#rest.ask(timeoutMs), this.#last]);
      // It has come to its end meanwhile.
      if (this.#atWork) this.#rest.end('suspended');
    }
    await this.#journal.close().catch(() => {}); // first: what ends now is not how it ended
    this.#leave(new RuntimeUnavailableError());
    await this.#end();
  }

  /** What is recorded from now on would be lost. What another process does is not disturbed. */
  #fail(error: unknown): void {
    if (!(error instanceof WriteRefusedError)) return;
    this.#rest.end('left');
    void this.#closeHarness();
    this.#leave(error);
  }

  async #take(payload: Payload, key: string | undefined): Promise<Receipt> {
    const admitted: Admitted = { dispatchId: newId('disp'), acceptedAt: new Date().toISOString(), payload };
    const { row, isNew } = await this.#store.admitSubmission({
      ...this.#owner,
      id: newId('sub'),
      ...(key !== undefined && { key }),
      json: JSON.stringify(admitted),
    });
    if (isNew) {
      await this.#adopt(row.seq);
      return this.#begin(row);
    }
    const first = JSON.parse(row.json) as Admitted; // it was written here
    if (payloadHash(first.payload) !== payloadHash(payload)) throw new SubmissionConflictError({ key: key ?? '' });
    return this.#unsettled.get(row.id)?.receipt ?? storedReceipt(this.#store, row.id, first, this.#closed);
  }

  /** Takes up what is not settled in the store and has a lower `seq`. */
  async #adopt(before: number): Promise<void> {
    for (let after = 0; ; ) {
      const page = await this.#store.submissions(this.#owner, { unsettled: true, after, limit: pageSize });
      for (const row of page) {
        after = row.seq;
        if (row.seq >= before || this.#isClosing) return;
        if (!this.#unsettled.has(row.id))
          this.#begin(row)
            .result()
            .catch(() => {}); // it is in the store
      }
      if (page.length < pageSize) return;
    }
  }

  #begin(row: SubmissionRow): Receipt {
    const { id: submissionId, seq } = row;
    const { dispatchId, acceptedAt, payload } = JSON.parse(row.json) as Admitted; // it was written here
    const stop = new AbortController();
    const urgent = new AbortController();
    if (this.#stop.signal.aborted) stop.abort(this.#stop.signal.reason); // closed while it was taken in
    const submission: Submission = {
      seq,
      progress: progressOf(row),
      said: this.#said(payload, { dispatchId, acceptedAt }),
      images: payload.images,
      scope: { dispatchId, submissionId },
      signal: stop.signal,
      urgent: urgent.signal,
    };
    const settled = this.#last.then(() => this.#settle(submission)).finally(() => this.#unsettled.delete(submissionId));
    // The next one runs all the same.
    this.#last = settled.catch(() => {}).then(() => this.#letOthers());
    let giveUp: (error: unknown) => void = () => {};
    const result = new Promise<PromptResult>((resolve, reject) => {
      giveUp = reject;
      settled.then(resolve, reject);
    });
    result.catch(() => {}); // who wants the error awaits it
    const receipt = { dispatchId, submissionId, acceptedAt, result: () => result };
    this.#unsettled.set(submissionId, { receipt, stop, urgent, submission, giveUp });
    return receipt;
  }

  #said(payload: Payload, receipt: { dispatchId: string; acceptedAt: string }): string | Signal {
    if ('message' in payload) return payload.message;
    const { agent, instance: id } = this.#owner;
    const attributes = { type: 'dispatch_input', agent, id, session: 'default', ...receipt };
    return { tag: 'dispatch', attributes, content: canonicalJson(payload.input, 2) };
  }

  /** Works on a submission when its turn has come, and says how it ended. An answer that is complete stays so. */
  async #settle(submission: Submission): Promise<PromptResult> {
    const { scope, signal } = submission;
    if (this.#isClosing) return never();
    if (this.#journal.failure) await this.#reopen();
    const meter = new UsageMeter();
    const startedAt = performance.now();
    const settled = async (
      outcome: 'completed' | 'failed' | 'aborted',
      ended: { result: PromptResult } | { error: RecordedError },
    ) => {
      await this.#claim();
      const isError = 'error' in ended;
      const durationMs = Math.round(performance.now() - startedAt);
      const usage = meter.total;
      const emit = within(this.#journal.emit, scope);
      emit({ type: 'submission_settled', outcome, ...ended, durationMs, isError, usage });
      this.#put(submission, outcome, { endedAt: new Date().toISOString(), ...ended });
      this.#journal.put({ kind: 'step.removeBelow', position: lane(scope.submissionId) });
      await this.#journal.flush();
    };
    try {
      let result: PromptResult;
      try {
        // First, since those who have a place may wait for what another process works on, and it for them.
        while (!(await this.#journal.claim())) {
          await sleep(pollMs, undefined, { signal });
          if (this.#isClosing) return await never();
        }
        const row = await this.#store.submission(scope.submissionId);
        // By another process, which had it meanwhile.
        if (row && isSettled(row.state)) return await storedResult(this.#store, scope.submissionId, this.#closed);
        if (row) submission.progress = progressOf(row);
        if (submission.progress.aborted !== undefined)
          this.#unsettled.get(scope.submissionId)?.stop.abort(submission.progress.aborted);
        const work = () =>
          new Promise<PromptResult>((resolve, reject) => {
            this.#leave = reject;
            this.#work(submission, meter).then(resolve, reject);
          });
        result = await this.#admit(work, signal, submission.urgent);
      } catch (cause) {
        if (this.#rest.over === 'suspended') return await never();
        if (this.#journal.failure) throw this.#journal.failure.error;
        const error = signal.aborted
          ? new SubmissionAbortedError({ submissionId: scope.submissionId, reason: String(signal.reason) }, { cause })
          : cause;
        await settled(signal.aborted ? 'aborted' : 'failed', { error: recordedError(error) });
        throw error;
      }
      await settled('completed', { result });
      return result;
    } catch (error) {
      if (!(error instanceof WriteRefusedError)) throw error;
      // Another process has the instance: what it records counts.
      return storedResult(this.#store, scope.submissionId, this.#closed, signal);
    }
  }

  async #work(submission: Submission, meter: UsageMeter): Promise<PromptResult> {
    if (this.#isClosing) throw new RuntimeUnavailableError(); // it was closed while this waited for a place
    if (this.#journal.failure) throw this.#journal.failure.error;
    this.#atWork = submission;
    try {
      return await this.#answer(submission, meter);
    } finally {
      this.#atWork = undefined;
    }
  }

  async #answer(submission: Submission, meter: UsageMeter): Promise<PromptResult> {
    const { said, images, scope, signal } = submission;
    const { fence } = this.#journal.lease ?? {};
    // Others have had it meanwhile, so there is more in the store than here.
    if (fence !== undefined && this.#fence !== undefined && fence > this.#fence + 1) {
      this.#rest.end('left');
      await this.#closeHarness();
    }
    this.#fence = fence;
    const { startedAt = new Date().toISOString(), attempts = 0 } = submission.progress;
    const emit = within(this.#journal.emit, scope);
    if (attempts === 0) emit({ type: 'submission_start', kind: 'dispatch' });
    this.#put(submission, 'running', { startedAt, attempts: attempts + 1 });
    await this.#journal.flush();
    const beganAt = Date.parse(startedAt);
    const root = await opened(this.#root(this.#journal.recorded.has(lane(scope.submissionId))), signal, emit);
    const { timeoutMs = defaultTimeoutMs, maxAttempts = defaultMaxAttempts } = root.parts.agent.durability;
    const timeout = new SubmissionTimeoutError({ submissionId: scope.submissionId, timeoutMs });
    const stop = new LinkedAbort(signal);
    const restMs = beganAt + timeoutMs - Date.now();
    // What was to be done before is told of with the answer that may be there already.
    const stopTimer = restMs > 0 || attempts === 0 ? after(restMs, () => stop.abort(timeout)) : () => {};
    const exhausted = attempts >= maxAttempts && new SubmissionRetryExhaustedError({ attemptCount: attempts });
    const spent = exhausted || (attempts > 0 && restMs <= 0 && timeout) || undefined;
    root.signal.addEventListener('abort', () => stopTimer(), { once: true }); // what is suspended never comes to its end
    const letSleep = root.sandbox.keepAwake?.();
    try {
      const session = await root.session();
      const steps = new Steps(this.#journal, lane(scope.submissionId));
      const asSignal = typeof said === 'string' ? undefined : said;
      const text = typeof said === 'string' ? said : signalText(said);
      const options = { images, signal: stop.signal };
      return await session.promptAs({ scope, meter, steps }, text, options, { signal: asSignal, spent });
    } catch (error) {
      throw stop.signal.reason === timeout ? timeout : error;
    } finally {
      stopTimer();
      stop.release();
      letSleep?.();
    }
  }

  /** With nothing to do, it is left to other processes. */
  async #letOthers(): Promise<void> {
    if (this.#unsettled.size === 0) await this.#journal.release().catch(() => {}); // it was logged, or ends by itself
  }

  #put(submission: Submission, state: SubmissionState, more: Partial<Progress>): void {
    submission.progress = { ...submission.progress, ...more };
    const progress = JSON.stringify(submission.progress);
    this.#journal.put({ kind: 'submission', id: submission.scope.submissionId, state, progress });
  }

  async #claim(): Promise<void> {
    if (!(await this.#journal.claim())) throw new WriteRefusedError('lease');
  }

  /** One that could not be opened, or has lost its sandbox, is tried again by the next submission. */
  async #root(resume: boolean): Promise<OpenHarness> {
    if (await (await this.#harness)?.sandbox.isGone?.()) await this.#closeHarness();
    if (!this.#harness) {
      this.#rest = new Rest();
      this.#harness = this.#openHarness({
        journal: this.#journal,
        meter: new UsageMeter(),
        rest: this.#rest,
        mailbox: undefined,
        resume,
        signal: this.#stop.signal,
      });
    }
    try {
      return await this.#harness;
    } catch (error) {
      this.#harness = undefined;
      throw error;
    }
  }

  /** After a failed write nothing that is in memory is known to be in the store. */
  async #reopen(): Promise<void> {
    await this.#end();
    this.#journal = this.#openJournal();
  }

  async #end(outcome?: WorkOutcome): Promise<void> {
    // Whoever has it now is at work in the same sandbox.
    if (!(await this.#journal.claim().catch(() => false))) this.#rest.end('left');
    await this.#closeHarness(outcome);
    await this.#journal.close().catch(() => {}); // it was logged
    if (this.#journal.lease) await this.#store.release(this.#journal.lease).catch(() => {}); // it ends by itself
  }

  async #closeHarness(outcome?: WorkOutcome): Promise<void> {
    const harness = await this.#harness?.catch(() => undefined); // whoever asked for it has the error
    this.#harness = undefined;
    await harness?.close(outcome);
  }
}

function isSettled(state: SubmissionState): boolean {
  return state !== 'queued' && state !== 'running';
}

function progressOf({ progress = '{}' }: Pick<SubmissionRow, 'progress'>): Progress {
  return JSON.parse(progress) as Progress; // it was written here
}

/** The position of what is done for a submission. */
function lane(submissionId: string): string {
  return `submission.${submissionId}`;
}

/** A hash, since it may be large. */
function payloadHash({ images, ...content }: Payload): string {
  const json = canonicalJson({ ...content, images: images.map(({ data, mimeType }) => ({ data, mimeType })) });
  return createHash('sha256').update(json).digest('hex');
}

/** The receipt of a submission that is not under way in this process. */
function storedReceipt(
  store: Store,
  submissionId: string,
  { dispatchId, acceptedAt }: Admitted,
  closed: AbortSignal,
): Receipt {
  let result: Promise<PromptResult> | undefined;
  return {
    dispatchId,
    submissionId,
    acceptedAt,
    result: () => {
      result ??= storedResult(store, submissionId, closed);
      return result;
    },
  };
}

async function storedResult(
  store: Store,
  submissionId: string,
  closed: AbortSignal,
  signal?: AbortSignal,
): Promise<PromptResult> {
  for (;;) {
    closed.throwIfAborted();
    const row = await store.submission(submissionId);
    const ended = row && isSettled(row.state) ? progressOf(row) : {};
    if (ended.result) return ended.result;
    if (ended.error) throw restoredError(ended.error);
    if (signal?.aborted) throw new SubmissionAbortedError({ submissionId, reason: String(signal.reason) });
    await sleep(pollMs, undefined, signal && { signal }).catch(() => {}); // aborted: it is looked at once more
  }
}
