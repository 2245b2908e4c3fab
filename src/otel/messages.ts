import type { Message } from '../runtime/model/model.ts';

/** The form of the attribute `gen_ai.system_instructions`. */
export function systemInstructions(text: string): string {
  return JSON.stringify([{ type: 'text', content: text }]);
}

/** A message in the form of `gen_ai.input.messages` and `gen_ai.output.messages`, without images. */
export function toMessage(message: Message): unknown {
  if (message.role === 'tool') {
    return { role: 'tool', parts: [{ type: 'tool_call_response', id: message.toolCallId, response: message.content }] };
  }
  const parts = message.content.map((part) => {
    if (part.type === 'tool-call') {
      return { type: 'tool_call', id: part.toolCallId, name: part.toolName, arguments: part.input };
    }
    if (part.type === 'image') return { type: 'blob', modality: 'image', mime_type: part.mimeType };
    return { type: part.type === 'thinking' ? 'reasoning' : 'text', content: part.text };
  });
  const ended = message.role === 'assistant' && message.finishReason;
  return { role: message.role, parts, ...(ended && { finish_reason: message.finishReason }) };
}
