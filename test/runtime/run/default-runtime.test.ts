import { expect, vi } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { AgentNotFoundError } from '../../../src/runtime/errors.ts';
import { dispatch, invoke, observe } from '../../../src/runtime/run/default-runtime.ts';
import { local } from '../../../src/runtime/sandbox/local.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { test } from '../../support/runtime.ts';

// contract: 1.8-module-default
test('the functions of the module act on one runtime of the process, where no other is at work', async ({
  directory,
}) => {
  vi.stubEnv('BERTH_STATE_DIR', directory); // where its store is
  const sandbox = local({ cwd: directory });
  const told: string[] = [];
  const end = observe((event) => void told.push(`${event.runId ?? event.instanceId} ${event.type}`));
  const workflow = defineWorkflow({ name: 'w', agent: defineAgent(() => ({ sandbox })), run: () => 1 });
  const run = await invoke(workflow, { id: 'by-default' });
  expect(await run.result()).toBe(1);
  expect((await invoke(workflow, { id: 'by-default' })).id).toBe(run.id);
  const helper = defineAgent(() => ({ sandbox, model: scriptedModel(['Hello.', 'Bye.']) }), { name: 'helper' });
  const receipt = await dispatch(helper, { instance: 'one', message: 'Hi.' });
  expect((await receipt.result()).text).toBe('Hello.');
  expect((await invoke('w', { id: 'by-default' })).id).toBe(run.id); // also by name
  expect((await (await dispatch('helper', { instance: 'one', message: 'Bye.' })).result()).text).toBe('Bye.');
  await expect(dispatch('nobody', { instance: 'one', message: 'Hi.' })).rejects.toThrow(AgentNotFoundError);
  end();
  vi.unstubAllEnvs();
  expect(told).toEqual(expect.arrayContaining(['by-default run_end', 'one submission_settled']));
});
