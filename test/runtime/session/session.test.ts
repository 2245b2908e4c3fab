import * as v from 'valibot';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { defineTool } from '../../../src/runtime/define/tool.ts';
import { IMAGE_DATA_OMITTED } from '../../../src/runtime/events/event.ts';
import type { Model } from '../../../src/runtime/model/model.ts';
import { noUsage } from '../../../src/runtime/model/usage.ts';
import { Conversation, keptConversations } from '../../../src/runtime/session/conversation.ts';
import type { PromptOptions, Session } from '../../../src/runtime/session/session.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';
import { gate } from '../model/conversation-of.ts';

const call = (name: string, input: unknown) => ({ toolCalls: [{ name, input }] });

describe('prompt', () => {
  // contract: 3.2-result, 3.2-prompt, 1.6-built-in-tools, 4.4-sum, 1.6-instructions
  test('gives text, usage, model, reason and turns, and keeps the conversation', async () => {
    const model = scriptedModel([
      { text: 'First.', ...call('bash', { command: 'echo hello' }), usage: { input: 10, output: 2 } },
      { text: 'Done.', usage: { input: 20, output: 3 } },
      'Yes.',
    ]);
    await using bench = await harnessBench({ model, instructions: 'Be brief.' });
    const session = await bench.harness.session();
    expect(await session.prompt('Do it.')).toMatchObject({
      text: 'Done.',
      usage: { input: 30, output: 5, totalTokens: 35 },
      model: { provider: 'scripted', id: 'scripted' },
      finishReason: 'stop',
      turns: 2,
    });
    await session.prompt('Sure?');
    const [first, , third] = model.requests;
    expect(first?.system).toMatch(/^Be brief\.\n\nDate: \d{4}-\d\d-\d\d\nWorking directory: \//);
    expect(third?.system).toBe(first?.system);
    expect(third?.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'assistant', 'user']);
    expect(first?.tools.map(({ name }) => name)).toEqual(['read', 'write', 'edit', 'bash', 'grep', 'glob', 'task']);
  });

  // contract: 8-scope, 8-version, 8-owner, 8-agent, 8-turn, 8-message, 8-deltas, 8-operation
  test('tells everything in order, inside of its operation', async () => {
    const model = scriptedModel([{ thinking: 'Hm.', ...call('bash', { command: 'echo out' }) }, 'Done.']);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session('work');
    await session.prompt('Do it.');
    const ends = bench.types().filter((type) => !type.includes('delta'));
    expect(ends).toEqual([
      'operation_start',
      ...['message_start', 'message_end', 'agent_start'],
      ...['turn_start', 'turn_request', 'message_start', 'thinking_start', 'thinking_end', 'message_end', 'turn'],
      ...['tool_start', 'tool_output', 'tool', 'turn_messages'],
      ...['turn_start', 'turn_request', 'message_start', 'message_end', 'turn', 'turn_messages'],
      ...['agent_end', 'operation', 'idle'],
    ]);
    const { operationId } = bench.of('operation_start')[0] ?? {};
    for (const event of bench.events) {
      expect(event).toMatchObject({
        v: 1,
        runId: 'run_bench',
        harness: 'default',
        session: 'work',
        conversationId: session.conversationId,
        operationId,
      });
    }
  });

  // contract: 3.2-refused-before, 1.1-tools-equal-of-call, 1.1-tools-reserved, 3.2-option-images-size
  test.each<[string, unknown]>([
    ['InvalidRequestError', [5]],
    ['InvalidRequestError', ['x', { maxTurns: 0 }]],
    ['InvalidRequestError', ['x', { maxTurns: 1.5 }]],
    ['InvalidRequestError', ['x', { images: [{ type: 'image', data: new Uint8Array(1), mimeType: 'image/png' }] }]],
    [
      'InvalidRequestError',
      ['x', { images: [{ type: 'image', data: 'data:image/png;base64,AAAA', mimeType: 'image/png' }] }],
    ],
    ['InvalidRequestError', ['x', { images: [{ type: 'image', data: '', mimeType: 'image/png' }] }]],
    ['InvalidRequestError', [' \n']],
    ['InvalidRequestError', ['x', { images: [{ type: 'image', data: 'AAAA', mimeType: 'png' }] }]],
    [
      'InvalidRequestError',
      ['x', { images: [{ type: 'image', data: 'A'.repeat(20_000_000), mimeType: 'image/png' }] }],
    ],
    ['DefinitionError', ['x', { thinkingLevel: 'very' }]],
    ['DefinitionError', ['x', { model: {} }]],
    ['DefinitionError', ['x', { tools: [{ name: 'a b', description: '', run: 1 }] }]],
    ['DefinitionError', ['x', { result: { type: 'object' } }]],
    ['DefinitionError', ['x', { result: v.object({ when: v.date() }) }]],
    ['ToolNameConflictError', ['x', { tools: [{ name: 'bash', description: 'd', run: () => 1 }] }]],
    ['ToolNameConflictError', ['x', { tools: [{ name: 'finish', description: 'd', run: () => 1 }] }]],
    ['InvalidModelError', ['x', { model: 'no-slash' }]],
    ['ModelNotFoundError', ['x', { model: 'nobody/knows' }]],
  ])('refuses with %s before the model is asked or anything recorded (%#)', async (name, args) => {
    const model = scriptedModel([]);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    const [text, options] = args as [string, PromptOptions];
    await expect(session.prompt(text, options)).rejects.toMatchObject({ name });
    expect(model.requests).toEqual([]);
    expect(await session.history()).toEqual([]);
  });

  // contract: 8-ends
  test('its loop ends with the usage of its turns', async () => {
    const model = scriptedModel([{ text: 'x', usage: { input: 3, output: 1 } }]);
    await using bench = await harnessBench({ model });
    await (await bench.harness.session()).prompt('x');
    expect(bench.of('agent_end')[0]).toMatchObject({ isError: false, usage: { totalTokens: 4 } });
  });

  // contract: 1.6-model-optional
  test('needs a model only when it is asked for', async () => {
    await using bench = await harnessBench();
    const session = await bench.harness.session();
    await session.shell('true');
    await expect(session.prompt('Hi.')).rejects.toMatchObject({ name: 'ModelNotConfiguredError' });
    expect(await session.prompt('Hi.', { model: scriptedModel(['Hello.']) })).toMatchObject({ text: 'Hello.' });
  });

  // contract: 3.2-option-model, 3.2-option-tools, 3.2-result-model
  test('takes thinking level, tools and model of the call before those of the agent, for this call only', async () => {
    const [ofAgent, ofCall] = [scriptedModel(['a', 'b']), scriptedModel(['c'], { id: 'other' })];
    await using bench = await harnessBench({ model: ofAgent, thinkingLevel: 'low' });
    const session = await bench.harness.session();
    const extra = defineTool({ name: 'extra', description: 'More.', run: () => 1 });
    const result = await session.prompt('1', { model: ofCall, thinkingLevel: 'high', tools: [extra] });
    expect(result.model).toEqual({ provider: 'scripted', id: 'other' });
    await session.prompt('2');
    expect(ofCall.requests[0]).toMatchObject({ thinkingLevel: 'high', tools: { length: 8 } });
    expect(ofAgent.requests[0]).toMatchObject({ thinkingLevel: 'low', tools: { length: 7 } });
  });

  // contract: 3.2-option-max-turns
  test('gives up after maxTurns', async () => {
    const model = scriptedModel([call('bash', { command: 'true' }), call('bash', { command: 'true' }), 'never']);
    await using bench = await harnessBench({ model });
    const prompt = (await bench.harness.session()).prompt('Go on.', { maxTurns: 2 });
    await expect(prompt).rejects.toMatchObject({ name: 'TurnLimitError', meta: { maxTurns: 2 } });
    expect(model.requests).toHaveLength(2);
  });

  // contract: 8-turn-request-live
  test('tells observers all that the model is asked, each time', async () => {
    const model = scriptedModel([{ toolCalls: [{ name: 'bash', input: { command: 'true' } }] }, 'Done.']);
    await using bench = await harnessBench({ model, instructions: 'Be brief.' });
    await (await bench.harness.session()).prompt('Go.');
    const requests = bench.of('turn_request').map(({ request }) => request);
    expect(requests).toMatchObject([
      { requestedModel: 'scripted', system: expect.stringMatching(/^Be brief/), messages: [{ role: 'user' }] },
      { messages: [{ role: 'user' }, { role: 'assistant' }, { role: 'tool' }] },
    ]);
    expect(requests[0]?.tools.map(({ name }) => name)).toContain('bash');
  });

  // contract: 4.4-session
  test('has the usage of all its operations, and of the tasks and actions below them', async () => {
    const turn = (input: number, answer: object = { text: 'x' }) => ({ ...answer, usage: { input } });
    const act = defineAction({
      name: 'act',
      description: 'Asks once.',
      run: async ({ harness }) => void (await (await harness.session()).prompt('In the action.')),
    });
    const model = scriptedModel([
      turn(1, call('act', {})),
      turn(2), // in the action
      turn(4, { error: { message: 'refused', status: 400 } }),
      turn(8), // of the task
      turn(16, { text: 'A summary.' }),
      turn(32), // in the other session
    ]);
    await using bench = await harnessBench({ model, actions: [act], compaction: { keepRecentTokens: 1 } });
    const { journal } = bench.harness.parts;
    const session = await bench.harness.session();
    expect(session.usage).toEqual(noUsage());
    await expect(session.prompt('Go.')).rejects.toThrow('refused');
    await session.task('Go.');
    await session.compact();
    await (await bench.harness.session('other')).prompt('Go.');
    expect(session.usage).toMatchObject({ input: 31, totalTokens: 31 });
    session.usage.input = 5;
    expect(session.usage.input).toBe(31);
    const kept = await keptConversations(journal); // what a later process finds
    expect(kept.get(session.conversationId)).toEqual(session.usage);
    const later = new Conversation({ journal, kept, harness: 'default', session: 'other', before: 0 });
    expect(later.usage.input).toBe(32);
  });

  // contract: 8-no-images, 7.3-file, 3.2-option-images
  test('keeps the bytes of images from events, and shows them to the model only', async () => {
    const data = Buffer.from('not really an image').toString('base64');
    const model = scriptedModel(['Seen.']);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    await session.prompt('Look.', { images: [{ type: 'image', data, mimeType: 'image/png' }] });
    expect(JSON.stringify(model.requests)).toContain(data);
    expect(JSON.stringify(bench.events)).not.toContain(data);
    expect(JSON.stringify(bench.events)).toContain(IMAGE_DATA_OMITTED);
    expect((await session.history())[0]?.parts[1]).toEqual({
      type: 'file',
      mediaType: 'image/png',
      id: expect.stringMatching(/^att_/),
      size: 19,
    });
  });

  // contract: 3.2-option-images-blind
  test('refuses images where the model is known not to see', async () => {
    const blind = { ...scriptedModel([]), seesImages: false };
    await using bench = await harnessBench({ model: blind });
    const image = { type: 'image', data: 'AA==', mimeType: 'image/png' } as const;
    const prompt = (await bench.harness.session()).prompt('Look.', { images: [image] });
    await expect(prompt).rejects.toMatchObject({ name: 'InvalidRequestError' });
  });

  // contract: 3.2-option-result
  test('has data of the type of its schema', () => {
    const check = async (session: Session) => {
      const result = v.object({ n: v.pipe(v.string(), v.transform(Number)) });
      expectTypeOf((await session.prompt('x', { result })).data).toEqualTypeOf<{ n: number }>();
      expectTypeOf(await session.prompt('x')).not.toHaveProperty('data');
    };
    expect(check).toBeTypeOf('function');
  });
});

describe('one operation at a time', () => {
  test('a second one is refused at once, without effect, and the first is not disturbed', async () => {
    const answer = gate<string>();
    await using bench = await harnessBench({ model: scriptedModel([() => answer.promise, 'Next.']) });
    const session = await bench.harness.session();
    const first = session.prompt('1');
    const busy = { name: 'SessionBusyError', status: 409, meta: { session: 'default', activeOperation: 'prompt' } };
    await expect(session.prompt('2')).rejects.toMatchObject(busy);
    await expect(session.shell('touch never')).rejects.toMatchObject(busy);
    answer.open('One.');
    expect(await first).toMatchObject({ text: 'One.' });
    expect(bench.of('operation_start')).toHaveLength(1);
    expect(await session.history()).toHaveLength(2);
    expect(await session.prompt('3')).toMatchObject({ text: 'Next.' });
  });

  test('one that was aborted before it started keeps nobody away', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Hello.']) });
    const session = await bench.harness.session();
    const aborted = session.prompt('1', { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    expect(await session.prompt('2')).toMatchObject({ text: 'Hello.' });
  });

  test('whoever sees the first event of one finds the session at work', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Hello.', 'never']) });
    const session = await bench.harness.session();
    const seconds: Promise<unknown>[] = [];
    bench.observe(({ type }) => {
      if (type === 'operation_start' && seconds.length === 0) seconds.push(session.prompt('2'));
    });
    await session.prompt('1');
    await expect(seconds[0]).rejects.toMatchObject({ name: 'SessionBusyError' });
  });

  // contract: 3.4-side-by-side
  test('sessions of one harness work side by side', async () => {
    const both = gate();
    let waiting = 0;
    const meet = async () => {
      waiting++;
      if (waiting === 2) both.open();
      await both.promise;
      return 'Met.';
    };
    await using bench = await harnessBench({ model: scriptedModel([meet, meet]) });
    const [a, b] = await Promise.all([bench.harness.session('a'), bench.harness.session('b')]);
    const results = await Promise.all([a.prompt('x'), b.prompt('x')]);
    expect(results.map(({ text }) => text)).toEqual(['Met.', 'Met.']);
  });
});

describe('an abort', () => {
  // contract: 3.4-abort-tools, 3.4-abort-unknown, 3.4-abort-error, 3.2-handle
  test('stops the answer; what was said is kept as aborted, and not sent again', async () => {
    const model = scriptedModel([
      { text: 'I begin to', delayMs: 0, toolCalls: [{ name: 'wait', input: {} }] },
      'Next.',
    ]);
    const started = gate();
    const wait = defineTool({
      name: 'wait',
      description: 'Waits until it is aborted.',
      run: ({ signal }) =>
        new Promise((_, reject) => {
          started.open();
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
    });
    await using bench = await harnessBench({ model, tools: [wait] });
    const session = await bench.harness.session();
    const prompt = session.prompt('Do it.');
    await started.promise;
    prompt.abort('enough');
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    const part = (await session.history())[1]?.parts[1];
    expect(part).toMatchObject({ state: 'output-error', errorText: expect.stringMatching(/outcome is unknown/) });
    await session.prompt('And now?');
    expect(JSON.stringify(model.requests[1]?.messages)).toContain('outcome is unknown');
  });

  // contract: 3.4-abort-stream, 3.2-option-signal
  test('of a model that is streaming ends the request, and the session can go on', async () => {
    const asked = gate();
    const model = scriptedModel([
      () => {
        asked.open();
        return { text: 'never', delayMs: 100_000 };
      },
      'Next.',
    ]);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    const stop = new AbortController();
    const prompt = session.prompt('Do it.', { signal: stop.signal });
    await asked.promise;
    stop.abort('by signal');
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError', cause: 'by signal' });
    expect(bench.of('operation')[0]).toMatchObject({ isError: true });
    expect(await session.prompt('Again.')).toMatchObject({ text: 'Next.' });
  });

  // contract: 3.4-abort-complete
  test('that comes when the answer is complete does not take it away', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Done.']) });
    const prompt = (await bench.harness.session()).prompt('Do it.');
    bench.observe(({ type }) => type === 'turn' && prompt.abort());
    expect(await prompt).toMatchObject({ text: 'Done.' });
  });

  // contract: 3.2-delete
  test('by deleting the session ends the operation, and keeps nothing', async () => {
    const asked = gate();
    const slow = () => {
      asked.open();
      return { text: 'never', delayMs: 100_000 };
    };
    await using bench = await harnessBench({ model: scriptedModel([slow]) });
    const session = await bench.harness.session();
    const prompt = session.prompt('Do it.');
    await asked.promise;
    await session.delete();
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError' });
    expect(await session.history()).toEqual([]);
  });
});

describe('session.shell', () => {
  // contract: 3.2-shell, 3.2-shell-text, 3.2-shell-redacted, 8-no-env, 7.3-tool-parts
  test('records a text of the user, a call of bash and its result, as the tool writes it', async () => {
    const model = scriptedModel(['I see.']);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session();
    expect(await session.shell('echo out; exit 3', { env: { TOKEN: 'hunter2' }, cwd: '.' })).toMatchObject({
      stdout: 'out\n',
      exitCode: 3,
    });
    const [user, assistant] = await session.history();
    expect(user).toMatchObject({ role: 'user', parts: [{ type: 'text' }] });
    expect(assistant?.parts).toEqual([
      {
        type: 'dynamic-tool',
        toolName: 'bash',
        toolCallId: expect.any(String),
        input: { command: 'echo out; exit 3', cwd: '.', env: { TOKEN: '<redacted>' } },
        state: 'output-available',
        output: 'out\n\nExit code: 3',
      },
    ]);
    await session.prompt('What happened?');
    expect(model.requests[0]?.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'user']);
    expect(JSON.stringify([model.requests, bench.events])).not.toContain('hunter2');
    const types = bench.types().slice(0, 9);
    expect(types).toEqual([
      'operation_start',
      ...['message_start', 'message_end', 'message_start', 'message_end'],
      ...['tool_start', 'tool_output', 'tool', 'operation'],
    ]);
  });

  // contract: 3.4-abort-unknown
  test('records that the outcome is unknown when it is aborted', async () => {
    await using bench = await harnessBench();
    const session = await bench.harness.session();
    const shell = session.shell('echo up; sleep 1301');
    bench.observe(({ type }) => type === 'tool_output' && shell.abort());
    await expect(shell).rejects.toMatchObject({ name: 'AbortError' });
    expect((await session.history())[1]?.parts[0]).toMatchObject({
      state: 'output-error',
      errorText: expect.stringMatching(/outcome is unknown/),
    });
  });
});

describe('the system prompt', () => {
  // contract: 4.1-order, 4.1-claude-md, 4.1-file-size, 4.1-absent
  test('has instructions, AGENTS.md, CLAUDE.md where it differs, and the names in the directory, in this order', async () => {
    const model = scriptedModel(['1', '2']);
    await using bench = await harnessBench({ model, instructions: 'Be brief.', workspaceContext: true });
    const { fs } = bench.harness;
    await fs.writeFile('AGENTS.md', '\n  Use tabs.\n\n');
    await fs.writeFile('CLAUDE.md', 'Use tabs.');
    for (let i = 0; i < 205; i++) await fs.writeFile(`names/f${String(i).padStart(3, '0')}`, '');
    const date = new Date().toISOString().slice(0, 10);
    await (await bench.harness.session('a')).prompt('x');
    expect(model.requests[0]?.system).toBe(
      `Be brief.\n\nUse tabs.\n\nDate: ${date}\nWorking directory: ${bench.cwd}\nIn it:\nAGENTS.md\nCLAUDE.md\nnames`,
    );
    await fs.writeFile('CLAUDE.md', 'Use spaces.');
    await (await bench.harness.session('b')).prompt('x');
    expect(model.requests[1]?.system).toContain('Use tabs.\n\nUse spaces.\n\nDate:');
  });

  // contract: 4.1-names
  test('lists at most 200 names, sorted, and says how many more there are', async () => {
    const model = scriptedModel(['1']);
    await using bench = await harnessBench({ model, workspaceContext: true });
    await bench.harness.shell('i=0; while [ $i -lt 203 ]; do : > f$((1000 + i)); i=$((i + 1)); done');
    await (await bench.harness.session()).prompt('x');
    const { system = '' } = model.requests[0] ?? {};
    expect(system).toContain('In it:\nf1000\nf1001\n');
    expect(system).toMatch(/f1199\n… and 3 more$/);
  });

  // contract: 4.1-file-size
  test('takes 64 KB of a file at most, and cuts no character', async () => {
    const model = scriptedModel(['1']);
    await using bench = await harnessBench({ model, workspaceContext: true });
    await bench.harness.fs.writeFile('AGENTS.md', `a${'ü'.repeat(64 * 1024)}`);
    await (await bench.harness.session()).prompt('x');
    const text = model.requests[0]?.system.split('\n\n')[0] ?? '';
    expect(text).toBe(`a${'ü'.repeat(32 * 1024 - 1)}`);
  });

  // contract: 4.1-unreadable
  test('leaves out what can not be read, with a warning in the log', async () => {
    const model = scriptedModel(['1']);
    await using bench = await harnessBench({ model, workspaceContext: true });
    await bench.harness.fs.mkdir('AGENTS.md');
    await (await bench.harness.session()).prompt('x');
    expect(model.requests[0]?.system).not.toContain('Use');
    expect(bench.of('log')).toMatchObject([{ level: 'warn', message: expect.stringContaining('AGENTS.md') }]);
  });

  // contract: 4.1-no-links-out
  test('follows a link within the working directory, and none out of it, which the log says', async () => {
    const model = scriptedModel(['1']);
    await using bench = await harnessBench({ model, workspaceContext: true });
    await bench.harness.fs.writeFile('docs/agents.md', 'Of the project.');
    await bench.harness.shell('ln -s docs/agents.md AGENTS.md; ln -s /etc/passwd CLAUDE.md');
    await (await bench.harness.session()).prompt('x');
    expect(model.requests[0]?.system).toMatch(/^Of the project\.\n\nDate:/);
    expect(model.requests[0]?.system).not.toContain('root:');
    expect(bench.of('log')).toMatchObject([{ level: 'warn', message: expect.stringContaining('CLAUDE.md') }]);
    expect(JSON.stringify(bench.of('log'))).toContain('a link out of the working directory');
  });

  // contract: 1.6-workspace-context, 4.1-absent
  test('has nothing of the sandbox where workspaceContext is false', async () => {
    const model = scriptedModel(['1']);
    await using bench = await harnessBench({ model, workspaceContext: false });
    await bench.harness.fs.writeFile('AGENTS.md', 'Untrusted.');
    await (await bench.harness.session()).prompt('x');
    expect(model.requests[0]?.system).toMatch(/^Date: .*\nWorking directory: .*$/);
  });
});

describe('history', () => {
  // contract: 3.2-history, 7.3-parts, 7.3-metadata
  test('can be read while the session works, and has ids, times, usage and models', async () => {
    const looked = gate();
    const model = scriptedModel([
      { toolCalls: [{ name: 'look' }], usage: { input: 2, output: 1 } },
      { text: 'Done.', thinking: 'Hm.' },
    ]);
    const during: unknown[] = [];
    await using bench = await harnessBench({
      model,
      tools: [
        defineTool({
          name: 'look',
          description: 'Reads the history.',
          run: async () => {
            during.push(...(await session.history()));
            looked.open();
          },
        }),
      ],
    });
    const session = await bench.harness.session();
    await session.prompt('Go.');
    await looked.promise;
    expect(during).toMatchObject([{ role: 'user' }, { parts: [{ toolName: 'look', state: 'input-available' }] }]);
    const history = await session.history();
    expect(history).toMatchObject([
      { role: 'user', parts: [{ type: 'text', text: 'Go.', state: 'done' }] },
      { role: 'assistant', metadata: { usage: { totalTokens: 3 }, model: { provider: 'scripted', id: 'scripted' } } },
      {
        parts: [
          { type: 'reasoning', text: 'Hm.' },
          { type: 'text', text: 'Done.' },
        ],
      },
    ]);
    expect(new Set(history.map(({ id }) => id)).size).toBe(3);
    for (const { metadata } of history) expect(new Date(metadata.timestamp).toISOString()).toBe(metadata.timestamp);
  });
});

// contract: 3.4-abort-kept
test('what a model had said when it was aborted stays in the history, and is not sent again', async () => {
  const next = scriptedModel(['Next.']);
  let first = true;
  const model: Model = {
    provider: 'test',
    id: 'endless',
    async *stream(request, signal) {
      if (!first) return yield* next.stream(request, signal);
      first = false;
      yield { type: 'text-delta', index: 0, text: 'I began.' };
      await new Promise(() => {});
    },
  };
  await using bench = await harnessBench({ model });
  const session = await bench.harness.session();
  const prompt = session.prompt('Do it.');
  bench.observe(({ type }) => type === 'text_delta' && prompt.abort());
  await expect(prompt).rejects.toMatchObject({ name: 'AbortError' });
  const [, aborted] = await session.history();
  expect(aborted).toMatchObject({ role: 'assistant', parts: [{ type: 'text', text: 'I began.' }] });
  await session.prompt('And now?');
  expect(next.requests[0]?.messages.map(({ role }) => role)).toEqual(['user', 'user']);
});

// contract: 3.2-option-max-turns-default
test('a prompt without a limit of its own gives up after 200 turns', async () => {
  const model = scriptedModel(Array.from({ length: 201 }, () => call('bash', {})));
  const bash = defineTool({ name: 'bash', description: 'Does nothing.', run: () => 1 });
  await using bench = await harnessBench({ model, builtinTools: false, tools: [bash] });
  const prompt = (await bench.harness.session()).prompt('Go on.');
  await expect(prompt).rejects.toMatchObject({ name: 'TurnLimitError', meta: { maxTurns: 200 } });
  expect(model.requests).toHaveLength(200);
});

// contract: 3.2-result-text
test('the text of an answer is its blocks of text, joined by newlines', async () => {
  const model: Model = {
    provider: 'test',
    id: 'blocks',
    async *stream() {
      yield { type: 'text-delta', index: 0, text: 'One' };
      yield { type: 'thinking-delta', index: 1, text: 'Hm.' };
      yield { type: 'text-delta', index: 2, text: 'two' };
      yield { type: 'finish', finishReason: 'stop', usage: noUsage() };
    },
  };
  await using bench = await harnessBench({ model });
  expect((await (await bench.harness.session()).prompt('x')).text).toBe('One\ntwo');
});

// contract: 4.1-prompt-kept
test('the system prompt of a session stays as it was at its first turn, whatever changes in the directory', async () => {
  const model = scriptedModel(['1', '2', '3']);
  await using bench = await harnessBench({ model, workspaceContext: true });
  await bench.harness.fs.writeFile('AGENTS.md', 'Use tabs.');
  const session = await bench.harness.session();
  await session.prompt('x');
  await bench.harness.fs.writeFile('AGENTS.md', 'Use spaces.');
  await session.prompt('x');
  await (await bench.harness.session('new')).prompt('x');
  const prompts = model.requests.map(({ system }) => /^Use \w+/.exec(system)?.[0]);
  expect(prompts).toEqual(['Use tabs', 'Use tabs', 'Use spaces']);
});
