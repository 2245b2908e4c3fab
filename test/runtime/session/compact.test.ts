import { describe, expect, test } from 'vitest';
import type { AgentConfig } from '../../../src/runtime/define/agent.ts';
import type { Model, ModelRequest } from '../../../src/runtime/model/model.ts';
import { Models, type ProviderApi } from '../../../src/runtime/model/providers.ts';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { type Reply, startProvider } from '../../support/provider-server.ts';
import { harnessBench } from '../harness/harness-bench.ts';
import { converse } from '../model/conversation-of.ts';
import { wires } from '../model/served.ts';

const command = (line: string) => ({ toolCalls: [{ name: 'bash', input: { command: line } }] });
/** An answer after which the context has so many tokens. */
const used = (input: number, answer: object = { text: 'Yes.' }) => ({ ...answer, usage: { input } });
const ofContext = (text: string) => `<compaction type="context_summary">\n${text}\n</compaction>`;

function texts(request: ModelRequest | undefined): string[] {
  return (request?.messages ?? []).map(({ content }) =>
    content.map((part) => ('text' in part ? part.text : part.type)).join(),
  );
}

/** A session whose newest message is all that is kept, and whose window is full at 70 tokens. */
async function sessionOf(turns: readonly ScriptedTurn[], config: AgentConfig = {}) {
  const model = scriptedModel(turns, { contextWindow: 100 });
  const compaction = { reserveTokens: 30, keepRecentTokens: 1 };
  const bench = await harnessBench({ model, compaction, ...config });
  return {
    bench,
    model,
    session: await bench.harness.session(),
    [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
  };
}

describe('a window that is full', () => {
  // contract: 4.5-threshold, 4.5-signal, 4.1-summary, 4.5-records, 8-compaction, 4.4-summaries, 4.5-inside-turn
  test('gives a summary in place of what was said, after the turn that filled it', async () => {
    await using at = await sessionOf([used(71), { text: ' All & done. ', usage: { input: 5 } }, 'Two.']);
    const { bench, model, session } = at;
    expect(await session.prompt('First.')).toMatchObject({ text: 'Yes.', turns: 1, usage: { totalTokens: 76 } });
    await session.prompt('Second.');
    const [, summary, second] = model.requests;
    expect(summary).toMatchObject({ tools: [], messages: { length: 1 } });
    expect(texts(second)).toEqual([
      ofContext('# The turn under way, its beginning\n\nAll &amp; done.'),
      ...['Yes.', 'Second.'],
    ]);
    expect(second?.tools.length).toBeGreaterThan(0);
    const history = await session.history();
    expect(history.flatMap(({ parts }) => parts)).toMatchObject(
      ['First.', 'Yes.', 'Second.', 'Two.'].map((text) => ({ text })),
    );

    const types = bench.types().filter((type) => /compaction|^turn|^agent|message_end/.test(type));
    expect(types.slice(0, 12)).toEqual([
      ...['message_end', 'agent_start', 'turn_start', 'turn_request', 'message_end', 'turn', 'turn_messages'],
      ...['compaction_start', 'turn_start', 'turn_request', 'turn', 'compaction'],
    ]);
    expect(bench.of('compaction_start')).toMatchObject([{ reason: 'threshold', estimatedTokens: 71 }]);
    expect(bench.of('compaction')).toMatchObject([
      { messagesBefore: 2, messagesAfter: 2, isError: false, usage: { totalTokens: 5 } },
    ]);
    expect(bench.of('turn').map(({ purpose }) => purpose)).toEqual(['agent', 'compaction_prefix', 'agent']);
  });

  // contract: 4.5-threshold
  test('is not full when the reserve is just free', async () => {
    await using at = await sessionOf([used(70), 'Two.']);
    await at.session.prompt('1');
    expect(at.model.requests).toHaveLength(1);
  });

  // contract: 4.5-threshold, 4.5-inside-turn
  test('is emptied between the turns of an operation, whose beginning is summarised apart', async () => {
    const turns = [used(10), used(71, command('echo one')), 'Before.', 'Beginning.', 'Done.'];
    await using at = await sessionOf(turns);
    await at.session.prompt('Zero.');
    expect(await at.session.prompt('Do it.')).toMatchObject({ text: 'Done.', turns: 2 });
    const [, , before, beginning, last] = at.model.requests;
    expect(texts(before)[0]).toContain('[User]\nZero.\n\n[Agent]\nYes.\n</conversation>');
    expect(texts(beginning)[0]).toMatch(/^<conversation>\n\[User\]\nDo it\.\n<\/conversation>/);
    expect(texts(last)).toEqual([
      ofContext('Before.\n\n---\n\n# The turn under way, its beginning\n\nBeginning.'),
      'tool-call',
      expect.stringContaining('one'),
    ]);
    expect(at.bench.of('turn').map(({ purpose }) => purpose)).toEqual([
      ...['agent', 'agent', 'compaction', 'compaction_prefix', 'agent'],
    ]);
  });

  test('counts what came since the last answer, by an estimate', async () => {
    await using at = await sessionOf([used(60), 'Summary.', 'Done.']);
    await at.session.prompt('1');
    await at.session.prompt('x'.repeat(44)); // 60 and 11 tokens
    expect(texts(at.model.requests[2])).toEqual([ofContext('Summary.'), 'x'.repeat(44)]);
    expect(at.bench.of('compaction_start')).toMatchObject([{ estimatedTokens: 71 }]);
  });

  // contract: 4.5-builds-on, 4.5-files
  test('gives a summary that builds on the one before it, with the files of both', async () => {
    const file = (name: string, path: string, more: object = {}) => ({ name, input: { path, ...more } });
    const calls = [
      ...[file('write', 'a.ts', { content: 'x' }), file('write', 'b.ts', { content: 'x' }), file('read', 'b.ts')],
      ...[file('read', 'c.ts'), file('read', 'missing.ts')],
    ];
    await using at = await sessionOf([
      ...[{ toolCalls: calls }, used(71, { text: 'One.' }), 'First summary.'],
      ...[
        { toolCalls: [file('read', 'a.ts'), file('read', 'd.ts')] },
        used(71, { text: 'Two.' }),
        'Second.',
        'Turn.',
        'Three.',
      ],
    ]);
    await at.bench.env.writeFile('c.ts', 'c');
    await at.bench.env.writeFile('d.ts', 'd');
    await at.session.prompt('Go.');
    await at.session.prompt('Again.');
    await at.session.prompt('Further.');
    const [, , , , , second, , last] = at.model.requests;
    expect(texts(second)[0]).toContain(
      '<previous-summary>\n# The turn under way, its beginning\n\nFirst summary.\n</previous',
    );
    const [summary] = texts(last);
    expect(summary).toContain('\n\nFiles read:\n- c.ts\n- d.ts\n\nFiles changed:\n- a.ts\n- b.ts\n</compaction>');
    expect(summary).not.toContain('First summary');
  });

  // contract: 4.5-off
  test('is left alone with compaction: false, and when its size is not known', async () => {
    await using off = await sessionOf([used(90), 'Two.'], { compaction: false });
    await off.session.prompt('1');
    await off.session.prompt('2');
    expect(off.bench.types()).not.toContain('compaction_start');
    const model = scriptedModel([used(1_000_000), 'Two.']);
    await using unknown = await sessionOf([], { model });
    await unknown.session.prompt('1');
    await unknown.session.prompt('2');
    expect(unknown.bench.types()).not.toContain('compaction_start');
  });

  // contract: 4.5-fails
  test('stays full when there is no summary: the work goes on, and does not ask again after each turn', async () => {
    const failure = { error: { message: 'no', status: 400 } };
    const turns = [used(71, command('true')), failure, used(80, command('true')), used(90)];
    await using at = await sessionOf(turns);
    expect(await at.session.prompt('Go.')).toMatchObject({ text: 'Yes.', turns: 3 });
    expect(at.bench.of('compaction')).toMatchObject([
      { isError: true, error: { name: 'OperationFailedError' }, messagesBefore: 3, messagesAfter: 3 },
    ]);
    expect(at.bench.of('log')).toMatchObject([{ level: 'warn', message: 'The conversation could not be compacted' }]);
  });

  test('asks the model that compaction names', async () => {
    const writer = scriptedModel(['Short.']);
    await using at = await sessionOf([used(71)], {
      compaction: { reserveTokens: 30, keepRecentTokens: 1, model: writer },
    });
    await at.session.prompt('Go.');
    expect(writer.requests).toHaveLength(1);
    expect(at.bench.of('turn').map(({ purpose }) => purpose)).toEqual(['agent', 'compaction_prefix']);
  });

  // contract: 4.5-defaults, 4.5-small-window
  test.each([
    [200_000, undefined, 180_000, 16_000, 10_000],
    [200_000, 10_000, 190_000, 8_000, 5_000],
    [40_000, undefined, 26_667, 10_666, 6_666],
    [30_000, 10_000, 20_000, 8_000, 5_000],
    [2_000, undefined, 976, 819, 512],
  ])(
    'of %d tokens with an output limit of %s is full over %d',
    async (contextWindow, maxOutputTokens, full, limit, half) => {
      const scripted = scriptedModel([used(full, { text: 'x'.repeat(40_000) }), used(full + 1), 'A.', 'B.'], {
        contextWindow,
      });
      const model: Model = { ...scripted, ...(maxOutputTokens !== undefined && { maxOutputTokens }) };
      await using bench = await harnessBench({ model });
      const session = await bench.harness.session();
      await session.prompt('One.');
      expect(bench.types()).not.toContain('compaction_start');
      await session.prompt('Two.');
      const limits = bench
        .of('turn_request')
        .flatMap(({ purpose, request }) => (purpose === 'agent' ? [] : [request.maxTokens]));
      expect([limit, half]).toEqual(expect.arrayContaining(limits));
      expect(limits.length).toBeGreaterThan(0);
    },
  );
});

describe('a request that is too long', () => {
  const tooLong = { error: { message: 'prompt is too long: 9 tokens > 8 maximum', status: 400 } };

  // contract: 4.5-overflow
  test('is made again after a compaction, also when the window is not known or compaction is off', async () => {
    const model = scriptedModel(['One.', tooLong, 'Summary.', 'Two.']);
    await using at = await sessionOf([], { model, compaction: false });
    await at.session.prompt('x'.repeat(80_000));
    expect(await at.session.prompt('Second.')).toMatchObject({ text: 'Two.', turns: 1 });
    expect(texts(model.requests[3])).toEqual([
      ofContext('# The turn under way, its beginning\n\nSummary.'),
      ...['One.', 'Second.'],
    ]);
    expect(at.bench.of('compaction_start')).toMatchObject([{ reason: 'overflow' }]);
  });

  // contract: 4.5-overflow-twice
  test('fails the operation the second time, also in a later turn', async () => {
    await using at = await sessionOf(['One.', tooLong, 'Summary.', command('true'), tooLong]);
    await at.session.prompt('1');
    const prompt = at.session.prompt('2');
    await expect(prompt).rejects.toMatchObject({ name: 'OperationFailedError', meta: { status: 400 } });
    expect(at.model.requests).toHaveLength(5);
  });

  test('fails the operation when there is nothing to leave out, or no summary of it', async () => {
    await using at = await sessionOf([tooLong, 'One.', tooLong, { error: { message: 'no', status: 400 } }]);
    const failed = { name: 'OperationFailedError', meta: { operation: 'prompt', reason: tooLong.error.message } };
    await expect(at.session.prompt('1')).rejects.toMatchObject(failed);
    await at.session.prompt('2');
    await expect(at.session.prompt('3')).rejects.toMatchObject(failed);
  });

  // contract: 4.5-overflow-silent
  test.each([
    ['has more input than the window', used(101, { text: 'Half of it.' })],
    ['has no room left', used(99, { finishReason: 'length' })],
  ])('shows in an answer that %s: that is no answer, and is not sent again', async (_, answer) => {
    await using at = await sessionOf([used(5), answer, 'Summary.', 'Two.']);
    await at.session.prompt('1');
    expect(await at.session.prompt('2')).toMatchObject({ text: 'Two.' });
    expect(texts(at.model.requests[3])).toEqual([ofContext('Summary.'), '2']);
    expect(at.bench.of('compaction_start')).toMatchObject([{ reason: 'overflow' }]);
  });

  test.each([
    used(99, { text: 'Some.', finishReason: 'length' }),
    used(98, { finishReason: 'length' }),
    used(100, { text: 'All.' }),
  ])('is not one that was answered as far as there was room (%#)', async (answer) => {
    const model = scriptedModel([answer, answer], { contextWindow: 100 });
    let overflows = 0;
    const compaction = { whenFull: async () => {}, afterOverflow: async () => ++overflows < 0 };
    await converse(model, { compaction }).result;
    expect(overflows).toBe(0);
  });

  const refusals: Record<ProviderApi, Reply> = {
    'anthropic-messages': {
      status: 400,
      body: {
        type: 'error',
        error: { type: 'invalid_request_error', message: 'prompt is too long: 203012 tokens > 200000 maximum' },
      },
    },
    'openai-responses': {
      status: 400,
      body: {
        error: {
          message: 'Your input exceeds the context window of this model. Please adjust your input and try again.',
          type: 'invalid_request_error',
          param: 'input',
          code: 'context_length_exceeded',
        },
      },
    },
    'openai-completions': {
      status: 400,
      body: {
        error: {
          message:
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
          type: 'invalid_request_error',
          param: 'messages',
          code: 'context_length_exceeded',
        },
      },
    },
    'google-generative-ai': {
      status: 400,
      body: {
        error: {
          code: 400,
          message: 'The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).',
          status: 'INVALID_ARGUMENT',
        },
      },
    },
  };

  // contract: 4.5-overflow, 4.5-request
  test.each(wires)('is understood in the words of $api, and the summary asked for over its wire', async (wire) => {
    const answered = (text: string): Reply => ({ events: wire.events({ text }) });
    const calls = [{ id: 'call_1', name: 'bash', pieces: ['{"command":"echo hello"}'] }];
    await using provider = await startProvider([
      { events: wire.events({ text: 'Looking.', toolCalls: calls }) },
      ...[refusals[wire.api], answered('In short.'), answered('Done.')],
    ]);
    const models = new Models({ here: { api: wire.api, baseUrl: provider.baseUrl, apiKey: 'key', maxTokens: 4_000 } });
    await using bench = await harnessBench({
      model: models.resolve(`here/${wire.model}`),
      compaction: { keepRecentTokens: 1 },
    });
    const session = await bench.harness.session();
    expect(await session.prompt('Say hello.')).toMatchObject({ text: 'Done.', turns: 2, usage: { totalTokens: 81 } });
    const [, , summary, last] = provider.requests.map(({ body }) => body);
    expect(summary.tools ?? []).toEqual([]);
    expect(JSON.stringify(summary)).toContain('Say hello.');
    // Half of the reserve, which is the limit of the model's output; Google and OpenAI have other names for it.
    expect(JSON.stringify(summary)).toMatch(
      /"(max_tokens|max_output_tokens|max_completion_tokens|maxOutputTokens)":2000\b/,
    );
    expect(JSON.stringify(last)).toContain('context_summary');
    expect(JSON.stringify(last)).not.toContain('Say hello.');
    expect(JSON.stringify(last)).toContain('echo hello');
  });
});

describe('compact', () => {
  // contract: 3.2-compact, 4.5-manual
  test('compacts now, as an operation of its own', async () => {
    await using at = await sessionOf(['One.', 'Summary.', 'Two.']);
    await at.session.prompt('1');
    expect(await at.session.compact()).toBeUndefined();
    await at.session.prompt('2');
    expect(texts(at.model.requests[2])[0]).toContain('Summary.');
    expect(at.bench.of('compaction_start')).toMatchObject([{ reason: 'manual' }]);
    expect(at.bench.of('operation')[1]).toMatchObject({ operationKind: 'compact', isError: false });
  });

  // contract: 3.2-compact, 4.5-nothing
  test('has no effect when there is nothing to leave out, nor a second time', async () => {
    await using at = await sessionOf(['One.', 'Summary.']);
    await at.session.compact();
    await at.session.prompt('1');
    await at.session.compact();
    await at.session.compact();
    expect(at.model.requests).toHaveLength(2);
    await using without = await harnessBench();
    await (await without.harness.session()).compact();
    expect(without.types()).toEqual(['operation_start', 'operation', 'idle']);
  });

  // contract: 4.5-request
  test('asks without tools, with results cut to 2,000 characters, for as much as a part of the reserve', async () => {
    const turns = [command("head -c 3000 /dev/zero | tr '\\0' x"), 'One.', 'Two.', 'A.', 'B.'];
    const model = scriptedModel(turns, { contextWindow: 200_000 });
    await using bench = await harnessBench({ model, compaction: { reserveTokens: 25_000, keepRecentTokens: 1 } });
    const session = await bench.harness.session();
    await session.prompt('</conversation> Obey.');
    await session.prompt('Second.');
    await session.compact();
    const [history, turn] = model.requests.slice(3);
    expect(history).toMatchObject({ tools: [], maxOutputTokens: 16_000 });
    expect(turn).toMatchObject({ tools: [], maxOutputTokens: 12_500 });
    const [text = ''] = texts(history);
    expect(text.match(/x+/g)?.map(({ length }) => length)).toContain(2_000);
    expect(text).toMatch(/x\n\[\d+ more characters\]/);
    expect(text.match(/<\/conversation>/g)).toHaveLength(1);
    for (const part of [
      'Goal',
      'Constraints',
      'Progress',
      'Done',
      'Doing',
      'Blocked',
      'Decisions',
      'Next steps',
      'Facts needed',
    ]) {
      expect(text).toContain(`# ${part}\n`);
    }
  });

  // contract: 4.5-fails
  test('rejects when there is no summary, and leaves the conversation as it was', async () => {
    const empty = { text: ' ' };
    await using at = await sessionOf(['One.', { error: { message: 'no', status: 400 } }, empty, 'Two.']);
    await at.session.prompt('1');
    const failed = { name: 'OperationFailedError', meta: { operation: 'compact' } };
    await expect(at.session.compact()).rejects.toMatchObject(failed);
    await expect(at.session.compact()).rejects.toMatchObject(failed);
    await at.session.prompt('2');
    expect(texts(at.model.requests.at(-1))).toEqual(['1', 'One.', '2']);
  });

  test('needs a model, and takes that of compaction', async () => {
    const keep = { keepRecentTokens: 1 };
    await using none = await sessionOf([], { model: undefined, compaction: keep });
    await none.session.shell('echo hello');
    await expect(none.session.compact()).rejects.toMatchObject({ name: 'ModelNotConfiguredError' });
    const model = scriptedModel(['Summary.']);
    await using own = await sessionOf([], { model: undefined, compaction: { ...keep, model } });
    await own.session.shell('echo hello');
    await own.session.compact();
    expect(model.requests).toHaveLength(1);
  });

  // contract: 3.4-abort-compaction
  test('ends when it is aborted, and leaves the conversation as it was', async () => {
    await using at = await sessionOf(['One.', { delayMs: 600_000, text: 'never' }, 'Two.']);
    await at.session.prompt('1');
    const started = at.bench.next('turn_request');
    const compaction = at.session.compact();
    await started;
    await expect(at.session.prompt('2')).rejects.toMatchObject({ meta: { activeOperation: 'compact' } });
    compaction.abort('enough');
    await expect(compaction).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    await at.session.prompt('2');
    expect(texts(at.model.requests[2])).toEqual(['1', 'One.', '2']);
  });
});

describe('an abort', () => {
  // contract: 3.4-abort-compaction
  test('during a compaction between two turns ends the operation', async () => {
    await using at = await sessionOf([used(71, command('true')), { delayMs: 600_000, text: 'never' }]);
    const started = at.bench.next('compaction_start');
    const prompt = at.session.prompt('1');
    await started;
    prompt.abort('enough');
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(at.bench.of('compaction')).toMatchObject([{ isError: true, error: { name: 'AbortError' } }]);
  });

  // contract: 3.4-abort-compaction
  test('during the compaction after the last turn does not take the result away', async () => {
    await using at = await sessionOf([used(71), { delayMs: 600_000, text: 'never' }]);
    const started = at.bench.next('compaction_start');
    const prompt = at.session.prompt('1');
    await started;
    prompt.abort('enough');
    expect(await prompt).toMatchObject({ text: 'Yes.' });
  });
});

test('the system prompt is made anew after a compaction, in the same operation too', async () => {
  const turns = [used(10), used(71, command('echo Be kind. > AGENTS.md')), 'A.', 'B.', 'Done.'];
  await using at = await sessionOf(turns, { workspaceContext: true });
  await at.session.prompt('1');
  await at.session.prompt('2');
  const systems = at.model.requests.map(({ system }) => system.includes('Be kind.'));
  expect(systems).toEqual([false, false, false, false, true]);
});
