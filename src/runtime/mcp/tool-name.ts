import { createHash } from 'node:crypto';

const longest = 64; // what every provider of models accepts

/** The name that a model calls a tool of a server by. */
export function mcpToolName(server: string, tool: string): string {
  const name = `mcp__${server}__${tool}`.replaceAll(/[^A-Za-z0-9_-]/g, '_');
  if (name.length <= longest) return name;
  const hash = createHash('sha256')
    .update(JSON.stringify([server, tool]))
    .digest('hex')
    .slice(0, 8);
  return `${name.slice(0, longest - hash.length - 1)}_${hash}`;
}
