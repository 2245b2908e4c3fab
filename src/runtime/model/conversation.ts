import type { AssistantMessage, ImagePart, Message, TextPart, ToolMessage } from './model.ts';
import { boundaryBefore } from './utf8.ts';

/** Bytes of one tool result that a model gets to see. */
export const TOOL_TEXT_LIMIT = 256 * 1024;

/** The text blocks of an answer, joined with newlines. */
export function textOf(message: AssistantMessage): string {
  return message.content
    .filter((part) => part.type === 'text')
    .map((part) => part.text)
    .join('\n');
}

/**
 * What of a conversation goes into a request: answers that broke off are left out, results of tools stand in the order
 * of their calls, no text of a tool is longer than 256 KB, and a model that takes no images is told of them.
 */
export function sendable(conversation: Message[], seesImages: boolean): Message[] {
  const messages: Message[] = [];
  let order: string[] = [];
  let results: ToolMessage[] = [];
  const flush = () => {
    messages.push(...results.sort((a, b) => order.indexOf(a.toolCallId) - order.indexOf(b.toolCallId)).map(cutTexts));
    results = [];
  };
  for (const message of conversation) {
    if (message.role === 'tool') {
      results.push(message);
      continue;
    }
    flush();
    if (message.role === 'assistant') {
      if (brokeOff(message)) continue;
      order = message.content.filter((part) => part.type === 'tool-call').map(({ toolCallId }) => toolCallId);
    }
    messages.push(message);
  }
  flush();
  return seesImages ? messages : messages.map(withoutImages);
}

/** Nothing of such an answer is sent again. */
export function brokeOff({ finishReason }: AssistantMessage): boolean {
  return finishReason === 'error' || finishReason === 'aborted';
}

/** A tool of an MCP server may give any, and a conversation may have begun with another model. */
function withoutImages(message: Message): Message {
  if (message.role === 'assistant') return message;
  const content = message.content.map((part): TextPart | ImagePart =>
    part.type === 'image' ? { type: 'text', text: `[An image (${part.mimeType}): you can't see images.]` } : part,
  );
  return { ...message, content };
}

function cutTexts(message: ToolMessage): ToolMessage {
  const content = message.content.map((part): TextPart | ImagePart => {
    if (part.type !== 'text' || part.text.length * 3 <= TOOL_TEXT_LIMIT) return part; // a unit has at most 3 bytes
    const bytes = Buffer.from(part.text);
    if (bytes.length <= TOOL_TEXT_LIMIT) return part;
    const kept = bytes.subarray(0, boundaryBefore(bytes, TOOL_TEXT_LIMIT)).toString();
    return { ...part, text: `${kept}\n[Cut: this is the first ${TOOL_TEXT_LIMIT} of ${bytes.length} bytes.]` };
  });
  return { ...message, content };
}
