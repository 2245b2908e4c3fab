import { expect } from 'vitest';
import { defineAgent, defineAgentProfile } from '../../../src/runtime/define/agent.ts';
import { DefinitionError, ToolNameConflictError } from '../../../src/runtime/define/errors.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import type { McpServers } from '../../../src/runtime/mcp/agent-servers.ts';
import { McpConnectionError } from '../../../src/runtime/mcp/errors.ts';
import type { Runtime } from '../../../src/runtime/run/runtime.ts';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { mcpHttpServer } from '../../support/mcp-server.ts';
import { test } from '../../support/runtime.ts';

/** Runs `work` with an agent that has these servers. */
async function withServers(
  runtime: Runtime,
  mcpServers: McpServers,
  turns: ScriptedTurn[],
  work: (harness: Harness) => Promise<void>,
) {
  const model = scriptedModel(turns);
  const workflow = defineWorkflow({
    name: 'with-servers',
    agent: defineAgent(() => ({ model, mcpServers })),
    run: async ({ harness }) => {
      await work(harness);
      return null;
    },
  });
  await (await runtime.invoke(workflow)).result();
  return model;
}

/** A server of one tool, which says its process id, in few lines. */
const inner = `
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const { id, method, params } = JSON.parse(line);
    const content = [{ type: 'text', text: String(process.pid) }];
    const result = {
      initialize: { protocolVersion: params?.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } },
      'tools/list': { tools: [{ name: 'pid', inputSchema: { type: 'object' } }] },
      'tools/call': { content },
    }[method];
    if (id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\\n');
  });
  setInterval(() => {}, 1000);`;

// contract: 1.6-mcp-servers
test('servers of an agent are connected at its first prompt, and closed with the harness', async ({ runtime }) => {
  await using http = await mcpHttpServer();
  const turns: ScriptedTurn[] = [
    { toolCalls: [{ name: 'mcp__outer__echo', input: { text: 'hello' } }, { name: 'mcp__inner__pid' }] },
    'done',
    'done again',
  ];
  const servers = { outer: { url: http.url }, inner: { command: ['node', '-e', inner] } };
  let pid = 0;
  const model = await withServers(runtime, servers, turns, async (harness) => {
    await harness.shell('true');
    expect(http.requests).toHaveLength(0);
    const session = await harness.session();
    await session.prompt('Go.');
    const asked = http.requests.length;
    await session.prompt('Go on.');
    expect(http.requests).toHaveLength(asked);
    const parts = (await session.history()).flatMap((message) => message.parts);
    const results = parts.flatMap((part) => (part.type === 'dynamic-tool' ? [part.output] : []));
    expect(results[0]).toBe('hello');
    pid = Number(results[1]);
    expect(process.kill(pid, 0)).toBe(true);
  });
  expect(model.requests[0]?.tools.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['bash', 'mcp__outer__echo', 'mcp__inner__pid']),
  );
  expect(http.told).toEqual(['session closed']);
  const sent = () => {
    try {
      return process.kill(pid, 0);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  };
  await expect.poll(sent).toBe('ESRCH'); // ended, until its parent looks
});

// contract: 1.6-mcp-servers
test('a prompt whose servers can not be reached is refused; the next one tries again', async ({ runtime }) => {
  const first = await mcpHttpServer();
  await first.stop();
  await using other = await mcpHttpServer();
  const servers = { a: { url: other.url }, b: { url: first.url } };
  await withServers(runtime, servers, ['done'], async (harness) => {
    const session = await harness.session();
    await expect(session.prompt('Go.')).rejects.toBeInstanceOf(McpConnectionError);
    expect(await session.history()).toEqual([]);
    expect(other.told).toEqual(['session closed']);
    await using _ = await mcpHttpServer({ port: first.port });
    expect((await session.prompt('Go.')).text).toBe('done');
  });
});

test('two servers whose tools come to one name are refused', async ({ runtime }) => {
  await using http = await mcpHttpServer();
  const servers = { 'a b': { url: http.url }, a_b: { url: http.url } };
  await withServers(runtime, servers, [], async (harness) => {
    const session = await harness.session();
    await expect(session.prompt('Go.')).rejects.toThrow(ToolNameConflictError);
  });
});

// contract: 6.3-results
test('a model that takes no images is told of those of a server', async ({ runtime }) => {
  await using http = await mcpHttpServer();
  const call: ScriptedTurn = { toolCalls: [{ name: 'mcp__a__everything' }] };
  const sighted = scriptedModel([call, 'done']);
  const blind = Object.assign(scriptedModel(['done']), { seesImages: false });
  await withServers(runtime, { a: { url: http.url } }, [], async (harness) => {
    const session = await harness.session();
    await session.prompt('Go.', { model: sighted });
    await session.prompt('Go on.', { model: blind });
  });
  const shown = ({ requests }: typeof sighted) =>
    requests.at(-1)?.messages.flatMap(({ role, content }) => (role === 'tool' ? content[1] : []));
  expect(shown(sighted)).toMatchObject([{ type: 'image', mimeType: 'image/png' }]);
  expect(shown(blind)).toEqual([{ type: 'text', text: "[An image (image/png): you can't see images.]" }]);
});

test('options of servers are checked with the profile', () => {
  const mcpServers = { one: { url: 'nowhere' }, two: { command: [], sandbox: {} }, three: 5 } as never;
  const define = () => defineAgentProfile({ mcpServers });
  expect(define).toThrow(DefinitionError);
  expect(define).toThrow(
    /mcpServers\.one\.url must be .*mcpServers\.two\.sandbox .*mcpServers\.two\.command must be .*mcpServers\.three must be/,
  );
});
