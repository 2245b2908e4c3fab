import type { ToolDefinition } from '../../../src/runtime/define/tool.ts';
import type { McpServer } from '../../../src/runtime/mcp/connect.ts';
import type { ToolResult } from '../../../src/runtime/model/tool.ts';
import { customTool } from '../../../src/runtime/tools/custom-tool.ts';

/** Calls a tool of a server as the loop does, by the server's own name for it. */
export async function callTool(
  { name: server, tools }: McpServer,
  name: string,
  input: object = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<ToolResult> {
  const tool = tools.find((one) => one.name === `mcp__${server}__${name}`);
  if (!tool) throw new Error(`no tool ${name} in ${tools.map((one: ToolDefinition) => one.name)}`);
  return customTool(tool, { emit: () => {}, place: { maxValueBytes: 1_000_000 } }).run(input, {
    toolCallId: '1',
    signal,
    output: () => {},
  });
}
