import * as v from 'valibot';
import { expect } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { test } from '../../support/runtime.ts';

// contract: 1.5-max-value-bytes
test('no value crosses that has more JSON than maxValueBytes: inputs, outputs of actions and tools, results of steps', async ({
  directory,
}) => {
  const fits = 'x'.repeat(98);
  const tooLong = `${fits}x`;
  const give = defineAction({
    name: 'give',
    description: 'Gives.',
    input: v.object({ count: v.number() }),
    run: ({ input }) => 'x'.repeat(input.count),
  });
  const tell = defineTool({ name: 'tell', description: 'Tells.', run: () => tooLong });
  const model = scriptedModel([
    { toolCalls: [{ name: 'tell' }, { name: 'give', input: { count: 99 } }] },
    'Done.',
    'Done.',
  ]);
  const agent = defineAgent(() => ({ model, tools: [tell], actions: [give], workspaceContext: false }), { name: 'a' });
  const workflow = defineWorkflow({
    name: 'w',
    agent,
    input: v.looseObject({}),
    run: async ({ harness }) => {
      expect(await harness.run(give, { count: 98 })).toBe(fits);
      expect(await harness.step('fits', () => fits)).toBe(fits);
      await expect(harness.step('long', () => tooLong)).rejects.toThrow('more than 100 bytes');
      await (await harness.session()).prompt('x');
      return tooLong;
    },
  });
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: local({ cwd: directory }),
    maxValueBytes: 100,
  });
  await expect((await runtime.invoke(workflow)).result()).rejects.toMatchObject({
    name: 'ActionOutputSerializationError',
    meta: { kind: 'more than 100 bytes of JSON' },
  });
  const told = JSON.stringify(model.requests[1]?.messages.filter(({ role }) => role === 'tool'));
  expect(told.match(/more than 100 bytes/g)).toHaveLength(2);
  await expect(runtime.invoke(workflow, { input: { tooLong } })).rejects.toThrow('more than 100 bytes');
  const receipt = await runtime.dispatch(agent, { instance: 'i', input: fits });
  expect((await receipt.result()).text).toBe('Done.');
  await expect(runtime.dispatch(agent, { instance: 'i', input: tooLong })).rejects.toThrow('more than 100 bytes');
});

// contract: 1.5-max-value-bytes
test.for([0, 1.5, '1'])('maxValueBytes must be a whole number over 0, not %j', async (maxValueBytes) => {
  const opening = createRuntime({ store: ':memory:', maxValueBytes } as never);
  await expect(opening).rejects.toThrow('maxValueBytes must be a whole number over 0');
});
