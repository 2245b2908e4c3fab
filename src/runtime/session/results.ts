import type { ToolCallPart, ToolMessage } from '../model/model.ts';
import type { ConversationRecord } from './conversation.ts';

/** The results of calls. By the calls themselves: some models give the same ids in each turn. */
export function resultsOf(records: readonly ConversationRecord[]): ReadonlyMap<ToolCallPart, ToolMessage> {
  const results = new Map<ToolCallPart, ToolMessage>();
  const latest = new Map<string, ToolCallPart>();
  for (const record of records) {
    if (record.type === 'assistant') {
      for (const part of record.message.content) if (part.type === 'tool-call') latest.set(part.toolCallId, part);
    } else if (record.type === 'tool') {
      const call = latest.get(record.message.toolCallId);
      if (call) results.set(call, record.message);
    }
  }
  return results;
}
