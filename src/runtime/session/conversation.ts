import type { Emit } from '../events/event.ts';
import { newId } from '../id.ts';
import type { AssistantMessage, Message, ToolMessage, UserMessage } from '../model/model.ts';
import { type HistoryMessage, toHistory } from './history.ts';
import { signalText } from './signal.ts';

/** What is added to a conversation. */
export type NewRecord =
  | { type: 'user'; message: UserMessage }
  | { type: 'assistant'; message: AssistantMessage }
  | { type: 'tool'; message: ToolMessage }
  /** A message that is not from a person. */
  | { type: 'signal'; tag: string; attributes: Readonly<Record<string, string>>; content: string }
  /** From here on a summary stands in place of what was before the record `firstKeptId`. */
  | { type: 'compaction'; summary: string; firstKeptId: string };

/** One entry of a conversation. It never changes. */
export type ConversationRecord = NewRecord & { id: string; timestamp: string };

/** The record of a message of the loop. */
export function messageRecord(message: Message): NewRecord {
  switch (message.role) {
    case 'user':
      return { type: 'user', message };
    case 'assistant':
      return { type: 'assistant', message };
    case 'tool':
      return { type: 'tool', message };
  }
}

/** Adds a message that did not come as a stream, and tells of it. */
export async function say(
  conversation: Conversation,
  message: UserMessage | AssistantMessage,
  emit: Emit,
): Promise<void> {
  emit({ type: 'message_start', message });
  await conversation.append(messageRecord(message));
  emit({ type: 'message_end', message });
}

/** All that was said in one conversation, in order. In memory. */
export class Conversation {
  readonly id = newId('conv');
  #records: ConversationRecord[] = [];
  #system: string | undefined;
  #removed = false;

  /** Resolves when the record is kept. After `remove` nothing is. */
  async append(record: NewRecord): Promise<void> {
    if (this.#removed) return;
    this.#records.push({ id: newId('msg'), timestamp: new Date().toISOString(), ...record });
    if (record.type === 'compaction') this.#system = undefined;
  }

  /** The system prompt: made at the first turn and kept until a compaction, so that what a provider caches stays good. */
  async system(make: () => Promise<string>): Promise<string> {
    this.#system ??= await make();
    return this.#system;
  }

  /** Every record, those before a compaction too. */
  async records(): Promise<readonly ConversationRecord[]> {
    return this.#records;
  }

  /** What goes into a request: the latest summary, if there is one, and the messages that it left. */
  async messages(): Promise<Message[]> {
    return toMessages(this.#records);
  }

  async history(): Promise<HistoryMessage[]> {
    return toHistory(this.#records);
  }

  async remove(): Promise<void> {
    this.#removed = true;
    this.#records = [];
  }
}

function toMessages(records: readonly ConversationRecord[]): Message[] {
  const latest = records.findLast((record) => record.type === 'compaction');
  if (!latest) return records.flatMap(toMessage);
  const kept = records.slice(records.findIndex(({ id }) => id === latest.firstKeptId));
  return [
    userMessage(signalText('compaction', { type: 'context_summary' }, latest.summary)),
    ...kept.flatMap(toMessage),
  ];
}

function toMessage(record: ConversationRecord): Message[] {
  switch (record.type) {
    case 'compaction':
      return []; // only the latest counts, and it stands in front
    case 'signal':
      return [userMessage(signalText(record.tag, record.attributes, record.content))];
    default:
      return [record.message];
  }
}

function userMessage(text: string): UserMessage {
  return { role: 'user', content: [{ type: 'text', text }] };
}
