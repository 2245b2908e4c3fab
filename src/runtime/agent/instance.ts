import type { AgentDefinition } from '../define/agent.ts';
import { SubmissionAbortedError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter, within } from '../events/scope.ts';
import type { OpenHarness } from '../harness/open-harness.ts';
import { newId } from '../id.ts';
import type { OpenRootHarness } from '../run/run.ts';
import type { PromptResult } from '../session/session.ts';

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
  readonly receipts = new Map<string, { text: string; receipt: Receipt }>();
  readonly #log: EventLog;
  readonly #openHarness: OpenRootHarness;
  readonly #stop = new AbortController();
  #harness: Promise<OpenHarness> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(agent: AgentDefinition, log: EventLog, openHarness: OpenRootHarness) {
    this.agent = agent;
    this.#log = log;
    this.#openHarness = openHarness;
  }

  submit(text: string): Receipt {
    const dispatchId = newId('disp');
    const submissionId = newId('sub');
    const result = this.#last.then(() => this.#work(text, { dispatchId, submissionId }));
    this.#last = result.catch(() => {}); // the next one runs all the same
    return { dispatchId, submissionId, acceptedAt: new Date().toISOString(), result: () => result };
  }

  /** Aborts what is under way, settles what waits, and ends the sandbox. */
  async close(): Promise<void> {
    this.#stop.abort('The runtime was closed.');
    await this.#last;
    await this.#harness?.then((harness) => harness.close());
    this.#log.close();
  }

  async #work(text: string, scope: { dispatchId: string; submissionId: string }): Promise<PromptResult> {
    const emit = within(this.#log.emit, scope);
    const meter = new UsageMeter();
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
    this.#harness ??= this.#openHarness({ log: this.#log, meter: new UsageMeter(), signal: this.#stop.signal });
    try {
      return await this.#harness;
    } catch (error) {
      this.#harness = undefined;
      throw error;
    }
  }
}
