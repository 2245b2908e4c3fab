import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SandboxOperationUnsupportedError } from '../../../src/runtime/errors.ts';
import { connectMcpServer } from '../../../src/runtime/mcp/connect.ts';
import { McpConnectionError } from '../../../src/runtime/mcp/errors.ts';
import { StdioTransport } from '../../../src/runtime/mcp/stdio.ts';
import { docker } from '../../../src/runtime/sandbox/docker.ts';
import type { SandboxEnv, SandboxProcess } from '../../../src/runtime/sandbox/env.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { readUnread } from '../../../src/sandbox/process/started.ts';
import { localEnv } from '../../support/local-env.ts';
import { test as base } from '../../support/runtime.ts';
import { openHost } from '../../support/sandbox-fixture.ts';
import { sandboxRequest } from '../../support/sandbox-request.ts';
import { callTool } from './call-tool.ts';

let program: string;
let opened: Awaited<ReturnType<typeof openHost>>;

beforeAll(async () => {
  const entry = fileURLToPath(new URL('../../support/mcp-stdio-server.ts', import.meta.url));
  const built = await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'esm',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    write: false,
  });
  program = built.outputFiles[0]?.text ?? '';
  opened = await openHost();
});

afterAll(() => opened[Symbol.asyncDispose]());

/** Answers what a connection begins with, then does what `rest` says with each call. */
const hostile = (rest: string) => `
  const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\\n');
  const flood = (text) => { const more = () => { while (process.stdout.write(text)); }; process.stdout.on('drain', more); more(); };
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const { id, method, params } = JSON.parse(line);
    if (method === 'initialize') {
      const { protocolVersion } = params;
      say({ id, result: { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } } });
    }
    if (method === 'tools/list') say({ id, result: { tools: [{ name: 'call', inputSchema: { type: 'object' } }] } });
    if (method === 'tools/call') { ${rest} }
  });`;

/** Whether a process runs that was started with this word. On `local()` those of others are there too. */
async function runs(sandbox: SandboxEnv, word: string): Promise<boolean> {
  return (await sandbox.exec(`pgrep -f '^[^/].*${word}'`)).exitCode === 0;
}

describe.each(['docker', 'local'])('a server in a sandbox of %s()', (kind) => {
  const test = base.extend<{ sandbox: SandboxEnv }>({
    sandbox: async ({ directory }, use) => {
      const factory = kind === 'docker' ? docker() : local({ cwd: directory });
      const sandbox = await factory.createSandbox(sandboxRequest({ host: async () => opened.host }));
      try {
        await use(sandbox);
      } finally {
        await sandbox.close();
      }
    },
  });

  const connect = (sandbox: SandboxEnv, rest: string, more: { timeoutMs?: number } = {}) =>
    connectMcpServer('hostile', { command: ['node', '-e', hostile(rest)], sandbox, ...more });

  // contract: 6.3-sandbox
  test('is called, also with what is large, and ends with close()', async ({ sandbox }) => {
    await sandbox.writeFile('server.mjs', program);
    const word = randomUUID();
    const server = await connectMcpServer('inner', { command: ['node', 'server.mjs', word], sandbox });
    expect(await runs(sandbox, word)).toBe(true);
    expect(await callTool(server, 'echo', { text: 'grün' })).toMatchObject({ content: [{ text: 'grün' }] });
    const { content } = await callTool(server, 'big', { bytes: 10_000_000 });
    expect(content.map((part) => part.type === 'text' && part.text.length)).toEqual([10_000_000]);
    const text = 'x'.repeat(3_000_000);
    expect(await callTool(server, 'echo', { text })).toMatchObject({ content: [{ text }] });
    await server.close();
    expect(await runs(sandbox, word)).toBe(false);
  });

  // contract: 6.3-sandbox
  test('starts with its directory and its environment', async ({ sandbox }) => {
    await sandbox.mkdir('sub');
    const rest = 'say({ id, result: { content: [{ type: "text", text: process.cwd() + " " + process.env.WORD }] } });';
    const command = ['node', '-e', hostile(rest)];
    await using server = await connectMcpServer('inner', { command, sandbox, cwd: 'sub', env: { WORD: 'hi' } });
    expect(await callTool(server, 'call')).toMatchObject({ content: [{ text: `${sandbox.cwd}/sub hi` }] });
  });

  // contract: 6.3-abort
  test('is told of an aborted call', async ({ sandbox }) => {
    await sandbox.writeFile('server.mjs', program);
    await using server = await connectMcpServer('inner', { command: ['node', 'server.mjs'], sandbox });
    const abort = new AbortController();
    const call = callTool(server, 'wait', {}, abort.signal);
    await expect.poll(() => sandbox.readFile('told.txt')).toBe('waiting\n');
    abort.abort();
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(() => sandbox.readFile('told.txt')).toBe('waiting\ncancelled\n');
  });

  // contract: 6.3-reconnect
  test('that is killed in the middle of a call fails it, and is started again for the next', async ({ sandbox }) => {
    await using server = await connect(
      sandbox,
      `if (require('node:fs').existsSync('died')) say({ id, result: { content: [] } });
       else {
         require('node:fs').writeFileSync('died', '');
         process.stderr.write('a secret of the server', () => process.kill(process.pid, 'SIGKILL'));
       }`,
    );
    const failure = await callTool(server, 'call').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(McpConnectionError);
    expect(failure).toMatchObject({
      meta: { server: 'hostile', reason: 'it ended (SIGKILL)' },
      hint: 'Its standard error ends with: a secret of the server',
    });
    expect(await callTool(server, 'call')).toMatchObject({ isError: false });
  });

  test('that ends as soon as it has answered is heard to the end', async ({ sandbox }) => {
    await using server = await connect(
      sandbox,
      `for (let i = 0; i < 2_000; i++) say({ method: 'notifications/message', params: { level: 'info', data: 'x' } });
       process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result: { content: [] } }) + '\\n', () => process.exit());`,
    );
    expect(await callTool(server, 'call')).toMatchObject({ isError: false });
  });

  // contract: 6.3-sandbox
  test('ends with its sandbox', async ({ sandbox }) => {
    const child = await sandbox.open();
    const word = randomUUID();
    await using server = await connect(child, `"${word}";`);
    expect(await runs(sandbox, word)).toBe(true);
    const call = callTool(server, 'call');
    call.catch(() => {}); // looked at below
    await child.close();
    await expect(call).rejects.toBeInstanceOf(McpConnectionError);
    await expect(callTool(server, 'call')).rejects.toThrow();
    expect(await runs(sandbox, word)).toBe(false);
  });

  // contract: 6.3-setup
  test('that can not be started is an error with the reason', async ({ sandbox }) => {
    const failure = await connectMcpServer('none', { command: ['no-such-program'], sandbox }).catch((error) => error);
    expect(failure.meta).toMatchObject({ server: 'none' });
    expect(failure).toBeInstanceOf(McpConnectionError);
  });

  // contract: 6.3-timeout, 6.3-setup
  test('that never answers is left after its time', async ({ sandbox }) => {
    await using server = await connect(sandbox, '', { timeoutMs: 2_000 });
    await expect(callTool(server, 'call')).rejects.toThrow('did not answer tools/call within 2000 ms');
    const word = randomUUID();
    const silent = { command: ['node', '-e', 'setInterval(() => {}, 1000)', word], sandbox, timeoutMs: 300 };
    await expect(connectMcpServer('silent', silent)).rejects.toThrow('300 ms');
    expect(await runs(sandbox, word)).toBe(false);
  });

  test('that writes a line without end is ended', async ({ sandbox }) => {
    await using server = await connect(sandbox, 'flood("x".repeat(65536));');
    await expect(callTool(server, 'call')).rejects.toThrow('it wrote a line of more than 33554432 bytes');
  });

  test('that writes what is no message is heard until it writes too much of it', async ({ sandbox }) => {
    const answer = 'say({ id, result: { content: [] } });';
    await using chatty = await connect(sandbox, `console.log('Hello!'); console.log('[1]'); ${answer}`);
    expect(await callTool(chatty, 'call')).toMatchObject({ isError: false });
    await using garbage = await connect(sandbox, 'flood("garbage\\n".repeat(1000));');
    await expect(callTool(garbage, 'call')).rejects.toThrow('it wrote 1001 lines that are no messages');
  });

  test('that asks without end and reads no answer is ended', async ({ sandbox }) => {
    await using server = await connect(
      sandbox,
      `process.stdin.pause();
       flood(Array.from({ length: 1000 }, (_, i) => JSON.stringify({ jsonrpc: '2.0', id: 'x'.repeat(1000) + i, method: 'ping' }) + '\\n').join(''));`,
    );
    await expect(callTool(server, 'call')).rejects.toThrow('it left more than 16777216 bytes of requests unread');
  });

  test('that floods its standard error does not disturb its calls', async ({ sandbox }) => {
    await using server = await connect(
      sandbox,
      `process.stderr.write('e'.repeat(20_000_000), () => say({ id, result: { content: [] } }));`,
    );
    expect(await callTool(server, 'call')).toMatchObject({ isError: false });
  });
});

// contract: 6.3-sandbox
test('a sandbox whose processes can not be talked to refuses a server', async () => {
  const sandbox = await localEnv();
  try {
    const refused = connectMcpServer('inner', { command: ['node'], sandbox });
    await expect(refused).rejects.toThrow(SandboxOperationUnsupportedError);
  } finally {
    await sandbox.close();
  }
});

test('a program that uses no server does not load the SDK', () => {
  const sources = fileURLToPath(new URL('../../../src/', import.meta.url));
  const files = readdirSync(sources, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const atStart = /^(?:import (?!type )|export )[^;]*from '@modelcontextprotocol/m;
  expect(files.filter((name) => atStart.test(readFileSync(`${sources}${name}`, 'utf8')))).toEqual([]);
});

test('what a server says at its start is read, however soon it does', async () => {
  const line = `${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: {} })}\n`;
  const stdout = Readable.from([Buffer.from(line)]);
  const started: SandboxProcess = {
    stdin: new PassThrough(),
    stdout,
    stderr: Readable.from([]),
    wait: () => {
      readUnread(stdout);
      return new Promise(() => {});
    },
    async [Symbol.asyncDispose]() {},
  };
  const sandbox = { spawn: async () => started } as unknown as SandboxEnv;
  const transport = new StdioTransport({ command: ['server'], sandbox });
  const said = new Promise((resolve) => {
    transport.onmessage = resolve;
  });
  await transport.start();
  expect(await said).toMatchObject({ method: 'notifications/message' });
  await transport.close();
});

test('what a server has said is read after its end, however long that takes', async () => {
  const line = `${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: {} })}\n`;
  const slow = async function* () {
    for (let i = 0; i < 4; i++) {
      await sleep(500);
      yield Buffer.from(line);
    }
  };
  const started: SandboxProcess = {
    stdin: new PassThrough(),
    stdout: Readable.from(slow()),
    stderr: Readable.from([]),
    wait: async () => ({ exitCode: 0, signal: null }),
    async [Symbol.asyncDispose]() {},
  };
  const sandbox = { spawn: async () => started } as unknown as SandboxEnv;
  const transport = new StdioTransport({ command: ['server'], sandbox });
  let said = 0;
  transport.onmessage = () => {
    said++;
  };
  const closed = new Promise<void>((resolve) => {
    transport.onclose = resolve;
  });
  await transport.start();
  await closed;
  expect(said).toBe(4);
});
