import { expect, test } from 'vitest';
import { builtinTools } from '../../../src/runtime/tools/builtin.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { converse } from '../model/conversation-of.ts';
import { toolBench } from './tool-bench.ts';

// contract: 4.2-sequential, 4.2-read-waits, 5-bash-streamed
test('a model reads, edits and tests a project, with calls of one turn in their order', async () => {
  await using bench = await toolBench();
  await bench.write('sum.mjs', 'export const sum = (a, b) => a - b;\n');
  await bench.write(
    'test.mjs',
    "import { sum } from './sum.mjs';\nif (sum(2, 2) !== 4) throw new Error('wrong');\nconsole.log('ok');\n",
  );
  const model = scriptedModel([
    { text: 'I run the test.', toolCalls: [{ name: 'bash', input: { command: 'node test.mjs' } }] },
    { toolCalls: [{ name: 'read', input: { path: 'sum.mjs' } }] },
    {
      toolCalls: [
        { name: 'edit', input: { path: 'sum.mjs', oldText: 'a - b', newText: 'a + b' } },
        { name: 'bash', input: { command: 'node test.mjs' } },
        { name: 'read', input: { path: 'sum.mjs' } },
      ],
    },
    ({ messages }) => `It says: ${JSON.stringify(messages.at(-2)?.content)}`,
  ]);
  const tools = builtinTools({ env: bench.env, shared: bench.shared, seesImages: true, key: (id) => id });
  const { result, events } = converse(model, { tools });
  expect(await result).toMatchObject({ text: 'It says: [{"type":"text","text":"ok"}]', turns: 4 });
  const ended = events.filter((event) => event.type === 'tool');
  expect(ended.map(({ toolName, isError }) => [toolName, isError])).toEqual([
    ['bash', false],
    ['read', false],
    ['edit', false],
    ['bash', false],
    ['read', false],
  ]);
  expect(ended[0]?.result).toMatchObject({
    content: [{ text: /Error: wrong.*Exit code: 1$/s }],
    details: { exitCode: 1 },
  });
  expect(ended[2]?.result).toMatchObject({ details: { diff: /-export .* a - b;\n\+export .* a \+ b;\n/ } });
  expect(ended[4]?.result).toMatchObject({ content: [{ text: /a \+ b/ }] });
  expect(events.filter((event) => event.type === 'tool_output').map(({ text }) => text)).toContain('ok\n');
});
