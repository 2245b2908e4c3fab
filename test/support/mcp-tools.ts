import type { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const object = { type: 'object' };
const onePixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

/** The tools of the program below. */
export const mcpTools = [
  { name: 'echo', description: 'Says it again.', inputSchema: { ...object, properties: { text: { type: 'string' } } } },
  {
    name: 'add',
    description: 'Adds two numbers.',
    inputSchema: { ...object, properties: { a: { type: 'number' }, b: { type: 'number' } }, required: ['a', 'b'] },
    outputSchema: { ...object, properties: { sum: { type: 'number' } }, required: ['sum'] },
  },
  { name: 'everything', inputSchema: object },
  { name: 'fail', inputSchema: object },
  { name: 'big', inputSchema: { ...object, properties: { bytes: { type: 'number' } } } },
  { name: 'wait', inputSchema: object },
  { name: 'progress', inputSchema: object },
];

/** What a test server does. `told` gets what it sees of a call that waits. */
export function mcpProgram(
  server: Server,
  { pages, told }: { pages: { tools: object[]; nextCursor?: string }[]; told: { push(line: string): unknown } },
): void {
  server.setRequestHandler(ListToolsRequestSchema, ({ params }) => {
    const page = pages[Number(params?.cursor ?? 0)];
    if (!page) throw new Error('no such page');
    return { ...page };
  });
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, { signal, sendNotification, _meta }) => {
    const { name, arguments: input = {} } = params;
    switch (name) {
      case 'echo':
        return { content: [{ type: 'text', text: String(input.text) }] };
      case 'add': {
        const sum = input.a === 0 ? `${'n'.repeat(50)}!` : Number(input.a) + Number(input.b);
        return { structuredContent: { sum }, content: [{ type: 'text', text: `It is ${sum}.` }] };
      }
      case 'everything':
        return {
          content: [
            { type: 'text', text: 'a text' },
            { type: 'image', data: onePixel, mimeType: 'image/gif' },
            { type: 'image', data: Buffer.from('<svg/>').toString('base64'), mimeType: 'image/svg+xml' },
            { type: 'audio', data: Buffer.alloc(10).toString('base64'), mimeType: 'audio/wav' },
            { type: 'resource_link', name: 'the readme', uri: 'file:///README.md' },
            { type: 'resource', resource: { uri: 'file:///notes.txt', text: 'notes' } },
            {
              type: 'resource',
              resource: { uri: 'file:///a.bin', mimeType: 'application/x', blob: Buffer.alloc(5).toString('base64') },
            },
          ],
        };
      case 'fail':
        return { content: [{ type: 'text', text: 'It did not work.' }], isError: true };
      case 'big':
        return { content: [{ type: 'text', text: 'x'.repeat(Number(input.bytes)) }] };
      case 'wait':
        told.push('waiting');
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => {
            told.push('cancelled');
            resolve();
          });
        });
        return { content: [] };
      case 'progress':
        for (let progress = 0; progress < 5; progress++) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          const progressToken = _meta?.progressToken;
          if (progressToken !== undefined) {
            await sendNotification({ method: 'notifications/progress', params: { progressToken, progress } });
          }
        }
        return { content: [{ type: 'text', text: 'done' }] };
      default:
        throw new Error(`no tool ${name}`);
    }
  });
}
