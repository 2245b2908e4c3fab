import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { defineAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { test } from '../../support/runtime.ts';

const agent = (answer: string) => `
  import { defineAgent, virtual } from 'berth';
  import { scriptedModel } from 'berth/testing';
  export default defineAgent(() => ({ model: scriptedModel([${JSON.stringify(answer)}]), sandbox: virtual() }));`;
const workflow = (result: string) => `
  import { defineAgent, defineWorkflow, virtual } from 'berth';
  const agent = defineAgent(() => ({ sandbox: virtual() }));
  export default defineWorkflow({ name: 'own', agent, run: (): string => ${JSON.stringify(result)} });`;

async function write(folder: string, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}

// contract: 1.8-discover
test('registers what is in agents/ and workflows/ by the names of the files, beside what is registered', async ({
  directory,
}) => {
  await write(directory, {
    'agents/helper.ts': agent('Hello.'),
    'workflows/first.ts': workflow('one'),
    'workflows/second.mjs': workflow('two').replace(': string', ''),
    'workflows/first.test.ts': 'no module',
    'workflows/first.d.ts': 'no module',
    'workflows/README.md': 'no module',
    'workflows/below/third.ts': 'no module',
    'other/fourth.ts': 'no module',
  });
  const third = defineWorkflow({ name: 'x', agent: defineAgent(() => ({})), run: () => 'three' });
  await using runtime = await createRuntime({ store: ':memory:', discover: directory, workflows: { third } });
  expect(await (await runtime.invoke('first')).result()).toBe('one');
  expect(await (await runtime.invoke('second')).result()).toBe('two');
  const receipt = await runtime.dispatch('helper', { instance: 'i', message: 'Hi.' });
  expect((await receipt.result()).text).toBe('Hello.');
  await expect(runtime.invoke('own')).rejects.toMatchObject({ code: 'workflow_not_found' });
  await expect(runtime.invoke('fourth')).rejects.toMatchObject({ code: 'workflow_not_found' });
});

// contract: 1.8-discover-refused
test('refuses, with the path of each, what can not be loaded or registered', async ({ directory }) => {
  await write(directory, {
    'agents/2nd.ts': agent(''),
    'agents/flow.ts': workflow(''),
    'workflows/broken.ts': "import 'no-such-package';",
    'workflows/nothing.ts': 'export const workflow = 1;',
    'workflows/taken.ts': workflow(''),
    'workflows/twice.js': workflow('').replace(': string', ''),
    'workflows/twice.ts': workflow(''),
    'workflows/z-again.ts': "export { default } from './twice.js';",
  });
  const taken = defineWorkflow({ name: 'x', agent: defineAgent(() => ({})), run: () => null });
  const opening = createRuntime({ store: ':memory:', discover: directory, workflows: { taken } });
  const error = await opening.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(DefinitionError);
  const said = (error as DefinitionError).issues.map(({ path, message }) => [
    path.slice(directory.length + 1),
    message,
  ]);
  expect(said).toEqual([
    ['agents/2nd.ts', expect.stringContaining('must be a name')],
    ['agents/flow.ts', 'must export an agent as default: export default defineAgent(…)'],
    ['workflows/broken.ts', expect.stringMatching(/^can't be loaded: .*no-such-package/)],
    ['workflows/nothing.ts', 'must export a workflow as default: export default defineWorkflow({ … })'],
    ['workflows/taken.ts', "can't be registered: the name taken is taken"],
    ['workflows/twice.ts', "can't be registered: the name twice is taken"],
    ['workflows/z-again.ts', 'is twice already: it can have one name only'],
  ]);
});

// contract: 1.8-discover-refused
test('refuses a folder in which nothing can be found', async ({ directory }) => {
  const opening = (discover: string) => createRuntime({ store: ':memory:', discover });
  await expect(opening(join(directory, 'missing'))).rejects.toThrow(/missing has neither a folder agents nor/);
  await write(directory, { agents: 'a file' });
  await expect(opening(directory)).rejects.toThrow(/agents can't be read: ENOTDIR/);
});
