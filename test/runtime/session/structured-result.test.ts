import * as v from 'valibot';
import { expect, test } from 'vitest';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';

const finish = (input: unknown) => ({ toolCalls: [{ name: 'finish', input }] });
const person = v.object({
  name: v.string(),
  born: v.pipe(
    v.string(),
    v.isoDate(),
    v.transform((text) => new Date(text)),
  ),
});

async function ask<Result extends v.GenericSchema>(turns: ScriptedTurn[], result: Result) {
  const model = scriptedModel(turns);
  const bench = await harnessBench({ model });
  const session = await bench.harness.session();
  return { model, bench, session, prompt: session.prompt('Who?', { result }) };
}

// contract: 3.3-footer, 3.3-parameters, 3.3-parsed, 3.2-option-result
test('gives the parsed side of the schema, and explains the two tools below the prompt', async () => {
  const { prompt, model, bench } = await ask([finish({ name: 'Ada', born: '1815-12-10' })], person);
  await using _ = bench;
  expect(await prompt).toMatchObject({ data: { name: 'Ada', born: new Date('1815-12-10') }, text: '', turns: 1 });
  const { tools = [], messages = [] } = model.requests[0] ?? {};
  expect(tools.slice(-2).map(({ name }) => name)).toEqual(['finish', 'give_up']);
  expect(tools.at(-2)?.parameters).toMatchObject({ type: 'object', required: ['name', 'born'] });
  expect(JSON.stringify(messages[0])).toMatch(/Who\?.*finish.*give_up/);
});

// contract: 3.3-wrapped
test('wraps a schema that is no object at its top', async () => {
  const { prompt, model, bench } = await ask([finish({ result: [1, 2] })], v.array(v.number()));
  await using _ = bench;
  expect((await prompt).data).toEqual([1, 2]);
  expect(model.requests[0]?.tools.at(-2)?.parameters).toMatchObject({
    properties: { result: { type: 'array' } },
    required: ['result'],
  });
});

// contract: 3.3-issues
test('answers a result that does not fit with the path of each issue, and takes the next', async () => {
  const { prompt, model, bench } = await ask(
    [finish({ name: 1, born: 'x' }), finish({ name: 'Ada', born: '1815-12-10' })],
    person,
  );
  await using _ = bench;
  expect(await prompt).toMatchObject({ data: { name: 'Ada' }, turns: 2 });
  const answer = JSON.stringify(model.requests[1]?.messages.at(-1));
  expect(answer).toContain('result.name: ');
  expect(answer).toContain('result.born: ');
});

// contract: 3.3-first-wins, 3.3-ends-after-batch
test('the first that is valid wins, also within one turn, whose other calls are run', async () => {
  const { prompt, session, bench } = await ask(
    [
      {
        toolCalls: [
          { name: 'finish', input: { result: 'no number' } },
          { name: 'finish', input: { result: 1 } },
          { name: 'give_up', input: { reason: 'late' } },
          { name: 'finish', input: { result: 2 } },
          { name: 'write', input: { path: 'done', content: 'yes' } },
        ],
      },
    ],
    v.number(),
  );
  await using _ = bench;
  expect((await prompt).data).toBe(1);
  expect(await bench.harness.fs.readFile('done')).toBe('yes');
  const states = (await session.history())[1]?.parts.map((part) => part.type === 'dynamic-tool' && part.state);
  expect(states).toEqual(['output-error', 'output-available', 'output-error', 'output-error', 'output-available']);
});

// contract: 3.3-reminders
test('reminds a model that stops without a result five times, and then gives up', async () => {
  const { prompt, model, bench } = await ask(['1', '2', '3', '4', '5', 'I can not.'], v.number());
  await using _ = bench;
  await expect(prompt).rejects.toMatchObject({
    name: 'ResultUnavailableError',
    reason: expect.stringContaining('6 times'),
    assistantText: 'I can not.',
  });
  expect(model.requests).toHaveLength(6);
  expect(bench.of('message_start').filter(({ message }) => message.role === 'user')).toHaveLength(6);
});

// contract: 3.3-after-reminder
test('takes a result that comes after a reminder', async () => {
  const { prompt, bench } = await ask(['Here it is: 7', finish({ result: 7 })], v.number());
  await using _ = bench;
  expect((await prompt).data).toBe(7);
});

// contract: 3.3-give-up
test('rejects with the reason when the model gives up', async () => {
  const { prompt, bench } = await ask(
    [{ text: 'Hm.', toolCalls: [{ name: 'give_up', input: { reason: 'nobody knows' } }] }],
    v.number(),
  );
  await using _ = bench;
  await expect(prompt).rejects.toMatchObject({
    code: 'result_unavailable',
    reason: 'nobody knows',
    assistantText: 'Hm.',
  });
});

// contract: 3.3-issues
test('asks for a text when give_up comes without a reason', async () => {
  const { prompt, bench } = await ask(
    [{ toolCalls: [{ name: 'give_up', input: {} }] }, finish({ result: 1 })],
    v.number(),
  );
  await using _ = bench;
  expect((await prompt).data).toBe(1);
});

// contract: 3.3-issues
test('treats a check of the author that throws as an issue', async () => {
  const json = v.pipe(
    v.string(),
    v.transform((text): unknown => JSON.parse(text)),
  );
  const { prompt, bench } = await ask([finish({ result: '{' }), finish({ result: '{"a":1}' })], json);
  await using _ = bench;
  expect((await prompt).data).toEqual({ a: 1 });
});

// contract: 3.3-only-then, 5-result-tools
test('a later prompt of the session has no finish any more', async () => {
  const { prompt, session, model, bench } = await ask([finish({ result: 1 }), 'Bye.'], v.number());
  await using _ = bench;
  await prompt;
  await session.prompt('Thanks.');
  expect(model.requests[1]?.tools.map(({ name }) => name)).not.toContain('finish');
});

// contract: 4.4-reminders
test('counts the turns after a reminder', async () => {
  const usage = { input: 5, output: 1 };
  const { prompt, bench } = await ask(
    [
      { text: 'Seven.', usage },
      { ...finish({ result: 7 }), usage },
    ],
    v.number(),
  );
  await using _ = bench;
  expect(await prompt).toMatchObject({ data: 7, usage: { totalTokens: 12 }, turns: 2 });
});
