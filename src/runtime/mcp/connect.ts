import type { JSONSchema7 } from '@ai-sdk/provider';
import type { Tool } from '@modelcontextprotocol/sdk/types.js';
import { abortError, BerthError } from '../../errors.ts';
import { Problems } from '../define/checks.ts';
import { type ToolDefinition, toTool } from '../define/tool.ts';
import { ToolOutputValidationError } from '../errors.ts';
import { ReadyResult } from '../model/tool.ts';
import { foreignSchema } from '../schema/json-schema.ts';
import { jsonSnapshot } from '../schema/snapshot.ts';
import { McpConnection } from './connection.ts';
import { McpConnectionError } from './errors.ts';
import { checkMcpOptions, type McpServerOptions } from './options.ts';
import { outputCheck } from './output-check.ts';
import { toolResult } from './result.ts';
import { mcpToolName } from './tool-name.ts';

const maxTools = 1_000;
/** Of a call in all, however often its server reports progress. */
const longestCallMs = 600_000;

/** A server of the Model Context Protocol, connected. */
export interface McpServer extends AsyncDisposable {
  /** That it was connected under. */
  readonly name: string;
  /** For a `tools` array: of an agent, of a profile, of a prompt. Copies of them work too. */
  readonly tools: readonly ToolDefinition[];
  /** Ends the connection; a server in a sandbox ends with it. */
  close(): Promise<void>;
}

/**
 * Connects to an MCP server and reads what tools it has. A connection that is lost is made again at the next call.
 * @param name - a part of the names of its tools: `mcp__<name>__<tool>`
 * @param options.timeoutMs - milliseconds of each request. Default: 60,000
 * @param options.tools - the tools to take, by the server's own names. Default: all
 * @throws {DefinitionError} an option is not known, or not of its type
 * @throws {McpConnectionError} the server can't be reached, does not speak MCP, or has no such tools
 * @throws {SandboxOperationUnsupportedError} the sandbox can't run a server
 * @example await using docs = await connectMcpServer('docs', { url: 'https://example.com/mcp', auth: () => token() });
 */
export async function connectMcpServer(name: string, options: McpServerOptions): Promise<McpServer> {
  const problems = new Problems('The MCP server');
  problems.text(name, 'name');
  checkMcpOptions(problems, options, 'options', { sandboxIsGiven: true });
  problems.throwIfAny();
  return openMcpServer(name, options, { warn: (message) => process.emitWarning(message, { code: 'BERTH_MCP' }) });
}

/** As `connectMcpServer`, with options that were checked. */
export async function openMcpServer(
  name: string,
  options: McpServerOptions,
  { warn, signal }: { warn: (message: string) => void; signal?: AbortSignal },
): Promise<McpServer> {
  const connection = new McpConnection(name, options);
  const close = () => connection.close();
  try {
    const listed = await listTools(name, connection, signal);
    const tools: ToolDefinition[] = [];
    for (const tool of taken(name, listed, options.tools)) {
      if (tool.execution?.taskSupport === 'required') {
        warn(
          `The tool ${JSON.stringify(tool.name)} of the MCP server ${name} needs tasks, which Berth has not: left out.`,
        );
      } else {
        tools.push(await asTool(name, tool, connection, options.timeoutMs));
      }
    }
    const clash = tools.find((tool, i) => tools.findIndex((other) => other.name === tool.name) !== i);
    if (clash) throw refusal(name, `two of its tools have the name ${clash.name}: take one of them with \`tools\``);
    return { name, tools, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    if (signal?.aborted) throw abortError(signal.reason);
    throw error instanceof BerthError ? error : refusal(name, String(error), error);
  }
}

async function listTools(server: string, connection: McpConnection, signal: AbortSignal | undefined): Promise<Tool[]> {
  if (!(await connection.capabilities(signal)).tools) return [];
  const { ListToolsResultSchema } = await import('@modelcontextprotocol/sdk/types.js');
  const tools: Tool[] = [];
  const cursors = new Set<string>();
  for (let cursor: string | undefined; ; ) {
    const params = cursor === undefined ? {} : { cursor };
    const page = await connection.request({ method: 'tools/list', params }, ListToolsResultSchema, signal);
    tools.push(...page.tools);
    cursor = page.nextCursor;
    if (cursor === undefined) return tools;
    if (cursors.has(cursor)) throw refusal(server, 'its list of tools comes back to a page that was read');
    cursors.add(cursor);
    if (tools.length > maxTools || cursors.size > maxTools) throw refusal(server, `it has more than ${maxTools} tools`);
  }
}

function taken(server: string, listed: Tool[], names: readonly string[] | undefined): Tool[] {
  if (!names) return listed;
  const unknown = names.filter((name) => !listed.some((tool) => tool.name === name));
  if (unknown.length === 0) return listed.filter((tool) => names.includes(tool.name));
  const known = listed.map(({ name }) => name).join(', ') || 'none';
  throw refusal(server, `it has no tool ${unknown.map((name) => JSON.stringify(name)).join(', ')}; it has ${known}`);
}

async function asTool(
  server: string,
  { name: ownName, title, description, inputSchema, outputSchema }: Tool,
  connection: McpConnection,
  timeoutMs = 0,
): Promise<ToolDefinition> {
  const name = mcpToolName(server, ownName);
  const parameters = jsonSnapshot(inputSchema, `the input schema of ${name}`) as JSONSchema7; // MCP's own schema said so
  const check = outputSchema && (await outputCheck(outputSchema));
  return toTool({
    name,
    description: description?.trim() || title?.trim() || ownName,
    input: foreignSchema(parameters), // the server checks it
    timeoutMs: Math.max(longestCallMs, 3 * timeoutMs),
    run: async ({ input, signal }: { input: Record<string, unknown>; signal: AbortSignal }) => {
      const { CallToolResultSchema } = await import('@modelcontextprotocol/sdk/types.js');
      const call = { method: 'tools/call', params: { name: ownName, arguments: input } } as const;
      const result = await connection.request(call, CallToolResultSchema, signal);
      if (check && !result.isError) {
        const { structuredContent } = result;
        const problem = structuredContent === undefined ? 'is missing' : check(structuredContent);
        if (problem !== undefined) throw new ToolOutputValidationError({ tool: name, issues: [{ message: problem }] });
      }
      return new ReadyResult(toolResult(result));
    },
  });
}

function refusal(server: string, reason: string, cause?: unknown): McpConnectionError {
  return new McpConnectionError({ server, reason }, { cause });
}
