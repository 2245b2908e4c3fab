import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { ToolOutputValidationError } from '../../../src/runtime/errors.ts';
import { connectMcpServer } from '../../../src/runtime/mcp/connect.ts';
import { McpConnectionError } from '../../../src/runtime/mcp/errors.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { mcpHttpServer } from '../../support/mcp-server.ts';
import { mcpTools } from '../../support/mcp-tools.ts';
import { callTool } from './call-tool.ts';

const inputSchema = { type: 'object' };

describe.each(['streamable-http', 'sse'] as const)('over %s', (transport) => {
  // contract: 6.3-remote, 6.3-names
  test('has the tools of the server, under safe names, and calls them', async () => {
    await using http = await mcpHttpServer({ transport });
    await using server = await connectMcpServer('test', { url: http.url, transport });
    expect(server.tools.map(({ name }) => name)).toEqual(mcpTools.map(({ name }) => `mcp__test__${name}`));
    expect(await callTool(server, 'echo', { text: 'hello' })).toEqual({
      content: [{ type: 'text', text: 'hello' }],
      isError: false,
    });
  });

  // contract: 6.3-results
  test('gives all of a result of 10 MB', async () => {
    await using http = await mcpHttpServer({ transport });
    await using server = await connectMcpServer('test', { url: http.url, transport });
    const { content } = await callTool(server, 'big', { bytes: 10_000_000 });
    expect(content.map((part) => part.type === 'text' && part.text.length)).toEqual([10_000_000]);
  });

  // contract: 6.3-abort
  test('tells the server that a call was aborted', async () => {
    await using http = await mcpHttpServer({ transport });
    await using server = await connectMcpServer('test', { url: http.url, transport });
    const abort = new AbortController();
    const call = callTool(server, 'wait', {}, abort.signal);
    await expect.poll(() => http.told).toEqual(['waiting']);
    abort.abort();
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(() => http.told).toContain('cancelled');
    expect(await callTool(server, 'echo', { text: 'still here' })).toMatchObject({ content: [{ text: 'still here' }] });
  });

  // contract: 6.3-reconnect
  test('fails a call whose server is killed in the middle, and connects again at the next', async () => {
    const http = await mcpHttpServer({ transport });
    await using server = await connectMcpServer('test', { url: http.url, transport });
    const call = callTool(server, 'wait');
    call.catch(() => {}); // looked at below
    await expect.poll(() => http.told).toEqual(['waiting']);
    await http.stop();
    const failure = await call.catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(McpConnectionError);
    expect(String(failure)).not.toContain('did not answer'); // which would be the timeout
    await expect(callTool(server, 'echo', { text: 'a' })).rejects.toBeInstanceOf(McpConnectionError);
    await using again = await mcpHttpServer({ transport, port: http.port });
    expect(await callTool(server, 'echo', { text: 'again' })).toMatchObject({ content: [{ text: 'again' }] });
    expect(again.requests.length).toBeGreaterThan(0);
  });

  // contract: 6.3-auth
  test('sends the headers and the token of each request', async () => {
    await using http = await mcpHttpServer({ transport });
    let asked = 0;
    const auth = async () => `token-${++asked}`;
    const headers = { 'x-team': 'blue' };
    await using server = await connectMcpServer('test', { url: http.url, transport, auth, headers });
    await callTool(server, 'echo');
    expect(new Set(http.requests.map((request) => request.headers['x-team']))).toEqual(new Set(['blue']));
    const tokens = http.requests.map((request) => request.headers.authorization);
    expect(tokens).toEqual(tokens.map((_, i) => `Bearer token-${i + 1}`));
    expect(asked).toBeGreaterThan(3);
  });

  // contract: 6.3-timeout, 6.3-abort
  test('is told when a call takes longer than its time', async () => {
    await using http = await mcpHttpServer({ transport });
    await using server = await connectMcpServer('test', { url: http.url, transport, timeoutMs: 1_000 });
    await expect(callTool(server, 'wait')).rejects.toThrow(
      'The MCP server test: it did not answer tools/call within 1000 ms, and was told to stop.',
    );
    await expect.poll(() => http.told).toEqual(['waiting', 'cancelled']);
  });
});

// contract: 6.3-reconnect
test('a server that has forgotten the session gets a new one, within the same call', async () => {
  await using http = await mcpHttpServer();
  await using server = await connectMcpServer('test', { url: http.url });
  http.forget();
  expect(await callTool(server, 'echo', { text: 'new' })).toMatchObject({ content: [{ text: 'new' }] });
});

test('close() ends the session at the server and refuses calls from then on', async () => {
  await using http = await mcpHttpServer();
  const server = await connectMcpServer('test', { url: http.url });
  await server.close();
  expect(http.told).toEqual(['session closed']);
  await expect(callTool(server, 'echo')).rejects.toThrow('The MCP server test: the connection was closed.');
});

test('close() does not wait for a token that does not come', async () => {
  await using http = await mcpHttpServer();
  let auth = async () => 'token';
  const server = await connectMcpServer('test', { url: http.url, auth: () => auth() });
  auth = () => new Promise(() => {});
  await server.close();
});

// contract: 6.3-timeout
test('progress gives a call its time anew only where that is asked for', async () => {
  await using http = await mcpHttpServer();
  const options = { url: http.url, timeoutMs: 400 };
  await using strict = await connectMcpServer('test', options);
  await expect(callTool(strict, 'progress')).rejects.toThrow('within 400 ms');
  await using patient = await connectMcpServer('test', { ...options, resetTimeoutOnProgress: true });
  expect(await callTool(patient, 'progress')).toMatchObject({ content: [{ text: 'done' }] });
});

describe('a result', () => {
  // contract: 6.3-copies
  test('is that of a spread copy of a tool too, with another name and in an agent', async () => {
    await using http = await mcpHttpServer();
    await using server = await connectMcpServer('test', { url: http.url });
    const [echo] = server.tools;
    if (!echo) throw new Error('no tool');
    await using runtime = await createRuntime({ store: ':memory:', sandbox: local() });
    const turns = [{ toolCalls: [{ name: 'say_again', input: { text: 'twice' } }] }, 'done'];
    const model = scriptedModel(turns);
    const workflow = defineWorkflow({
      name: 'copy',
      agent: defineAgent(() => ({ model, tools: [{ ...echo, name: 'say_again' }] })),
      run: async ({ harness }) => (await (await harness.session()).prompt('Go.')).text,
    });
    expect(await (await runtime.invoke(workflow)).result()).toBe('done');
    expect(model.requests[0]?.tools).toContainEqual({
      name: 'say_again',
      description: 'Says it again.',
      parameters: { type: 'object', properties: { text: { type: 'string' } } },
    });
    expect(model.requests[1]?.messages.at(-1)).toMatchObject({ role: 'tool', content: [{ text: 'twice' }] });
  });

  // contract: 6.3-results
  test('is structured content as JSON, then each item', async () => {
    await using http = await mcpHttpServer();
    await using server = await connectMcpServer('test', { url: http.url });
    expect((await callTool(server, 'add', { a: 1, b: 2 })).content).toEqual([
      { type: 'text', text: '{"sum":3}' },
      { type: 'text', text: 'It is 3.' },
    ]);
    expect((await callTool(server, 'everything')).content).toEqual([
      { type: 'text', text: 'a text' },
      // By its bytes, whatever the server says of its type.
      { type: 'image', data: expect.stringMatching(/^iVBORw0KGgo/), mimeType: 'image/png' },
      { type: 'text', text: '[image: image/svg+xml, 6 bytes, not shown]' },
      { type: 'text', text: '[audio: audio/wav, 10 bytes, not shown]' },
      { type: 'text', text: 'the readme: file:///README.md' },
      { type: 'text', text: 'notes' },
      { type: 'text', text: '[file:///a.bin: application/x, 5 bytes, not shown]' },
    ]);
  });

  // contract: 6.3-errors
  test('with isError is an error of the tool', async () => {
    await using http = await mcpHttpServer();
    await using server = await connectMcpServer('test', { url: http.url });
    expect(await callTool(server, 'fail')).toEqual({
      content: [{ type: 'text', text: 'It did not work.' }],
      isError: true,
    });
  });

  // contract: 6.3-errors
  test('that does not fit the declared output schema is refused', async () => {
    await using http = await mcpHttpServer();
    await using server = await connectMcpServer('test', { url: http.url });
    await expect(callTool(server, 'add', { a: 0, b: 2 })).rejects.toThrow(ToolOutputValidationError);
  });

  test('whose check would take for ever is refused', async () => {
    const slow = { type: 'object', properties: { sum: { type: 'string', pattern: '^(n+)+$' } } };
    await using http = await mcpHttpServer({
      pages: [{ tools: [{ name: 'add', inputSchema, outputSchema: slow }] }],
    });
    await using server = await connectMcpServer('test', { url: http.url });
    await expect(callTool(server, 'add', { a: 0 })).rejects.toThrow(
      'could not be checked (Error: Script execution timed out',
    );
  });
});

describe('the list of tools', () => {
  const tool = (name: string, more: object = {}) => ({ name, inputSchema, ...more });

  async function connect(pages: { tools: object[]; nextCursor?: string }[], options: { tools?: string[] } = {}) {
    await using http = await mcpHttpServer({ pages });
    await using server = await connectMcpServer('my server', { url: http.url, ...options });
    return server.tools;
  }

  // contract: 6.3-pages
  test('is that of all pages', async () => {
    const tools = await connect([{ tools: [tool('one')], nextCursor: '1' }, { tools: [tool('two')] }]);
    expect(tools.map(({ name }) => name)).toEqual(['mcp__my_server__one', 'mcp__my_server__two']);
  });

  // contract: 6.3-pages
  test('that comes back to a page is refused', async () => {
    const pages = [
      { tools: [tool('one')], nextCursor: '1' },
      { tools: [tool('two')], nextCursor: '1' },
    ];
    await expect(connect(pages)).rejects.toThrow('comes back to a page that was read');
  });

  test('of more than 1,000 tools is refused', async () => {
    const tools = Array.from({ length: 600 }, (_, i) => tool(`tool${i}`));
    const more = Array.from({ length: 600 }, (_, i) => tool(`more${i}`));
    const pages = [
      { tools, nextCursor: '1' },
      { tools: more, nextCursor: '2' },
    ];
    await expect(connect(pages)).rejects.toThrow('it has more than 1000 tools');
  });

  // contract: 6.3-names
  test('gives a long name cut to 64 characters with a hash of 8', async () => {
    const [one, two] = await connect([{ tools: [tool(`${'x'.repeat(100)}1`), tool(`${'x'.repeat(100)}2`)] }]);
    expect(one?.name).toMatch(/^mcp__my_server__x{39}_[0-9a-f]{8}$/);
    expect(two?.name).toHaveLength(64);
    expect(two?.name).not.toBe(one?.name);
  });

  // contract: 6.3-names
  test('with two names that become one is refused, unless one of them is not taken', async () => {
    const pages = [{ tools: [tool('a.b'), tool('a b')] }];
    await expect(connect(pages)).rejects.toThrow('two of its tools have the name mcp__my_server__a_b');
    expect(await connect(pages, { tools: ['a.b'] })).toHaveLength(1);
  });

  // contract: 6.3-tools
  test('is cut to the tools that are taken; one that is not there is an error', async () => {
    const pages = [{ tools: [tool('one'), tool('two')] }];
    expect((await connect(pages, { tools: ['two'] })).map(({ name }) => name)).toEqual(['mcp__my_server__two']);
    await expect(connect(pages, { tools: ['three'] })).rejects.toThrow('it has no tool "three"; it has one, two');
  });

  // contract: 6.3-tasks-left-out
  test('leaves out tools that need tasks, with a warning', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    try {
      const tools = await connect([
        { tools: [tool('slow', { execution: { taskSupport: 'required' } }), tool('fast')] },
      ]);
      expect(tools.map(({ name }) => name)).toEqual(['mcp__my_server__fast']);
      expect(warned.mock.calls.map(([message]) => message)).toEqual([expect.stringContaining('"slow"')]);
    } finally {
      warned.mockRestore();
    }
  });
});

describe('a failed set-up', () => {
  // contract: 6.3-setup
  test('names every option that is wrong', async () => {
    const options = { url: 'ftp://x', transport: 'tcp', timeoutMs: 0, auth: 5, fetch: 1, headers: { a: 1 }, more: 1 };
    const failure = await connectMcpServer('', options as never).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(DefinitionError);
    expect((failure as DefinitionError).issues.map(({ path }) => path).sort()).toEqual([
      'name',
      ...['auth', 'fetch', 'headers.a', 'more', 'timeoutMs', 'transport', 'url'].map((field) => `options.${field}`),
    ]);
  });

  // contract: 6.3-setup
  test.each(['streamable-http', 'sse'] as const)('over %s says that nobody is there', async (transport) => {
    const failure = await connectMcpServer('gone', { url: 'http://127.0.0.1:1/', transport }).catch((error) => error);
    expect(failure).toBeInstanceOf(McpConnectionError);
    expect(failure).toMatchObject({
      status: 502,
      meta: { server: 'gone', reason: expect.stringMatching(/ECONNREFUSED|fetch failed/) },
    });
  });

  // contract: 6.3-setup
  test.each(['streamable-http', 'sse'] as const)(
    'over %s ends with the time, for a server that says nothing',
    async (transport) => {
      const silent = createServer((_request, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      });
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      try {
        const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`; // as in the server above
        await expect(connectMcpServer('silent', { url, transport, timeoutMs: 300 })).rejects.toThrow('300 ms');
      } finally {
        silent.closeAllConnections();
        silent.close();
      }
    },
  );

  test.each(['text/event-stream', 'application/json'])('ends for an answer without end (%s)', async (type) => {
    const endless = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': type });
      const chunk = Buffer.alloc(1024 * 1024, 'x');
      const more = () => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
    });
    await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(endless.address() as AddressInfo).port}`; // as in the server above
      await expect(connectMcpServer('endless', { url })).rejects.toBeInstanceOf(McpConnectionError);
    } finally {
      endless.closeAllConnections();
      endless.close();
    }
  });
});
