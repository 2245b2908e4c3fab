import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect } from 'vitest';
import type { Model, ModelEvent, ModelRequest } from '../../src/runtime/model/model.ts';
import { RecordingError, RecordingMismatchError, recordedModel, scriptedModel } from '../../src/testing/index.ts';
import { served, wires } from '../runtime/model/served.ts';
import { test } from '../support/runtime.ts';

function asking(text: string, more: Partial<ModelRequest> = {}): ModelRequest {
  const messages: ModelRequest['messages'] = [{ role: 'user', content: [{ type: 'text', text }] }];
  return { system: 'Be brief.\nDate: 2026-01-01', messages, tools: [], thinkingLevel: 'low', ...more };
}

async function ask(model: Model, request: ModelRequest) {
  const events: ModelEvent[] = [];
  for await (const event of model.stream(request, new AbortController().signal)) events.push(event);
  return events.filter(({ type }) => type !== 'progress');
}

const tool = { name: 'bash', description: 'Runs.', parameters: { type: 'object', properties: {} } } as const;

for (const wire of wires.slice(0, 2)) {
  describe(`recorded over ${wire.api}`, () => {
    test('gives the same events again without a provider, and has no key in its file', async ({ directory }) => {
      const file = `${directory}/recordings/a.json`;
      const answer = {
        thinking: 'I think.',
        text: 'The key is secret-key.',
        toolCalls: [{ id: 'c1', name: 'bash', pieces: ['{"a":', '1}'] }],
      };
      const { provider, model } = await served(wire, [
        { status: 529, body: { error: { type: 'overloaded_error', message: 'Overloaded' } } },
        { events: wire.events(answer) },
        { events: wire.events({ text: 'A longer text.' }) },
      ]);
      await using _ = provider;
      const options = { record: true, secrets: ['secret-key'] };
      const recorder = recordedModel(file, model, options);
      await expect(ask(recorder, asking('one'))).rejects.toMatchObject({ transient: true });
      await ask(recorder, asking('one'));
      const recorded = await ask(recorder, asking('two'));
      await recorder.finish();
      const text = await readFile(file, 'utf8');
      expect(text).toContain('<masked>');
      expect(text).not.toMatch(/secret-key|authorization|x-api-key/i);

      const replayed = recordedModel(file, undefined, { record: false });
      expect(replayed).toMatchObject({ provider: model.provider, id: model.id, api: wire.api });
      const another = asking('two', { system: 'Be brief.\nDate: 2031-12-31' });
      expect(await ask(replayed, another)).toEqual(recorded);
      const calls = (await ask(replayed, asking('one'))).filter(({ type }) => type === 'tool-call');
      expect(calls).toMatchObject([{ toolName: 'bash', input: '{"a":1}' }]);
      await replayed.finish();
    });
  });
}

test('a request that has changed is refused with what differs', async ({ directory }) => {
  const file = `${directory}/a.json`;
  const recorder = recordedModel(file, scriptedModel(['yes']), { record: true });
  await ask(recorder, asking('one\ntwo\nthree', { tools: [tool] }));
  await recorder.finish();

  const replayed = recordedModel(file, undefined, { record: false });
  const parameters = { ...tool.parameters, properties: { path: { type: 'string' } } } as const;
  const changed = { system: 'Be long.\nDate: 2026-01-01', tools: [{ ...tool, parameters }] };
  const error = await ask(replayed, asking('one\n2\nthree', changed)).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(RecordingMismatchError);
  expect(error).toMatchObject({
    meta: {
      differences: [
        'compared with request 1 of the recording:',
        'system prompt, line 1\n  - Be brief.\n  + Be long.',
        'tool bash, parameters, properties, path is new\n  + {"type":"string"}',
        'message 1 (user), content, 0, text, line 2\n  - two\n  + 2',
      ],
    },
  });
  await expect(replayed.finish()).rejects.toThrow('request 1 of the recording was not made');
});

test('the same request takes each of its answers once, whatever the order of others', async ({ directory }) => {
  const file = `${directory}/a.json`;
  const recorder = recordedModel(file, scriptedModel(['A', 'B', 'C']), { record: true });
  for (const text of ['same', 'other', 'same']) await ask(recorder, asking(text));
  await recorder.finish();

  const replayed = recordedModel(file, undefined, { record: false });
  const answers = await Promise.all(['same', 'same', 'other'].map((text) => ask(replayed, asking(text))));
  expect(answers.map(([first]) => first)).toMatchObject([{ text: 'A' }, { text: 'C' }, { text: 'B' }]);
  await expect(ask(replayed, asking('same'))).rejects.toThrow('all 3 answers of the recording were given already');
});

test('a recording that is not whole leaves the old file', async ({ directory }) => {
  const file = `${directory}/a.json`;
  await writeFile(file, 'old');
  const recorder = recordedModel(file, scriptedModel(['A', { error: { message: 'no', status: 500 } }]), {
    record: true,
  });
  await ask(recorder, asking('one'));
  await expect(ask(recorder, asking('two'))).rejects.toThrow('no');
  await expect(recorder.finish()).rejects.toThrow('request 2 was not answered');
  expect(await readFile(file, 'utf8')).toBe('old');
});

test('images are kept by their digest', async ({ directory }) => {
  const file = `${directory}/a.json`;
  const seeing = (data: string) =>
    asking('', { messages: [{ role: 'user', content: [{ type: 'image', data, mimeType: 'image/png' }] }] });
  const recorder = recordedModel(file, scriptedModel(['seen']), { record: true });
  await ask(recorder, seeing('aGVsbG8gd29ybGQ='));
  await recorder.finish();
  expect(await readFile(file, 'utf8')).not.toContain('aGVsbG8');
  await expect(ask(recordedModel(file), seeing('b3RoZXI='))).rejects.toThrow('content, 0, sha256');
});

test('a file that is missing, of another version or of another model is refused', async ({ directory }) => {
  const file = `${directory}/a.json`;
  expect(() => recordedModel(file)).toThrow(RecordingError);
  await writeFile(file, '{"version":2}');
  expect(() => recordedModel(file)).toThrow('has version 2, but this Berth reads 1');
  await writeFile(file, '{"version":1,"model":{"provider":"a","id":"b"},"turns":[]}');
  expect(() => recordedModel(file, scriptedModel([]))).toThrow('- a/b\n  + scripted/scripted');
});
