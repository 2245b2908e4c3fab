import type { Emit } from '../events/event.ts';
import { newId } from '../id.ts';
import { brokeOff } from '../model/conversation.ts';
import type { LoopStart } from '../model/loop.ts';
import type { AssistantMessage, Model, Usage, UserMessage } from '../model/model.ts';
import { addUsage } from '../model/usage.ts';
import type { BrokenAnswer, Recorded } from '../run/recorded.ts';
import { type Conversation, type ConversationRecord, say } from './conversation.ts';
import { type Signal, signalText } from './signal.ts';
import type { StructuredResult } from './structured-result.ts';

/** What an earlier attempt, which was interrupted, has left of a prompt. */
export interface ResumedPrompt {
  /** The message of the prompt is in the conversation. */
  isSaid: boolean;
  /** Of its own model requests. */
  usage: Usage | undefined;
  /** Ids of the calls whose results are there. */
  calls: string[];
  /** The model has given all that was asked for. */
  isComplete: boolean;
  start: LoopStart;
}

/** @param structured - gets what the model has given as a result */
export async function resumedPrompt(
  conversation: Conversation,
  operationId: string,
  { structured, recorded }: { structured: StructuredResult | undefined; recorded: Recorded },
): Promise<ResumedPrompt> {
  const records = (await conversation.records()).filter((record) => record.operationId === operationId);
  const said = records.filter(({ type }) => type !== 'preamble' && type !== 'compaction');
  const answers = said.flatMap((record) => (record.type === 'assistant' ? record.message : []));
  structured?.repeat(said);
  const isSettled = structured?.isSettled ?? false;
  const at = said.findLastIndex(({ type }) => type !== 'tool');
  const answer = lastAnswer(said[at], said.slice(at + 1));
  const isAnswered = answer !== undefined && !answer.message.content.some(({ type }) => type === 'tool-call');
  const usages = answers.flatMap(({ usage }) => usage ?? []);
  return {
    isSaid: said.length > 0,
    usage: usages.length === 0 ? undefined : usages.reduce(addUsage),
    calls: said.flatMap((record) => (record.type === 'tool' ? record.message.toolCallId : [])),
    isComplete: structured ? isSettled : isAnswered,
    start: {
      turns: answers.filter((message) => !brokeOff(message)).length,
      answer,
      isSettled,
      isOpen: (toolCallId) => recorded.isOpen(operationId, toolCallId),
    },
  };
}

/** The answer that the conversation ends with, with the results of its calls so far. */
function lastAnswer(record: ConversationRecord | undefined, after: readonly ConversationRecord[]): LoopStart['answer'] {
  if (record?.type !== 'assistant' || brokeOff(record.message)) return undefined;
  const { message, turnId = newId('turn') } = record;
  return { turnId, message, results: after.flatMap((each) => (each.type === 'tool' ? each.message : [])) };
}

const goOn =
  'Your answer was interrupted. What had come of it stands above: go on from there, and repeat nothing of it.';

/** Closes an answer that did not come to its end, and tells the model of what it had said, so that it goes on from there. */
export async function closeBroken(
  conversation: Conversation,
  { turnId, thinking, text }: BrokenAnswer,
  { provider, id }: Model,
  emit: Emit,
): Promise<void> {
  if (thinking === '' && text === '') return; // there is nothing of it
  const message: AssistantMessage = {
    role: 'assistant',
    content: [
      ...(thinking === '' ? [] : [{ type: 'thinking', text: thinking } as const]),
      ...(text === '' ? [] : [{ type: 'text', text } as const]),
    ],
    finishReason: 'aborted',
    model: { provider, id },
  };
  await conversation.append({ type: 'assistant', message, turnId });
  emit({ type: 'message_end', message }, { turnId });
  if (text === '') return; // thoughts are not said
  await tell(conversation, signalOf('stream_interrupted', text), emit);
  await tell(conversation, signalOf('stream_continued', goOn), emit);
}

/** Tells the model, the next time, why its work ended. */
export async function closeSpent(conversation: Conversation, { message }: Error, emit: Emit): Promise<void> {
  await tell(conversation, signalOf('submission_interrupted', message), emit);
}

function signalOf(type: string, content: string): Signal {
  return { tag: type, attributes: { type }, content };
}

function tell(conversation: Conversation, signal: Signal, emit: Emit): Promise<void> {
  const message: UserMessage = { role: 'user', content: [{ type: 'text', text: signalText(signal) }] };
  return say(conversation, message, emit, { type: 'signal', ...signal });
}
