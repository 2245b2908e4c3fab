import { abortError } from '../../errors.ts';
import { InvalidRequestError } from '../errors.ts';
import { recordedError } from '../events/recorded-error.ts';
import { graceMs } from '../harness/grace.ts';
import type { Operation } from '../harness/operation.ts';
import { ModelNotConfiguredError } from '../model/errors.ts';
import { type LoopResult, runLoop } from '../model/loop.ts';
import type { SkillReference } from '../skills/skill.ts';
import { AutomaticCompaction } from './compact.ts';
import { messageRecord, say } from './conversation.ts';
import type { OpenSession } from './open-session.ts';
import { promptTools } from './preamble.ts';
import { closeBroken, closeSpent, resumedPrompt } from './resumed.ts';
import type { PromptOptions, PromptResult } from './session.ts';
import type { Signal } from './signal.ts';
import { StructuredResult } from './structured-result.ts';

export interface HowToPrompt {
  /** Skills besides those of the agent, whose files the model can read. */
  further?: readonly SkillReference[];
  /** That the text is of. */
  signal?: Signal | undefined;
  /** Why nothing more may be done for it: only an answer that is there already is taken. */
  spent?: Error | undefined;
}

/**
 * Adds a user message, or one that is not from a person, to the conversation and lets the model work until it stops. What
 * an earlier attempt has recorded of it is not done again.
 */
export async function runPrompt(
  session: OpenSession,
  text: string,
  options: PromptOptions,
  operation: Operation,
  { further = [], signal: said, spent }: HowToPrompt = {},
): Promise<PromptResult & { data?: unknown }> {
  const { harness, conversation } = session;
  const { signal, emit, place, meter, step } = operation;
  const { agent, depth } = place;
  const { journal, rest } = harness.parts;
  const given = options.model ?? agent.model;
  if (given === undefined) throw new ModelNotConfiguredError();
  const model = harness.parts.models.resolve(given);
  const structured = options.result && new StructuredResult(options.result);
  if (options.images?.length && model.seesImages === false) {
    throw new InvalidRequestError(`the model ${model.provider}/${model.id} takes no images`);
  }
  const resultTools = structured?.tools ?? [];
  const { tools, preamble } = await rest.busy(() =>
    promptTools(session, model, { ...options, further, resultTools }, operation),
  );
  const compaction = new AutomaticCompaction(session, model, operation);
  const { recorded } = journal;
  const resumed = step.isResumed
    ? await resumedPrompt(conversation, step.id('op'), { structured, recorded })
    : undefined;
  if (resumed?.usage) meter.restore(resumed.usage);
  // Some models give the same ids in each turn: a later call must not be taken for one of before.
  for (const id of resumed?.calls ?? []) step.toolCall(id);
  if (spent && !resumed?.isComplete) {
    await closeSpent(conversation, spent, emit);
    throw spent;
  }
  await preamble(); // before the user's message is told of
  if (signal.aborted) throw abortError(signal.reason);

  // Copies: what the application does to its own afterwards must not change what was said.
  const images = (options.images ?? []).map(({ data, mimeType }) => ({ type: 'image', data, mimeType }) as const);
  const asked = structured ? `${text}\n\n${structured.footer}` : text;
  const message = { role: 'user' as const, content: [{ type: 'text', text: asked } as const, ...images] };
  const record = said ? { type: 'signal' as const, ...said, images } : messageRecord(message);
  if (!resumed?.isSaid) await say(conversation, message, emit, record);
  const broken = resumed && recorded.brokenAnswer(step.id('op'));
  if (broken && broken.turnId !== resumed.start.answer?.turnId) await closeBroken(conversation, broken, model, emit);
  const startedAt = performance.now();
  emit({ type: 'agent_start' });
  const end = (error?: unknown) =>
    emit({
      type: 'agent_end',
      durationMs: Math.round(performance.now() - startedAt),
      isError: error !== undefined,
      usage: operation.meter.total,
      ...(error !== undefined && { error: recordedError(error) }),
    });
  let result: LoopResult;
  try {
    result = await runLoop({
      model,
      preamble,
      tools,
      thinkingLevel: options.thinkingLevel ?? agent.thinkingLevel,
      operation: 'prompt',
      signal,
      graceMs: graceMs(depth),
      context: () => conversation.messages(),
      record: (message, turnId) =>
        conversation.append({ ...messageRecord(message), ...(turnId !== undefined && { turnId }) }),
      emit,
      compaction,
      rest,
      before: resumed?.start,
      ...(structured && { followUp: () => structured.reminder() }),
      ...(options.maxTurns !== undefined && { maxTurns: options.maxTurns }),
    });
    await rest.busy(() => compaction.afterAnswer());
  } catch (error) {
    end(error);
    throw error;
  }
  end();
  const prompted: PromptResult = {
    text: result.text,
    usage: operation.meter.total,
    model: { provider: model.provider, id: model.id },
    finishReason: result.finishReason,
    turns: result.turns,
  };
  return structured ? structured.addTo(prompted) : prompted;
}
