import { createHash } from 'node:crypto';
import type { AgentDefinition } from '../define/agent.ts';
import { SubmissionAbortedError, SubmissionConflictError } from '../errors.ts';
import type { Emit } from '../events/event.ts';
import type { EventLog } from '../events/event-log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { newId } from '../id.ts';
import type { ImagePart } from '../model/model.ts';
import type { OpenRootHarness } from '../run/run.ts';
import type { Admit } from '../run/slots.ts';
import { canonicalJson, type JsonValue } from '../schema/snapshot.ts';
import type { PromptResult } from '../session/session.ts';
import { signalText } from '../session/signal.ts';

const maxKeptReceipts = 1_000;

/** What `dispatch` gives: the message was taken, and will be worked on in its turn. */
export interface Receipt {
  readonly dispatchId: string;
  readonly submissionId: string;
  /** ISO 8601. */
  readonly acceptedAt: string;
  /** @throws the error of the work; {SubmissionAbortedError} it was aborted */
  result(): Promise<PromptResult>;
}

/** What is put into the inbox: the words of a person, or data. */
export type Payload = ({ message: string } | { input: JsonValue }) & { images: ImagePart[] };

interface Submission {
  text: string;
  images: ImagePart[];
  scope: { dispatchId: string; submissionId: string };
  signal: AbortSignal;
}

/** An agent with a sandbox and one conversation, and an inbox that it works through in order. */
export class AgentInstance {
  readonly agent: AgentDefinition;
  readonly #names: { agent: string; id: string };
  /** By key; the payload as its hash, since it may be large. */
  readonly #receipts = new Map<string, { payload: string; receipt: Receipt }>();
  readonly #log: EventLog;
  readonly #openHarness: OpenRootHarness;
  readonly #admit: Admit;
  readonly #stop = new AbortController();
  /** One for each submission that is not settled. */
  readonly #unsettled = new Set<AbortController>();
  #harness: Promise<OpenHarness> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: {
    agent: AgentDefinition;
    /** The agent's name, and the id that the application chose. */
    names: { agent: string; id: string };
    log: EventLog;
    openHarness: OpenRootHarness;
    admit: Admit;
  }) {
    this.agent = options.agent;
    this.#names = options.names;
    this.#log = options.log;
    this.#openHarness = options.openHarness;
    this.#admit = options.admit;
  }

  /** @throws {SubmissionConflictError} the key was used with another payload */
  submit(payload: Payload, key?: string): Receipt {
    if (key === undefined) return this.#take(payload);
    const { images, ...content } = payload;
    const json = canonicalJson({ ...content, images: images.map(({ data, mimeType }) => ({ data, mimeType })) });
    const hash = createHash('sha256').update(json).digest('hex');
    const known = this.#receipts.get(key);
    if (known?.payload === hash) return known.receipt;
    if (known) throw new SubmissionConflictError({ key });
    const receipt = this.#take(payload);
    this.#keep(key, { payload: hash, receipt });
    return receipt;
  }

  /**
   * Aborts all that is not settled; resolves when it is.
   * @returns whether there was any
   */
  async abort(reason: string): Promise<boolean> {
    const any = this.#unsettled.size > 0;
    for (const stop of this.#unsettled) stop.abort(reason);
    await this.#last;
    return any;
  }

  /** Aborts what is under way, settles what waits, and ends the sandbox. */
  async close(): Promise<void> {
    const reason = 'The runtime was closed.';
    this.#stop.abort(reason);
    await this.abort(reason);
    const harness = await this.#harness?.catch(() => undefined); // whoever asked for it has the error
    await harness?.close();
    this.#log.close();
  }

  #take(payload: Payload): Receipt {
    const dispatchId = newId('disp');
    const submissionId = newId('sub');
    const acceptedAt = new Date().toISOString();
    const stop = new AbortController();
    this.#unsettled.add(stop);
    const submission: Submission = {
      text: this.#text(payload, { dispatchId, acceptedAt }),
      images: payload.images,
      scope: { dispatchId, submissionId },
      signal: stop.signal,
    };
    const result = this.#last.then(() => this.#settle(submission)).finally(() => this.#unsettled.delete(stop));
    this.#last = result.catch(() => {}); // the next one runs all the same
    return { dispatchId, submissionId, acceptedAt, result: () => result };
  }

  #text(payload: Payload, receipt: { dispatchId: string; acceptedAt: string }): string {
    if ('message' in payload) return payload.message;
    const attributes = { type: 'dispatch_input', ...this.#names, session: 'default', ...receipt };
    return signalText('dispatch', attributes, canonicalJson(payload.input, 2));
  }

  #keep(key: string, kept: { payload: string; receipt: Receipt }): void {
    this.#receipts.set(key, kept);
    for (const [oldest] of this.#receipts) {
      if (this.#receipts.size <= maxKeptReceipts) return;
      this.#receipts.delete(oldest);
    }
  }

  /** Works on a submission when its turn has come, and says how it ended. An answer that is complete stays so. */
  async #settle(submission: Submission): Promise<PromptResult> {
    const { scope, signal } = submission;
    const meter = new UsageMeter();
    const emit = within(this.#log.emit, scope);
    const startedAt = performance.now();
    const ending = (isError: boolean) => ({
      durationMs: Math.round(performance.now() - startedAt),
      isError,
      usage: meter.total,
    });
    let result: PromptResult;
    try {
      result = await this.#admit(() => this.#work(submission, emit, meter), signal);
    } catch (cause) {
      const error = signal.aborted
        ? new SubmissionAbortedError({ submissionId: scope.submissionId, reason: String(signal.reason) }, { cause })
        : cause;
      const outcome = signal.aborted ? 'aborted' : 'failed';
      emit({ type: 'submission_settled', outcome, error: recordedError(error), ...ending(true) });
      throw error;
    }
    emit({ type: 'submission_settled', outcome: 'completed', result, ...ending(false) });
    return result;
  }

  async #work({ text, images, scope, signal }: Submission, emit: Emit, meter: UsageMeter): Promise<PromptResult> {
    emit({ type: 'submission_start', kind: 'dispatch' });
    const session = await (await this.#root()).session();
    return session.promptAs({ scope, meter }, text, { images, signal });
  }

  /** One that could not be opened is tried again by the next submission. */
  async #root(): Promise<OpenHarness> {
    this.#harness ??= this.#openHarness({
      emit: this.#log.emit,
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
}
