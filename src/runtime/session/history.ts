import type { Message, ToolCallPart, ToolMessage, Usage } from '../model/model.ts';
import { attachmentId } from './attachments.ts';
import type { ConversationRecord } from './conversation.ts';
import { resultsOf } from './results.ts';
import { signalText } from './signal.ts';

/** A part of a message. `size` is bytes; `input` is what the model wrote, as text where that is no JSON. */
export type HistoryPart =
  | { type: 'text'; text: string; state: 'done' }
  | { type: 'reasoning'; text: string; state: 'done' }
  /** `id` names the image in its conversation, `size` is in bytes. */
  | { type: 'file'; mediaType: string; id: string; size: number }
  | {
      type: 'dynamic-tool';
      toolName: string;
      toolCallId: string;
      input: unknown;
      state: 'input-available' | 'output-available' | 'output-error';
      output?: unknown;
      errorText?: string;
    };

/** A message as readers see it: the results of tools are merged into their calls. */
export interface HistoryMessage {
  /** Its own; it stays the same. */
  id: string;
  /** `user` is what was told to the model, by whomever. */
  role: 'user' | 'assistant';
  /**
   * Texts, thoughts (`reasoning`), images (`file`, whose `size` is bytes) and tool calls (`dynamic-tool`), in their order. A
   * call that has a result has `output` (the value that a tool gave, else the text) or `errorText`.
   */
  parts: HistoryPart[];
  /** When it was recorded (ISO 8601); of an answer also its usage and model. */
  metadata: { timestamp: string; usage?: Usage; model?: { provider: string; id: string } };
}

export function toHistory(records: readonly ConversationRecord[]): HistoryMessage[] {
  const results = resultsOf(records);
  return records.flatMap((record): HistoryMessage[] => {
    const { id, timestamp } = record;
    switch (record.type) {
      case 'user': {
        const parts = record.message.content.map((part) => toPart(part, results));
        return [{ id, role: 'user', parts, metadata: { timestamp } }];
      }
      case 'assistant': {
        const { content, usage, model } = record.message;
        const parts = content.map((part) => toPart(part, results));
        return [
          { id, role: 'assistant', parts, metadata: { timestamp, ...(usage && { usage }), ...(model && { model }) } },
        ];
      }
      case 'signal': {
        const said = { type: 'text', text: signalText(record) } as const;
        const parts = [said, ...(record.images ?? [])].map((part) => toPart(part, results));
        return [{ id, role: 'user', parts, metadata: { timestamp } }];
      }
      default:
        return []; // a result stands in its call, a summary repeats what is there, a preamble is no message
    }
  });
}

function toPart(
  part: Exclude<Message, ToolMessage>['content'][number],
  results: ReturnType<typeof resultsOf>,
): HistoryPart {
  switch (part.type) {
    case 'text':
      return { type: 'text', text: part.text, state: 'done' };
    case 'thinking':
      return { type: 'reasoning', text: part.text, state: 'done' };
    case 'image':
      return {
        type: 'file',
        mediaType: part.mimeType,
        id: attachmentId(part),
        size: Buffer.byteLength(part.data, 'base64'),
      };
    case 'tool-call':
      return toCallPart(part, results.get(part));
  }
}

function toCallPart({ toolName, toolCallId, input }: ToolCallPart, result: ToolMessage | undefined): HistoryPart {
  const call = { type: 'dynamic-tool', toolName, toolCallId, input: parsed(input) } as const;
  if (!result) return { ...call, state: 'input-available' };
  const text = result.content.map((item) => (item.type === 'text' ? item.text : '')).join('\n');
  if (result.isError) return { ...call, state: 'output-error', errorText: text };
  // Of a validated output the value; what else is for programs (how a command ended, a diff) is not what was given.
  const isValue = result.details !== undefined && text === JSON.stringify(result.details);
  return { ...call, state: 'output-available', output: isValue ? result.details : text };
}

/** What the model wrote: it may not be JSON. */
function parsed(input: string): unknown {
  try {
    return JSON.parse(input);
  } catch {
    return input;
  }
}
