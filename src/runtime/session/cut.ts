import { brokeOff, TOOL_TEXT_LIMIT } from '../model/conversation.ts';
import type { Message } from '../model/model.ts';
import { type ConversationRecord, toMessage } from './conversation.ts';

const CHARACTERS_PER_TOKEN = 4;
const IMAGE_TOKENS = 1_200;

/** Where a conversation is cut: `history` and then `turn` give way to summaries, `firstKeptId` is the first that stays. */
export interface Cut {
  history: ConversationRecord[];
  /** The beginning of the turn that the cut goes through. */
  turn: ConversationRecord[];
  firstKeptId: string;
}

/**
 * Cuts a conversation so that about `keepTokens` of its newest messages stay, and no result without its call.
 * @param records - those that the latest summary left
 * @returns `undefined` when nothing is before the cut
 */
export function findCut(records: ConversationRecord[], keepTokens: number): Cut | undefined {
  const at = firstKept(records, keepTokens);
  const first = records[at];
  if (at <= 0 || !first) return undefined;
  const before = records.slice(0, at);
  // Without a beginning before the cut the turn began before the latest summary, which goes on with it.
  const start = first.type === 'assistant' ? before.findLastIndex(beginsTurn) : -1;
  return {
    history: start === -1 ? before : before.slice(0, start),
    turn: start === -1 ? [] : before.slice(start),
    firstKeptId: first.id,
  };
}

function firstKept(records: ConversationRecord[], keepTokens: number): number {
  let enough = records.length - 1;
  let tokens = 0;
  for (; enough > 0; enough--) {
    tokens += recordTokens(records[enough]);
    if (tokens >= keepTokens) break;
  }
  if (enough === 0) tokens += recordTokens(records[0]);
  const [next, afterNext] = records.flatMap((record, i) => (i >= enough && canBeFirst(record) ? [i] : []));
  // At the end may be results that are more than enough by themselves: they stay, with their calls.
  if (next === undefined) return records.findLastIndex(canBeFirst);
  // A message that is far more than enough by itself goes, unless it is the newest: with it, little would be gained.
  return next === enough && tokens > 2 * keepTokens ? (afterNext ?? next) : next;
}

function canBeFirst(record: ConversationRecord): boolean {
  return beginsTurn(record) || (record.type === 'assistant' && !brokeOff(record.message));
}

function beginsTurn({ type }: ConversationRecord): boolean {
  return type === 'user' || type === 'signal';
}

/** How long a request would be: what the provider said of the latest answer, with an estimate of what came since. */
export function contextTokens(records: readonly ConversationRecord[], all: readonly Message[]): number {
  let since = 0;
  for (let i = records.length - 1; i >= 0; i--) {
    const record = records[i];
    if (record?.type === 'compaction') break; // what was said before it was of a longer request
    const reported = record?.type === 'assistant' && !brokeOff(record.message) ? record.message.usage : undefined;
    if (reported && reported.totalTokens > 0) return reported.totalTokens + since;
    since += recordTokens(record);
  }
  return all.reduce((sum, message) => sum + messageTokens(message), 0);
}

function recordTokens(record: ConversationRecord | undefined): number {
  return record ? toMessage(record).reduce((sum, message) => sum + messageTokens(message), 0) : 0;
}

function messageTokens(message: Message): number {
  if (message.role === 'assistant' && brokeOff(message)) return 0;
  let tokens = 0;
  for (const part of message.content) {
    if (part.type === 'image') tokens += IMAGE_TOKENS;
    else if (part.type === 'tool-call') tokens += (part.toolName.length + part.input.length) / CHARACTERS_PER_TOKEN;
    else {
      const sent = message.role === 'tool' ? Math.min(part.text.length, TOOL_TEXT_LIMIT) : part.text.length;
      tokens += sent / CHARACTERS_PER_TOKEN;
    }
  }
  return Math.ceil(tokens);
}
