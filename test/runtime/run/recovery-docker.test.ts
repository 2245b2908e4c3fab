import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import type { ModelRequest } from '../../../src/runtime/model/model.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { type ScriptedAnswer, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { test } from '../../support/runtime.ts';
import { openHost } from '../../support/sandbox-fixture.ts';

let opened: Awaited<ReturnType<typeof openHost>>;

beforeAll(async () => {
  opened = await openHost();
});

afterAll(() => opened[Symbol.asyncDispose]());

/** Writes that it was run, and waits until it may end. */
const looped = (name: string) => `echo ${name} >> runs; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended`;

// contract: 7.4-tool-results, 11-joined
test('of a turn that was interrupted results stay, commands are joined, an Action and a task go on; no tool is called again', async ({
  directory,
}) => {
  const counts = { ended: 0, silent: 0 };
  const ended = defineTool({ name: 'ended', description: 'Ends.', run: () => ++counts.ended });
  const silent = defineTool({
    name: 'silent',
    description: 'Does not end.',
    run: ({ signal }) => {
      counts.silent++;
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  const act = defineAction({
    name: 'act',
    description: 'Acts.',
    run: async ({ harness }) => {
      const number = await harness.step('once', () => ++counts.ended);
      return [number, (await harness.shell(looped('action'))).stdout];
    },
  });
  const asked: ModelRequest[] = [];
  const answer = (request: ModelRequest): ScriptedAnswer | string => {
    const isTask = JSON.stringify(request.messages[0]).includes('Do the task.');
    if (request.messages.at(-1)?.role === 'tool') {
      if (!isTask) asked.push(request);
      return isTask ? 'The task is done.' : 'All is done.';
    }
    const bash = (id: string) => ({ id, name: 'bash', input: { command: looped(id) } });
    if (isTask) return { toolCalls: [bash('in-task')] };
    const others = ['ended', 'silent', 'act'].map((name) => ({ id: name, name }));
    return { toolCalls: [...others, { id: 'task', name: 'task', input: { prompt: 'Do the task.' } }, bash('bash')] };
  };
  const workflow = () =>
    defineWorkflow({
      name: 'w',
      agent: defineAgent(() => ({
        model: scriptedModel(Array.from({ length: 9 }, () => answer)),
        tools: [ended, silent],
        actions: [act],
      })),
      run: async ({ harness }) => {
        const { text } = await (await harness.session()).prompt('Do all of it.');
        return { text, runs: (await harness.shell('sort runs')).stdout };
      },
    });
  const open = () =>
    createRuntime({
      store: join(directory, 'runtime.db'),
      host: opened.host,
      logger: pino({ level: 'silent' }),
      workflows: { w: workflow() },
    });

  const first = await open();
  const begun = new Set<string>();
  const areUnderWay = new Promise<void>((resolve) => {
    first.observe((event) => {
      if (event.type === 'tool_output' || event.type === 'tool') begun.add(event.toolCallId);
      if (begun.size === 4) resolve(); // `ended`, and three commands
    });
  });
  const run = await first.invoke('w', { id: 'the-run' });
  await areUnderWay;
  await first.close({ timeoutMs: 0 });
  await expect(run.result()).rejects.toMatchObject({ name: 'RuntimeUnavailableError' });

  await using later = await open();
  const [info] = await opened.host.list({ labels: { 'berth.run': 'the-run' } });
  {
    const sandbox = await opened.host.connect(info?.id ?? '');
    await sandbox.exec('touch go');
    await sandbox.close();
  }
  const runs = 'action\nbash\nin-task\n';
  expect(await (await later.run('the-run')).result()).toEqual({ text: 'All is done.', runs });
  expect(counts).toEqual({ ended: 2, silent: 1 });
  const results = asked[0]?.messages.flatMap((message) => (message.role === 'tool' ? [message] : [])) ?? [];
  const byName = new Map(
    results.map(({ toolName, content, isError }) => [toolName, [JSON.stringify(content), isError]]),
  );
  expect(byName.get('ended')).toEqual([expect.stringContaining('1'), false]);
  expect(byName.get('silent')).toEqual([expect.stringContaining('outcome is unknown'), true]);
  expect(byName.get('act')).toEqual([expect.stringMatching(/begun.*ended/), false]);
  expect(byName.get('task')).toEqual([expect.stringContaining('The task is done.'), false]);
  expect(byName.get('bash')).toEqual([expect.stringMatching(/begun.*ended/), false]);
});
