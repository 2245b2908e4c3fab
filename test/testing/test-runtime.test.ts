import { expect, test } from 'vitest';
import { defineAgent } from '../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../src/runtime/define/workflow.ts';
import type { Harness } from '../../src/runtime/harness/harness.ts';
import { registerProvider } from '../../src/runtime/model/providers.ts';
import { scriptedModel } from '../../src/testing/scripted-model.ts';
import { testRuntime } from '../../src/testing/test-runtime.ts';

function asking(...models: string[]) {
  let seen: object = {};
  const agent = defineAgent(({ env }) => {
    seen = env;
    return { model: 'openai/gpt-5.1' };
  });
  const run = async (harness: Harness) => {
    const texts: string[] = [];
    for (const [i, model] of models.entries()) {
      texts.push((await (await harness.session(`s${i}`)).prompt('Hi.', { model })).text);
    }
    return { texts, cwd: harness.sandbox.cwd };
  };
  return { workflow: defineWorkflow({ name: 'w', agent, run: ({ harness }) => run(harness) }), seen: () => seen };
}

test('one model stands for all that are named, in a sandbox in memory, and all events are there', async () => {
  registerProvider('test-runtime', { api: 'openai-completions', baseUrl: 'http://127.0.0.1:9/v1' });
  const { workflow, seen } = asking('anthropic/claude-opus-5', 'test-runtime/any', 'own/any');
  const own = scriptedModel(['Own.']);
  await using runtime = await testRuntime({ model: scriptedModel(['One.', 'Two.']), models: { own } });
  const result = await (await runtime.invoke(workflow)).result();
  expect(result).toEqual({ texts: ['One.', 'Two.', 'Own.'], cwd: '/workspace' });
  expect(runtime.events[0]?.type).toBe('run_start');
  expect(runtime.events.at(-1)).toMatchObject({ type: 'run_end', state: 'completed' });
  expect(seen()).toEqual({});
});

test('without a model each request fails, and nothing is asked', async () => {
  await using runtime = await testRuntime();
  const run = await runtime.invoke(asking('openai/gpt-5.1').workflow);
  await expect(run.result()).rejects.toThrow('was asked for turn 1, but has only 0');
});

test('options of createRuntime are taken, others refused', async () => {
  const { workflow } = asking();
  await using runtime = await testRuntime({ workflows: { named: workflow }, env: { A: '1' } });
  await (await runtime.invoke('named')).result();
  await expect(testRuntime({ colour: 1 } as never)).rejects.toThrow('colour is not a known field');
});
