import type { Emit } from '../events/event.ts';
import { derivedId, newId } from '../id.ts';
import type { AssistantMessage, ImagePart, Message, ToolMessage, Usage, UserMessage } from '../model/model.ts';
import { addUsage, noUsage } from '../model/usage.ts';
import type { OwnerJournal } from '../run/owner-journal.ts';
import { attachmentId, withImageIds, withImages, withoutImages } from './attachments.ts';
import { AttachmentConflictError } from './errors.ts';
import { type HistoryMessage, toHistory } from './history.ts';
import type { Preamble } from './preamble.ts';
import { type Signal, signalText } from './signal.ts';

/** What is added to a conversation. */
export type NewRecord =
  | { type: 'user'; message: UserMessage }
  | { type: 'assistant'; message: AssistantMessage; turnId?: string }
  | { type: 'tool'; message: ToolMessage }
  | ({ type: 'signal'; images?: readonly ImagePart[] } & Signal)
  | ({ type: 'compaction' } & Compaction)
  | ({ type: 'preamble'; configuration: string } & Preamble);

/** From here on a summary stands in place of what was before the record `firstKeptId`. */
export interface Compaction {
  summary: string;
  firstKeptId: string;
  /** What tools read and changed before that record, also before earlier compactions: paths as the model wrote them. */
  files: { read: string[]; changed: string[] };
}

/** One entry of a conversation. It never changes. The operation is the one that it came of. */
export type ConversationRecord = NewRecord & { id: string; timestamp: string; operationId?: string };

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

/** Adds a message that did not come as a stream, and tells of it. @param record - of the same content */
export async function say(
  conversation: Conversation,
  message: UserMessage | AssistantMessage,
  emit: Emit,
  record = messageRecord(message),
): Promise<void> {
  emit({ type: 'message_start', message });
  await conversation.append(record);
  emit({ type: 'message_end', message });
}

/** Where a conversation is kept. */
export interface Keeping {
  journal: OwnerJournal;
  /** Those that the store has, one of which it may be. */
  kept: KeptConversations;
  /** The names of the harness and the session that it is of. */
  harness: string;
  session: string;
  /** How many the session had before, which were deleted. */
  before: number;
}

/** The conversations of a run or an agent instance that the store has, by their ids, with their usage so far. */
export type KeptConversations = ReadonlyMap<string, Usage>;

/** What is kept of a conversation, besides its records. */
type Described = Pick<Keeping, 'harness' | 'session'> & { usage?: Usage };

const pageSize = 256;

/** All that was said in one conversation, in order. What the store has of it is read when it is first asked for. */
export class Conversation {
  readonly id: string;
  readonly #keeping: Keeping | undefined;
  #loading: Promise<void> | undefined;
  #records: ConversationRecord[] = [];
  #usage: Usage;
  /** The store knows of it. */
  #isKept: boolean;
  #removed = false;
  /** What is added comes of it. */
  operationId: string | undefined;

  /** @param keeping - Default: it is in memory only */
  constructor(keeping?: Keeping) {
    this.#keeping = keeping;
    this.id = keeping ? conversationId(keeping) : newId('conv');
    const usage = keeping?.kept.get(this.id);
    this.#isKept = usage !== undefined;
    this.#loading = usage === undefined ? Promise.resolve() : undefined;
    this.#usage = usage ?? noUsage();
  }

  /** Of all that was done in it. */
  get usage(): Usage {
    return this.#usage;
  }

  /** Counts a model request. */
  add(usage: Usage): void {
    this.#usage = addUsage(this.#usage, usage);
    if (!this.#removed) this.#describe();
  }

  /**
   * Resolves when the record is kept. After `remove` nothing is.
   * @throws {AttachmentConflictError} the store has other bytes under the id of one of its images
   */
  async append(added: NewRecord): Promise<void> {
    await this.#load();
    // The model gets what is kept, in this process as in a later one.
    const { operationId } = this;
    // An object that begins with one spread, and has more, would be of a hidden class of its own in V8: three times the memory.
    const record = this.#masked({
      id: newId('msg'),
      timestamp: new Date().toISOString(),
      ...(operationId !== undefined && { operationId }),
      ...added,
    });
    const { json, images } = withoutImages(record);
    for (const image of images) await this.#checkAttachment(image);
    if (this.#removed) return;
    const seq = this.#records.push(record) - 1;
    const journal = this.#keeping?.journal;
    if (!journal) return;
    if (!this.#isKept) this.#describe();
    for (const image of images) journal.put({ kind: 'attachment', conversation: this.id, ...image });
    journal.put({ kind: 'record', conversation: this.id, seq, json });
    await journal.flush();
  }

  /**
   * What a model gets before the messages: made and recorded at the first turn, and used again until a compaction or
   * another configuration, so that what a provider caches stays good.
   */
  async preamble(configuration: string, make: () => Promise<Preamble>): Promise<Preamble> {
    await this.#load();
    const last = this.#records.findLast(({ type }) => type === 'preamble' || type === 'compaction');
    if (last?.type === 'preamble' && last.configuration === configuration) return last;
    const made = this.#masked({ type: 'preamble' as const, configuration, ...(await make()) });
    await this.append(made);
    return made;
  }

  /** Every record, those before a compaction too. */
  async records(): Promise<readonly ConversationRecord[]> {
    await this.#load();
    return this.#records;
  }

  /** What goes into a request: the latest summary, if there is one, and the messages that it left. */
  async messages(): Promise<Message[]> {
    await this.#load();
    return toMessages(this.#records);
  }

  /** An image that the model can name: one of `messages()`. */
  async image(id: string): Promise<ImagePart | undefined> {
    for (const { content } of await this.messages()) {
      for (const part of content) if (part.type === 'image' && attachmentId(part) === id) return part;
    }
    return undefined;
  }

  async history(): Promise<HistoryMessage[]> {
    await this.#load();
    return toHistory(this.#records);
  }

  async remove(): Promise<void> {
    this.#removed = true;
    this.#records = [];
    if (!this.#keeping || !this.#isKept) return;
    this.#isKept = false;
    this.#keeping.journal.put({ kind: 'conversation.remove', id: this.id });
    await this.#keeping.journal.flush();
  }

  async #checkAttachment({ id, digest }: { id: string; digest: string }): Promise<void> {
    const { store, owner } = this.#keeping?.journal ?? {};
    const stored = owner && (await store?.attachment(owner, this.id, id));
    if (stored && stored.digest !== digest) throw new AttachmentConflictError({ attachmentId: id });
  }

  #masked<Value>(value: Value): Value {
    return this.#keeping ? this.#keeping.journal.masker.value(value) : value;
  }

  /** Says with the next write what is known of it, besides its records. */
  #describe(): void {
    if (!this.#keeping) return;
    this.#isKept = true;
    const { journal, harness, session } = this.#keeping;
    journal.put({ kind: 'conversation', id: this.id, json: JSON.stringify({ harness, session, usage: this.#usage }) });
  }

  async #load(): Promise<void> {
    this.#loading ??= this.#keeping && this.#read(this.#keeping.journal);
    await this.#loading;
  }

  async #read({ store, owner }: OwnerJournal): Promise<void> {
    const records: ConversationRecord[] = [];
    for (let after = -1; ; ) {
      const page = await store.records(owner, this.id, { after, limit: pageSize });
      for (const { seq, json } of page) {
        after = seq;
        const attachment = (id: string) => store.attachment(owner, this.id, id);
        records.push((await withImages(json, attachment)) as ConversationRecord); // it was written here
      }
      if (page.length < pageSize) break;
    }
    this.#records = records;
  }
}

export async function keptConversations({ store, owner }: OwnerJournal): Promise<KeptConversations> {
  const found = new Map<string, Usage>();
  for (let after = ''; ; ) {
    const page = await store.conversations(owner, { after, limit: pageSize });
    for (const { id, json } of page) {
      after = id;
      const { usage } = JSON.parse(json) as Described; // it was written here
      found.set(id, usage ?? noUsage());
    }
    if (page.length < pageSize) return found;
  }
}

/** The same whenever the same code runs again. */
function conversationId({ journal, harness, session, before }: Keeping): string {
  return derivedId('conv', JSON.stringify([journal.owner, harness, session, before]));
}

function toMessages(records: readonly ConversationRecord[]): Message[] {
  const { summary, kept } = inContext(records);
  return [...(summary ? [toSummaryMessage(summary)] : []), ...kept.flatMap(toMessage).map(withImageIds)];
}

/** The latest summary, and the records that it left; all of them where there is none. */
export function inContext(records: readonly ConversationRecord[]): {
  summary: Compaction | undefined;
  kept: ConversationRecord[];
} {
  const summary = records.findLast((record) => record.type === 'compaction');
  const start = summary ? records.findIndex(({ id }) => id === summary.firstKeptId) : 0;
  // Of summaries only the latest counts.
  return { summary, kept: records.slice(start).filter(({ type }) => type !== 'compaction' && type !== 'preamble') };
}

/** A record as a message to the model; what stands in front of them all, as a summary does, has none of its own. */
export function toMessage(record: ConversationRecord): Message[] {
  switch (record.type) {
    case 'compaction':
    case 'preamble':
      return [];
    case 'signal':
      return [userMessage(signalText(record), record.images)];
    default:
      return [record.message];
  }
}

function toSummaryMessage({ summary, files }: Compaction): Message {
  const lists = [list('Files read', files.read), list('Files changed', files.changed)];
  const content = [summary, ...lists.filter((text) => text !== '')].join('\n\n');
  return userMessage(signalText({ tag: 'compaction', attributes: { type: 'context_summary' }, content }));
}

function list(title: string, paths: string[]): string {
  return paths.length === 0 ? '' : [`${title}:`, ...paths.map((path) => `- ${path}`)].join('\n');
}

function userMessage(text: string, images: readonly ImagePart[] = []): UserMessage {
  return { role: 'user', content: [{ type: 'text', text }, ...images] };
}
