import { abortError } from '../../errors.ts';
import type { EventOf } from '../events/event.ts';
import { eventLog } from '../events/log.ts';
import { recordedError } from '../events/recorded-error.ts';
import { UsageMeter } from '../events/scope.ts';
import type { Operation } from '../harness/operation.ts';
import { answer } from '../model/answer.ts';
import { textOf } from '../model/conversation.ts';
import { ModelNotConfiguredError, OperationFailedError } from '../model/errors.ts';
import type { Model, ModelRequest } from '../model/model.ts';
import { type Compaction, inContext } from './conversation.ts';
import { type Cut, contextTokens, findCut } from './cut.ts';
import type { OpenSession } from './open-session.ts';
import { beginningRequest, filesOf, historyRequest, joinSummaries } from './summary.ts';

const mostSummaryTokens = 16_000;

/** What one compaction is done with. `model` is the one at work, `summarizer` the one that writes. */
interface Means {
  session: OpenSession;
  operation: Operation;
  model: Model | undefined;
  summarizer: Model | undefined;
}

/** Compacts now. Without effect when nothing is before the cut. */
export async function runCompact(session: OpenSession, operation: Operation): Promise<void> {
  const { agent } = operation.place;
  const { models } = session.harness.parts;
  const model = agent.model === undefined ? undefined : models.resolve(agent.model);
  await compact('manual', { session, operation, model, summarizer: summarizerOf(session, operation) ?? model });
}

/** The compactions of one operation that come by themselves. One that fails lets the operation go on. */
export class AutomaticCompaction {
  readonly #means: Means & { model: Model };
  #failed = false;
  #overflowed = false;

  constructor(session: OpenSession, model: Model, operation: Operation) {
    this.#means = { session, operation, model, summarizer: summarizerOf(session, operation) ?? model };
  }

  /** Compacts when less of the window is free than is to stay so. Rejects when aborted, and only then. */
  async whenFull(): Promise<void> {
    const { session, operation, model } = this.#means;
    const { compaction } = operation.place.agent;
    // What failed once would probably fail after each turn.
    if (compaction === false || model.contextWindow === undefined || this.#failed) return;
    const { reserve } = sizes(this.#means);
    const { conversation } = session;
    const tokens = contextTokens(await conversation.records(), await conversation.messages());
    if (tokens > model.contextWindow - reserve) await this.#compact('threshold');
  }

  /** As `whenFull`, when the operation has its result: an abort does not take that away. */
  async afterAnswer(): Promise<void> {
    const { signal } = this.#means.operation;
    if (signal.aborted) return;
    await this.whenFull().catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  /** Once per operation. Gives whether the next request will be shorter; rejects when aborted, and only then. */
  async afterOverflow(): Promise<boolean> {
    if (this.#overflowed) return false;
    this.#overflowed = true;
    return this.#compact('overflow');
  }

  async #compact(reason: Reason): Promise<boolean> {
    const { signal, emit } = this.#means.operation;
    try {
      return await compact(reason, this.#means);
    } catch (error) {
      if (signal.aborted) throw abortError(signal.reason);
      this.#failed = true;
      eventLog(emit).warn('The conversation could not be compacted', { error });
      return false;
    }
  }
}

type Reason = EventOf<'compaction_start'>['reason'];

/** Gives whether there was anything to do. */
async function compact(reason: Reason, means: Means): Promise<boolean> {
  const { conversation } = means.session;
  const records = await conversation.records();
  const { summary: previous, kept } = inContext(records);
  const cut = findCut(kept, sizes(means).keep);
  if (!cut) return false;
  if (!means.summarizer) throw new ModelNotConfiguredError();

  const meter = new UsageMeter();
  const { emit } = means.operation;
  const messages = await conversation.messages();
  const messagesBefore = messages.length;
  emit({ type: 'compaction_start', reason, estimatedTokens: contextTokens(records, messages) });
  const startedAt = performance.now();
  const end = (messagesAfter: number, error?: unknown) =>
    emit({
      type: 'compaction',
      messagesBefore,
      messagesAfter,
      durationMs: Math.round(performance.now() - startedAt),
      isError: error !== undefined,
      usage: meter.total,
      ...(error !== undefined && { error: recordedError(error) }),
    });
  try {
    const summary = await summaryOf(cut, previous, { ...means, summarizer: means.summarizer, meter });
    const files = filesOf([...cut.history, ...cut.turn], previous?.files);
    await conversation.append({ type: 'compaction', summary, firstKeptId: cut.firstKeptId, files });
  } catch (error) {
    end(messagesBefore, error);
    throw error;
  }
  end((await conversation.messages()).length);
  return true;
}

/** What takes the place of all that is before the cut. */
async function summaryOf(
  { history, turn }: Cut,
  previous: Compaction | undefined,
  means: Means & { summarizer: Model; meter: UsageMeter },
): Promise<string> {
  const { reserve } = sizes(means);
  const limit = (share: number) => Math.max(1, Math.min(Math.floor(share * reserve), mostSummaryTokens));
  const ofHistory =
    history.length === 0
      ? previous?.summary
      : await ask(historyRequest(history, previous?.summary, limit(0.8)), 'compaction', means);
  const ofTurn =
    turn.length === 0 ? undefined : await ask(beginningRequest(turn, limit(0.5)), 'compaction_prefix', means);
  return joinSummaries(ofHistory, ofTurn);
}

async function ask(
  request: ModelRequest,
  purpose: 'compaction' | 'compaction_prefix',
  { operation: { signal, emit }, summarizer, meter }: Means & { summarizer: Model; meter: UsageMeter },
): Promise<string> {
  const counted = meter.counting(emit);
  const { message } = await answer({
    model: summarizer,
    request: () => request,
    purpose,
    operation: 'compact',
    signal,
    // What it says is no message of the conversation.
    emit: (body, scope) => {
      if (['turn_start', 'turn_request', 'turn', 'retry'].includes(body.type)) counted(body, scope);
    },
    record: () => {},
  });
  const text = textOf(message).trim();
  if (text === '') throw new OperationFailedError({ operation: 'compact', reason: 'the model gave no summary' });
  return text;
}

function summarizerOf(session: OpenSession, { place: { agent } }: Operation): Model | undefined {
  const { model } = agent.compaction || {};
  return model === undefined ? undefined : session.harness.parts.models.resolve(model);
}

/** Tokens that are to stay free, and tokens of the newest messages that stay. */
function sizes({ model, operation }: Means): { reserve: number; keep: number } {
  const { reserveTokens, keepRecentTokens } = operation.place.agent.compaction || {};
  const { contextWindow: window = Number.POSITIVE_INFINITY, maxOutputTokens = Number.POSITIVE_INFINITY } = model ?? {};
  const usual = Math.min(20_000, maxOutputTokens);
  const reserve = reserveTokens ?? (2 * usual < window ? usual : Math.max(1_024, Math.floor(window / 3)));
  // In a small window 8,000 may be more than all that fits: then nothing would ever be before the cut.
  const keep = keepRecentTokens ?? Math.min(8_000, Math.max(0, Math.floor((window - reserve) / 2)));
  return { reserve, keep };
}
