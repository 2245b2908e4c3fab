import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { WriteRefusedError } from '../../journal/errors.ts';
import type { InstanceOwner, Lease, Store, SubmissionRow, SubmissionState } from '../../journal/store.ts';
import { after } from '../after.ts';
import type { AgentDefinition } from '../define/agent.ts';
import { SubmissionAbortedError, SubmissionConflictError, SubmissionTimeoutError } from '../errors.ts';
import type { RecordedError } from '../events/event.ts';
import { recordedError, restoredError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { opened } from '../harness/opened.ts';
import { newId } from '../id.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { ImagePart } from '../model/model.ts';
import type { OwnerJournal } from '../run/owner-journal.ts';
import type { OpenRootHarness } from '../run/run.ts';
import type { Admit } from '../run/slots.ts';
import { Steps } from '../run/step.ts';
import type { WorkOutcome } from '../sandbox/env.ts';
import { canonicalJson, type JsonValue } from '../schema/snapshot.ts';
import type { PromptResult } from '../session/session.ts';
import { type Signal, signalText } from '../session/signal.ts';

/** How often it is looked whether another process has let go of an instance, or settled a submission. */
const pollMs = 200;

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
   * The answer. That to a message of an earlier process, which was not settled by it, never comes.
   * @throws the error of the work; {SubmissionAbortedError} it was aborted; {StoreError} its end could not be recorded
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

/** How it ended. */
type Progress = { startedAt?: string; endedAt?: string } & ({ result?: PromptResult } | { error: RecordedError });

interface Submission {
  said: string | Signal;
  images: ImagePart[];
  scope: { dispatchId: string; submissionId: string };
  signal: AbortSignal;
  /** Aborts when somebody with a place for work waits for it. */
  urgent: AbortSignal;
  startedAt?: string;
}

/** An agent with a sandbox and one conversation, and an inbox that it works through in order. */
export class AgentInstance {
  readonly agent: AgentDefinition;
  readonly #owner: InstanceOwner;
  readonly #store: Store;
  readonly #isDurable: boolean;
  readonly #openJournal: () => OwnerJournal;
  readonly #openHarness: OpenRootHarness;
  readonly #admit: Admit;
  readonly #stop = new AbortController();
  /** One for each submission that is not settled, by its id. */
  readonly #unsettled = new Map<string, { receipt: Receipt; stop: AbortController; urgent: AbortController }>();
  #journal: OwnerJournal;
  #harness: Promise<OpenHarness> | undefined;
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
    /** Also after one has failed. */
    openJournal: () => OwnerJournal;
    openHarness: OpenRootHarness;
    admit: Admit;
  }) {
    this.agent = options.agent;
    this.#owner = options.owner;
    this.#store = options.store;
    this.#isDurable = options.isDurable;
    this.#openJournal = options.openJournal;
    this.#openHarness = options.openHarness;
    this.#admit = options.admit;
    this.#journal = options.openJournal();
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
   */
  async abort(reason: string): Promise<boolean> {
    await this.#admitted;
    const any = this.#unsettled.size > 0;
    for (const { stop } of this.#unsettled.values()) stop.abort(reason);
    await this.#last;
    return any;
  }

  /** Aborts what is under way, settles what waits, and ends the sandbox, unless later processes may ask for it. */
  async close(): Promise<void> {
    const reason = 'The runtime was closed.';
    this.#stop.abort(reason);
    await this.abort(reason);
    if (this.#isDurable) return this.#end();
    await this.#journal.claim().catch(() => {}); // only to tell of it
    await this.#end('completed');
  }

  async #take(payload: Payload, key: string | undefined): Promise<Receipt> {
    const admitted: Admitted = { dispatchId: newId('disp'), acceptedAt: new Date().toISOString(), payload };
    const { row, isNew } = await this.#store.admitSubmission({
      ...this.#owner,
      id: newId('sub'),
      ...(key !== undefined && { key }),
      json: JSON.stringify(admitted),
    });
    if (isNew) return this.#begin(row.id, admitted);
    const first = JSON.parse(row.json) as Admitted; // it was written here
    if (payloadHash(first.payload) !== payloadHash(payload)) throw new SubmissionConflictError({ key: key ?? '' });
    return this.#unsettled.get(row.id)?.receipt ?? storedReceipt(this.#store, row.id, first);
  }

  #begin(submissionId: string, { dispatchId, acceptedAt, payload }: Admitted): Receipt {
    const stop = new AbortController();
    const urgent = new AbortController();
    if (this.#stop.signal.aborted) stop.abort(this.#stop.signal.reason); // closed while it was taken in
    const submission: Submission = {
      said: this.#said(payload, { dispatchId, acceptedAt }),
      images: payload.images,
      scope: { dispatchId, submissionId },
      signal: stop.signal,
      urgent: urgent.signal,
    };
    const result = this.#last.then(() => this.#settle(submission)).finally(() => this.#unsettled.delete(submissionId));
    // The next one runs all the same.
    this.#last = result.catch(() => {}).then(() => this.#rest());
    const receipt = { dispatchId, submissionId, acceptedAt, result: () => result };
    this.#unsettled.set(submissionId, { receipt, stop, urgent });
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
    if (this.#journal.failure) await this.#reopen();
    const meter = new UsageMeter();
    const startedAt = performance.now();
    const settled = async (outcome: 'completed' | 'failed' | 'aborted', ended: Progress) => {
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
        while (!(await this.#journal.claim())) await sleep(pollMs, undefined, { signal });
        result = await this.#admit(() => this.#work(submission, meter), signal, submission.urgent);
      } catch (cause) {
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
      return storedResult(this.#store, scope.submissionId, signal);
    }
  }

  async #work(submission: Submission, meter: UsageMeter): Promise<PromptResult> {
    const { said, images, scope, signal } = submission;
    const { fence } = this.#journal.lease ?? {};
    // Others have had it meanwhile, so there is more in the store than here.
    if (fence !== undefined && this.#fence !== undefined && fence > this.#fence + 1) await this.#closeHarness();
    this.#fence = fence;
    submission.startedAt = new Date().toISOString();
    const emit = within(this.#journal.emit, scope);
    emit({ type: 'submission_start', kind: 'dispatch' });
    this.#put(submission, 'running', {});
    await this.#journal.flush();
    const startedAt = performance.now();
    const root = await opened(this.#root(), signal, emit);
    const { timeoutMs = defaultTimeoutMs } = root.parts.agent.durability;
    const timeout = new SubmissionTimeoutError({ submissionId: scope.submissionId, timeoutMs });
    const stop = new LinkedAbort(signal);
    const stopTimer = after(startedAt + timeoutMs - performance.now(), () => stop.abort(timeout));
    const letSleep = root.sandbox.keepAwake?.();
    try {
      const session = await root.session();
      const steps = new Steps(this.#journal, lane(scope.submissionId));
      const asSignal = typeof said === 'string' ? undefined : said;
      const text = typeof said === 'string' ? said : signalText(said);
      return await session.promptAs({ scope, meter, steps }, text, { images, signal: stop.signal }, asSignal);
    } catch (error) {
      throw stop.signal.reason === timeout ? timeout : error;
    } finally {
      stopTimer();
      stop.release();
      letSleep?.();
    }
  }

  /** With nothing to do, it is left to other processes. */
  async #rest(): Promise<void> {
    if (this.#unsettled.size === 0) await this.#journal.release().catch(() => {}); // it was logged, or ends by itself
  }

  #put({ scope, startedAt }: Submission, state: SubmissionState, progress: Progress): void {
    const json = JSON.stringify({ ...(startedAt !== undefined && { startedAt }), ...progress });
    this.#journal.put({ kind: 'submission', id: scope.submissionId, state, progress: json });
  }

  async #claim(): Promise<void> {
    if (!(await this.#journal.claim())) throw new WriteRefusedError('lease');
  }

  /** One that could not be opened, or has lost its sandbox, is tried again by the next submission. */
  async #root(): Promise<OpenHarness> {
    if (await (await this.#harness)?.sandbox.isGone?.()) await this.#closeHarness();
    this.#harness ??= this.#openHarness({
      journal: this.#journal,
      meter: new UsageMeter(),
      signal: this.#stop.signal,
    });
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
function storedReceipt(store: Store, submissionId: string, { dispatchId, acceptedAt }: Admitted): Receipt {
  let result: Promise<PromptResult> | undefined;
  return {
    dispatchId,
    submissionId,
    acceptedAt,
    result: () => {
      result ??= storedResult(store, submissionId);
      return result;
    },
  };
}

async function storedResult(store: Store, submissionId: string, signal?: AbortSignal): Promise<PromptResult> {
  for (;;) {
    const { state, progress = '{}' }: Partial<SubmissionRow> = (await store.submission(submissionId)) ?? {};
    const ended = JSON.parse(progress) as { result?: PromptResult; error?: RecordedError }; // it was written here
    if (state !== 'running' && ended.result) return ended.result;
    if (ended.error) throw restoredError(ended.error);
    if (signal?.aborted) throw new SubmissionAbortedError({ submissionId, reason: String(signal.reason) });
    await sleep(pollMs, undefined, signal && { signal }).catch(() => {}); // aborted: it is looked at once more
  }
}
