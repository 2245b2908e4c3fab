import type { CallToolResult, ContentBlock } from '@modelcontextprotocol/sdk/types.js';
import type { ImagePart, TextPart } from '../model/model.ts';
import { type ToolResult, textResult } from '../model/tool.ts';
import { contentKind, imageTypes } from '../tools/content-kind.ts';

const maxImageBytes = 10 * 1024 * 1024; // as of a file that is read

/** What a server answered to a call, as a model gets it. */
export function toolResult({ structuredContent, content, isError }: CallToolResult): ToolResult {
  const structured = structuredContent === undefined ? [] : [text(JSON.stringify(structuredContent))];
  const parts = [...structured, ...content.map(shown)];
  if (parts.length === 0) return textResult('(no content)', { isError: isError === true });
  return { content: parts, isError: isError === true };
}

function shown(item: ContentBlock): TextPart | ImagePart {
  switch (item.type) {
    case 'text':
      return text(item.text);
    case 'image':
      return image(item.data, item.mimeType);
    case 'audio':
      return text(sized('audio', item.mimeType, Buffer.byteLength(item.data, 'base64')));
    case 'resource_link':
      return text(`${item.name}: ${item.uri}`);
    case 'resource': {
      const { resource } = item;
      if ('text' in resource) return text(resource.text);
      return text(sized(resource.uri, resource.mimeType, Buffer.byteLength(resource.blob, 'base64')));
    }
  }
}

/** By its bytes, not by what the server says: a provider refuses the whole request for an image that is none. */
function image(data: string, mimeType: string): TextPart | ImagePart {
  const bytes = Buffer.from(data, 'base64');
  const kind = contentKind(bytes);
  if (!imageTypes.has(kind) || bytes.length > maxImageBytes) return text(sized('image', mimeType, bytes.length));
  return { type: 'image', data: bytes.toString('base64'), mimeType: kind };
}

function sized(what: string, type: string | undefined, bytes: number): string {
  return `[${what}: ${type ?? 'unknown type'}, ${bytes} bytes, not shown]`;
}

function text(value: string): TextPart {
  return { type: 'text', text: value };
}
