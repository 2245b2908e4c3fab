import { expect } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { test } from '../../support/runtime.ts';

const workflow = defineWorkflow({ name: 'w', agent: defineAgent(() => ({})), run: () => 1 });

// contract: 8-observe-order
test('observers are told of an event one after the other, in the order in which they came', async ({ runtime }) => {
  const told: string[] = [];
  for (const name of ['first', 'second', 'third']) runtime.observe(({ type }) => void told.push(`${name} ${type}`));
  await (await runtime.invoke(workflow)).result();
  expect(told).toEqual(
    ['run_start', 'run_end'].flatMap((type) => [`first ${type}`, `second ${type}`, `third ${type}`]),
  );
});

// contract: 8-observe-slow
test('an observer whose promise never settles keeps nobody waiting', async ({ runtime }) => {
  const told: string[] = [];
  runtime.observe(() => new Promise(() => {}));
  runtime.observe(({ type }) => void told.push(type));
  expect(await (await runtime.invoke(workflow)).result()).toBe(1);
  expect(told).toEqual(['run_start', 'run_end']);
});

// contract: 8-observe-context
test('an observer may write to the log of the runtime', async ({ runtime, logged }) => {
  runtime.observe(({ type }, { log, runId }) => log.warn(`saw ${type}`, { of: runId }));
  const run = await runtime.invoke(workflow);
  await run.result();
  expect(logged).toContainEqual(expect.objectContaining({ msg: 'saw run_end', of: run.id, level: 40 }));
});
