import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect } from 'vitest';
import { type AgentConfig, defineAgent } from '../../../src/runtime/define/agent.ts';
import type { ModelRequest } from '../../../src/runtime/model/model.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { mcpHttpServer } from '../../support/mcp-server.ts';
import { test } from '../../support/runtime.ts';
import { harnessBench } from '../harness/harness-bench.ts';

const skill = '---\nname: deploy\ndescription: Deploys.\n---\nPush the button.\n';
const tool = (name: string) => ({ name, description: `Tool ${name}.`, run: () => name });
const start = ({ system, tools }: ModelRequest) => ({ system, tools });
const names = (request: ModelRequest | undefined) => request?.tools.map(({ name }) => name) ?? [];

/** What changes what a new session would be told. */
async function changeWorkspace(directory: string) {
  await mkdir(join(directory, '.agents/skills/deploy'), { recursive: true });
  await writeFile(join(directory, '.agents/skills/deploy/SKILL.md'), skill);
  await writeFile(join(directory, 'AGENTS.md'), 'Use spaces.');
}

// contract: 4.1-tools-kept, 4.1-prompt-kept
test('prompt and tools of a session stay as they were at its first turn until a compaction, also in the middle of a prompt', async () => {
  const model = scriptedModel(
    [
      'One.',
      'Two.',
      { toolCalls: [{ name: 'activate_skill', input: { name: 'deploy' } }], usage: { input: 71 } },
      'A summary.',
      'Of the turn.',
      { toolCalls: [{ name: 'activate_skill', input: { name: 'deploy' } }], usage: { input: 10 } },
      { text: 'Three.', usage: { input: 10 } },
    ],
    { contextWindow: 100 },
  );
  const compaction = { reserveTokens: 30, keepRecentTokens: 1 };
  await using bench = await harnessBench({ model, workspaceContext: true, compaction });
  const session = await bench.harness.session();
  await session.prompt('x');
  await changeWorkspace(bench.cwd);
  await session.prompt('x', { tools: [tool('extra')] });
  await session.prompt('x');
  const [first, second, third, , , fourth, fifth] = model.requests;
  expect(second?.system).toBe(first?.system);
  expect(second?.tools).toEqual([...(first?.tools ?? []), expect.objectContaining({ name: 'extra' })]);
  expect(third && start(third)).toEqual(first && start(first));
  expect(names(first)).not.toContain('activate_skill');
  const results = bench.of('tool').map(({ isError, result }) => [isError, JSON.stringify(result)]);
  expect(results).toEqual([
    [true, expect.stringContaining('There is no tool named')],
    [false, expect.stringContaining('Push the button.')],
  ]);
  expect(fourth?.system).toContain('Use spaces.');
  expect(names(fourth)).toContain('activate_skill');
  expect(fifth && start(fifth)).toEqual(fourth && start(fourth));
});

describe('an instance in a later process', () => {
  /** Sends a message in a runtime of its own, as another process would. */
  async function send(directory: string, config: AgentConfig) {
    await using runtime = await createRuntime({
      store: join(directory, 'runtime.db'),
      sandbox: local({ cwd: join(directory, 'work') }),
      logger: pino({ level: 'silent' }),
    });
    const agent = defineAgent(() => config, { name: 'helper' });
    await (await runtime.dispatch(agent, { instance: 'a', message: 'Go.' })).result();
  }

  // contract: 4.1-kept-over-restarts
  test('is told the same as before, unless its configuration is another one', async ({ directory }) => {
    const model = scriptedModel(['One.', 'Two.', 'Three.', 'Four.', 'Five.']);
    await mkdir(join(directory, 'work'));
    const config = { model, tools: [tool('own')] };
    await send(directory, config);
    await changeWorkspace(join(directory, 'work'));
    await send(directory, { ...config, thinkingLevel: 'low' });
    await send(directory, { ...config, tools: [tool('own'), tool('further')] });
    await send(directory, { ...config, instructions: 'Be brief.' });
    await send(directory, { ...config, instructions: 'Be brief.' });
    const [first, second, third, fourth, fifth] = model.requests.map(start);
    expect(second).toEqual(first);
    expect(third?.system).toContain('Use spaces.');
    expect(third?.tools.map(({ name }) => name)).toEqual(expect.arrayContaining(['further', 'activate_skill']));
    expect(fourth?.system).toMatch(/^Be brief\./);
    expect(fifth).toEqual(fourth);
    expect(model.requests[4]?.messages).toHaveLength(9);
  });

  // contract: 4.1-kept-over-restarts
  test('is told anew after a compaction', async ({ directory }) => {
    const turns = [{ text: 'One.', usage: { input: 71 } }, 'A summary.', 'Two.', 'Three.'];
    const model = scriptedModel(turns, { contextWindow: 100 });
    await mkdir(join(directory, 'work'));
    const config = { model, compaction: { reserveTokens: 30, keepRecentTokens: 1 } };
    await send(directory, config);
    await changeWorkspace(join(directory, 'work'));
    await send(directory, config);
    await send(directory, config);
    const [first, , second, third] = model.requests.map(start);
    expect(first?.system).not.toContain('Use spaces.');
    expect(second?.system).toContain('Use spaces.');
    expect(third).toEqual(second);
  });

  // contract: 4.1-kept-over-restarts, 4.1-tools-kept
  test('is told of the tools that a server had, and that one is gone when it calls it', async ({ directory }) => {
    const served = (name: string) => ({ name, inputSchema: { type: 'object' } });
    const model = scriptedModel(['One.', { toolCalls: [{ name: 'mcp__there__old', input: {} }] }, 'Two.']);
    await mkdir(join(directory, 'work'));
    const page = { tools: [served('old')] };
    await using server = await mcpHttpServer({ pages: [page] });
    const config = { model, mcpServers: { there: { url: server.url } } };
    await send(directory, config);
    page.tools = [served('new')];
    await send(directory, config);
    const [first, second, third] = model.requests;
    expect(second?.tools).toEqual(first?.tools);
    expect(third?.messages.at(-1)).toMatchObject({ toolName: 'mcp__there__old', isError: true });
    expect(JSON.stringify(third?.messages.at(-1))).toContain('There is no tool named');
  });
});
