import type { AgentDefinition } from '../define/agent.ts';
import { SubmissionAbortedError, SubmissionConflictError } from '../errors.ts';
import type { Emit } from '../events/event.ts';
import type { EventLog } from '../events/event-log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { newId } from '../id.ts';
import type { OpenRootHarness } from '../run/run.ts';
import type { Admit } from '../run/slots.ts';
import type { PromptResult } from '../session/session.ts';

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

/** An agent with a sandbox and one conversation, and an inbox that it works through in order. */
export class AgentInstance {
  readonly agent: AgentDefinition;
  readonly #receipts = new Map<string, { text: string; receipt: Receipt }>();
  readonly #log: EventLog;
  readonly #openHarness: OpenRootHarness;
  readonly #admit: Admit;
  readonly #stop = new AbortController();
  #harness: Promise<OpenHarness> | undefined;
  /** Events of the harness belong to the submission that is worked on. */
  #emit: Emit;
  #last: Promise<unknown> = Promise.resolve();

  /** `admit` runs the work when there is room for it. */
  constructor(options: {
    agent: AgentDefinition;
    log: EventLog;
    openHarness: OpenRootHarness;
    admit: Admit;
  }) {
    this.agent = options.agent;
    this.#log = options.log;
    this.#emit = options.log.emit;
    this.#openHarness = options.openHarness;
    this.#admit = options.admit;
  }

  /** @throws {SubmissionConflictError} the key was used with another text */
  submit(text: string, key?: string): Receipt {
    const known = key === undefined ? undefined : this.#receipts.get(key);
    if (known?.text === text) return known.receipt;
    if (known) throw new SubmissionConflictError({ key: key ?? '' });
    const dispatchId = newId('disp');
    const submissionId = newId('sub');
    const result = this.#last.then(() =>
      this.#admit(() => this.#work(text, { dispatchId, submissionId }), new AbortController().signal),
    );
    this.#last = result.catch(() => {}); // the next one runs all the same
    const receipt = { dispatchId, submissionId, acceptedAt: new Date().toISOString(), result: () => result };
    if (key !== undefined) this.#keep(key, { text, receipt });
    return receipt;
  }

  /** Aborts what is under way, settles what waits, and ends the sandbox. */
  async close(): Promise<void> {
    this.#stop.abort('The runtime was closed.');
    await this.#last;
    const harness = await this.#harness?.catch(() => undefined); // whoever asked for it has the error
    await harness?.close();
    this.#log.close();
  }

  #keep(key: string, kept: { text: string; receipt: Receipt }): void {
    this.#receipts.set(key, kept);
    for (const [oldest] of this.#receipts) {
      if (this.#receipts.size <= maxKeptReceipts) return;
      this.#receipts.delete(oldest);
    }
  }

  async #work(text: string, scope: { dispatchId: string; submissionId: string }): Promise<PromptResult> {
    const meter = new UsageMeter();
    const emit = meter.counting(within(this.#log.emit, scope));
    this.#emit = emit;
    const startedAt = performance.now();
    const settle = (outcome: { result: PromptResult } | { error: unknown }) => {
      const failed = 'error' in outcome;
      emit({
        type: 'submission_settled',
        outcome: !failed ? 'completed' : this.#stop.signal.aborted ? 'aborted' : 'failed',
        ...(failed ? { error: recordedError(outcome.error) } : { result: outcome.result }),
        durationMs: Math.round(performance.now() - startedAt),
        isError: failed,
        usage: meter.total,
      });
    };
    try {
      if (this.#stop.signal.aborted) throw new SubmissionAbortedError({ submissionId: scope.submissionId });
      emit({ type: 'submission_start', kind: 'dispatch' });
      const session = await (await this.#root()).session();
      const result = await session.prompt(text);
      settle({ result });
      return result;
    } catch (cause) {
      const aborted = this.#stop.signal.aborted;
      const error = aborted ? new SubmissionAbortedError({ submissionId: scope.submissionId }, { cause }) : cause;
      settle({ error });
      throw error;
    }
  }

  /** One that could not be opened is tried again by the next submission. */
  async #root(): Promise<OpenHarness> {
    this.#harness ??= this.#openHarness({
      emit: (body, scope) => this.#emit(body, scope),
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
