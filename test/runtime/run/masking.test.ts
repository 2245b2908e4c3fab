import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect } from 'vitest';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { EventBody, RuntimeEvent } from '../../../src/runtime/events/event.ts';
import { Masker } from '../../../src/runtime/events/masker.ts';
import { registerProvider } from '../../../src/runtime/model/providers.ts';
import { OwnerJournal } from '../../../src/runtime/run/owner-journal.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { mcpHttpServer } from '../../support/mcp-server.ts';
import { test as runtimeTest } from '../../support/runtime.ts';

const secrets = {
  registered: 'sk-registered-0123456789',
  replaced: 'sk-replaced-0123456789',
  option: 'sk-option-0123456789',
  header: 'header-0123456789abcdef',
  variable: 'sk-variable-0123456789',
  ofHost: 'sk-of-the-host-0123456789',
  mcp: 'mcp-0123456789abcdef',
  mcpHeader: 'mcp-other-0123456789abcdef',
  ofCommand: 'command-0123456789abcdef',
};
/** Those that are known before any work begins. */
const { mcp: _, mcpHeader: __, ofCommand: ___, ...ofRuntime } = secrets;
const api = { api: 'openai-completions', baseUrl: 'http://127.0.0.1:9/v1' } as const;

interface Seen {
  runtime: Awaited<ReturnType<typeof createRuntime>>;
  /** All that was told to observers, written to the log, and kept. */
  all(): Promise<string>;
}

const test = runtimeTest.extend<{ seen: Seen }>({
  seen: async ({ directory }, use) => {
    process.env.MASKING_TEST_KEY = secrets.ofHost;
    registerProvider('masking-test', { ...api, apiKey: secrets.replaced });
    registerProvider('masking-test', { ...api, apiKey: secrets.registered });
    const told: string[] = [];
    const store = join(directory, 'runtime.db');
    const runtime = await createRuntime({
      store,
      sandbox: local({ cwd: directory }),
      logger: pino({ level: 'trace' }, { write: (line: string) => void told.push(line) }),
      env: { OPENAI_API_KEY: secrets.variable },
      models: { own: { ...api, apiKey: secrets.option, headers: { Authorization: `Bearer ${secrets.header}` } } },
    });
    runtime.observe((event, { log }) => {
      told.push(JSON.stringify(event));
      if (event.type !== 'run_end') return;
      log.warn(secrets.option, { of: [secrets.option] });
      throw new Error(`failed with ${secrets.option}`, { cause: new Error(secrets.variable) });
    });
    await use({
      runtime,
      all: async () => {
        await runtime.close();
        const files = await Promise.all(['', '-wal'].map((end) => readFile(store + end, 'latin1').catch(() => '')));
        return [...told, ...files].join('\n');
      },
    });
    await runtime.close();
    delete process.env.MASKING_TEST_KEY;
  },
});

// contract: 8-masked
test('no event, log and record has a key of a provider, a variable or a header that is named as a secret', async ({
  seen,
}) => {
  await using server = await mcpHttpServer();
  const everything = Object.values(secrets).join(' and ');
  const given = Object.values(ofRuntime).join(' and ');
  const fails = defineAction({
    name: 'fails',
    description: 'Fails.',
    run: () => {
      throw new RangeError(everything);
    },
  });
  const echo = defineTool({ name: 'echo', description: 'Says.', run: () => everything });
  const turns = [
    { thinking: everything, text: everything, toolCalls: [{ name: 'echo' }, { name: 'fails' }] },
    { toolCalls: [{ name: 'bash', input: { command: `echo '${everything}'` } }] },
    everything,
  ];
  const workflow = defineWorkflow({
    name: 'work',
    agent: defineAgent(() => ({
      model: scriptedModel(turns),
      tools: [echo],
      actions: [fails],
      instructions: everything,
      workspaceContext: false,
      mcpServers: { server: { url: server.url, auth: secrets.mcp, headers: { 'x-secret': secrets.mcpHeader } } },
    })),
    input: v.looseObject({}),
    run: async ({ harness, input, log }) => {
      await harness.shell('echo "$A_TOKEN"', { env: { A_TOKEN: secrets.ofCommand } });
      await (await harness.session()).prompt(everything);
      await harness.step('gives', () => ({ [everything]: everything }));
      await harness.shell(`true ${everything}`);
      harness.emit('seen', everything);
      log.info(everything, { everything });
      if ('fail' in input) await harness.run(fails);
      return everything;
    },
  });
  const { runtime } = seen;
  const run = await runtime.invoke(workflow, { id: 'run_1' });
  await run.result();
  expect((await run.record()).result).toBe(Object.values(secrets).fill('<masked>').join(' and '));
  await expect((await runtime.invoke(workflow, { input: { fail: true } })).result()).rejects.toThrow();
  await expect(runtime.invoke(workflow, { input: { nested: [given] }, id: 'run_2' })).rejects.toMatchObject({
    name: 'InvalidRequestError',
    message: expect.stringContaining('env'),
  });
  await expect(runtime.run('run_2')).rejects.toMatchObject({ name: 'RunNotFoundError' });
  const agent = defineAgent(() => ({ model: scriptedModel([given]), workspaceContext: false }), {
    name: 'helper',
  });
  await (await runtime.dispatch(agent, { instance: 'i', input: { given } })).result();
  const all = await seen.all();
  const found = Object.entries(secrets).filter(([, secret]) => all.includes(secret));
  expect(found.map(([name]) => name)).toEqual([]);
  expect(all).toContain('<masked>');
});

// contract: 2-model-masked
test('a model does not see a secret in an error, also where that is cut', async ({ seen }) => {
  const fails = (name: string, message: string) =>
    defineAction({
      name,
      description: 'Fails.',
      run: () => {
        throw new Error(message);
      },
    });
  const model = scriptedModel([{ toolCalls: [{ name: 'short' }, { name: 'long' }, { name: 'tool' }] }, 'Done.']);
  const tool = defineTool({
    name: 'tool',
    description: 'Fails.',
    run: () => {
      throw new Error(`no access with ${secrets.option}`);
    },
  });
  const agent = defineAgent(
    () => ({
      model,
      tools: [tool],
      actions: [
        fails('short', `no access with ${secrets.option}`),
        fails('long', `${'x'.repeat(4 * 1024 - 10)}${secrets.option}`),
      ],
      workspaceContext: false,
    }),
    { name: 'helper' },
  );
  await (await seen.runtime.dispatch(agent, { instance: 'i', message: 'Go.' })).result();
  const shown = model.requests[1]?.messages.flatMap((message) => (message.role === 'tool' ? message.content : []));
  const texts = shown?.map((part) => (part.type === 'text' ? part.text : ''));
  expect(texts).toEqual(['no access with <masked>', expect.stringMatching(/^x+<masked>/), 'no access with <masked>']);
});

describe('pieces of a text', () => {
  const key = secrets.registered;

  async function journal() {
    const store = await SqliteStore.open(':memory:');
    await store.admitRun({ id: 'run_1', workflow: 'w', json: '{}' });
    const told: RuntimeEvent[] = [];
    const masker = new Masker();
    masker.add(key);
    const owner = { run: 'run_1' };
    const own = { owner, store, masker, host: 'h', isObserved: () => true, onFailure: () => {} };
    const journal = new OwnerJournal({ ...own, deliver: (event) => told.push(event) });
    await journal.claim();
    const emit = (...bodies: EventBody[]) => {
      for (const body of bodies) journal.emit(body, { operationId: 'op', turnId: 't' });
    };
    const shown = async () => {
      await journal.flush();
      return told.map((event) => ('text' in event ? event.text : 'delta' in event ? event.delta : event.type));
    };
    return { emit, shown, close: () => journal.close() };
  }

  // contract: 8-masked-pieces
  test('are held back where they may begin a secret, until it is known that they do not', async () => {
    const { emit, shown } = await journal();
    const text = (text: string) => ({ type: 'text_delta', text }) as const;
    emit(text(`it is ${key.slice(0, 9)}`), { type: 'idle' });
    expect(await shown()).toEqual(['it is ', 'idle']);
    emit(text(`${key.slice(9)}, or ${key.slice(0, 12)}`), { type: 'idle' });
    emit(text('!'), { type: 'idle' });
    expect((await shown()).slice(2)).toEqual(['<masked>, or ', 'idle', `${key.slice(0, 12)}!`, 'idle']);
  });

  test('are told before the end of their text, each with its own', async () => {
    const { emit, shown, close } = await journal();
    const [begin, rest] = [key.slice(0, 5), key.slice(5)];
    const output = (toolCallId: string, text: string) =>
      ({ type: 'tool_output', toolCallId, stream: 'stdout', text }) as const;
    const end = { durationMs: 0, isError: false };
    emit(output('a', begin), output('b', begin), { type: 'thinking_delta', contentIndex: 0, delta: begin });
    emit({ type: 'tool', toolName: 'bash', toolCallId: 'a', ...end });
    expect(await shown()).toEqual([begin, 'tool']);
    emit({ type: 'thinking_end', contentIndex: 0, content: begin });
    expect((await shown()).slice(2)).toEqual([begin, 'thinking_end']);
    emit(output('b', rest), { type: 'text_delta', text: begin });
    emit({ type: 'message_end', message: { role: 'assistant', content: [] } });
    expect((await shown()).slice(4)).toEqual(['<masked>', begin, 'message_end']);
    emit(output('b', begin), { type: 'run_end', state: 'completed', ...end });
    await close();
    expect((await shown()).slice(7)).toEqual([begin, 'run_end']);
  });
});
