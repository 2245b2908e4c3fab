import { appendFileSync } from 'node:fs';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { mcpProgram, mcpTools } from './mcp-tools.ts';

// A program of its own: a test bundles it and starts it inside a sandbox. What it sees stands in a file there.
const server = new Server({ name: 'test', version: '1' }, { capabilities: { tools: {} } });
mcpProgram(server, {
  pages: [{ tools: mcpTools }],
  told: { push: (line) => appendFileSync('told.txt', `${line}\n`) },
});
console.log('This line is no message.');
console.error('The server is up.');
await server.connect(new StdioServerTransport());
