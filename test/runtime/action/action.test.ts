import * as v from 'valibot';
import { describe, expect, test, vi } from 'vitest';
import { type ActionDefinition, defineAction } from '../../../src/runtime/define/action.ts';
import { defineTool, type ToolDefinition } from '../../../src/runtime/define/tool.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';
import { gate } from '../model/conversation-of.ts';

/** What a model gets to see of one call of an action or tool with these arguments. */
async function calledByModel(
  callee: { actions?: ActionDefinition[]; tools?: ToolDefinition[] },
  name: string,
  input?: unknown,
) {
  const model = scriptedModel([{ toolCalls: [{ name, input }] }, 'Done.']);
  await using bench = await harnessBench({ model, builtinTools: false, ...callee });
  const session = await bench.harness.session();
  await session.prompt('Call it.');
  const answer = model.requests[1]?.messages.at(-1);
  if (answer?.role !== 'tool') throw new Error('the model got no result');
  const text = answer.content.map((part) => (part.type === 'text' ? part.text : part.type)).join('\n');
  return { text, isError: answer.isError, bench, model, history: await session.history() };
}

const action = (run: () => unknown, more: { output?: v.GenericSchema; timeoutMs?: number } = {}) =>
  defineAction({ name: 'act', description: 'Acts.', run, ...more });

describe('input of an action', () => {
  const add = defineAction({
    name: 'add',
    description: 'Adds.',
    input: v.object({
      a: v.number(),
      b: v.optional(v.number(), 1),
      at: v.optional(v.pipe(v.string(), v.transform(Date.parse))),
    }),
    run: ({ input }) => input,
  });

  // contract: 1.4-parsed
  test('is the parsed side of the schema, with defaults and transforms', async () => {
    await using bench = await harnessBench();
    expect(await bench.harness.run(add, { a: 2, at: '1970-01-01T00:00:01Z' })).toEqual({ a: 2, b: 1, at: 1000 });
  });

  // contract: 1.4-issues, 2-run-error
  test('that does not fit is refused with the path of each issue, and the action is not started', async () => {
    await using bench = await harnessBench();
    const call = bench.harness.run(add as ActionDefinition, { a: 'x', b: null });
    await expect(call).rejects.toMatchObject({
      name: 'ActionInputValidationError',
      status: 400,
      message: expect.stringMatching(/input\.a: .*input\.b: /),
      meta: { action: 'add', issues: [{ path: ['a'] }, { path: ['b'] }] },
    });
  });

  // contract: 1.4-omitted-input, 1.4-unexpected-input, 2-context
  test('that is left out is an empty object; an action without a schema takes none', async () => {
    await using bench = await harnessBench();
    const call = bench.harness.run(add as ActionDefinition);
    await expect(call).rejects.toMatchObject({ meta: { issues: [{ path: ['a'] }] } });
    let seen: object = {};
    const bare = defineAction({
      name: 'bare',
      description: 'Takes nothing.',
      run: (context) => {
        seen = context;
      },
    });
    expect(await bench.harness.run(bare)).toBe(null);
    expect(Object.keys(seen).sort()).toEqual(['harness', 'log', 'signal']);
    await expect(bench.harness.run(bare as ActionDefinition, {})).rejects.toMatchObject({
      name: 'ActionInputValidationError',
    });
  });
});

describe('output of an action', () => {
  test('is the parsed side of its schema', async () => {
    await using bench = await harnessBench();
    const trimmed = v.object({ s: v.pipe(v.string(), v.trim()), d: v.optional(v.number(), 7) });
    expect(await bench.harness.run(action(() => ({ s: ' x ' }), { output: trimmed }))).toEqual({ s: 'x', d: 7 });
  });

  // contract: 1.5-detached
  test('is detached: later changes to what was returned do not show', async () => {
    await using bench = await harnessBench();
    const returned = { list: [1] };
    const output = await bench.harness.run(action(() => returned));
    returned.list.push(2);
    expect(output).toEqual({ list: [1] });
    expect(bench.of('action')[0]?.result).toEqual({ list: [1] });
  });

  // contract: 1.5-action-output, 1.5-undefined-with-schema, 2-error-closes
  test.each<[string, () => unknown, v.GenericSchema | undefined, object]>([
    [
      'does not fit',
      () => ({ s: 1 }),
      v.object({ s: v.string() }),
      { name: 'ActionOutputValidationError', meta: { issues: [{ path: ['s'] }] } },
    ],
    ['is undefined where a schema is', () => undefined, v.object({}), { name: 'ActionOutputValidationError' }],
    [
      'is a Date',
      () => ({ items: [{ when: new Date(0) }] }),
      undefined,
      {
        name: 'ActionOutputSerializationError',
        meta: { action: 'act', path: 'output.items[0].when', kind: 'an instance of Date' },
      },
    ],
    [
      'becomes undefined',
      () => null,
      v.pipe(
        v.any(),
        v.transform(() => undefined),
      ),
      { name: 'ActionOutputSerializationError', meta: { path: 'output' } },
    ],
  ])('that %s is refused, and the harness closed', async (_what, run, output, error) => {
    await using bench = await harnessBench();
    let own: { signal: AbortSignal } | undefined;
    const watched = defineAction({
      name: 'act',
      description: 'Acts.',
      ...(output && { output }),
      run: (context) => {
        own = context.harness as unknown as { signal: AbortSignal }; // of the class, not of the interface
        return run();
      },
    });
    await expect(bench.harness.run(watched as ActionDefinition)).rejects.toMatchObject(error);
    expect(own?.signal.aborted).toBe(true);
  });
});

describe('a run of an action', () => {
  // contract: 1.2-timeout, 2-end-awaits
  test('is aborted after timeoutMs, and what it started has ended', async () => {
    await using bench = await harnessBench();
    const slow = defineAction({
      name: 'slow',
      description: 'Takes its time.',
      timeoutMs: 200,
      run: async ({ harness }) => void (await harness.shell('echo $$ > pid; exec sleep 1401')),
    });
    await expect(bench.harness.run(slow)).rejects.toMatchObject({
      name: 'ActionTimeoutError',
      status: 504,
      meta: { action: 'slow', timeoutMs: 200 },
    });
    const pid = (await bench.harness.fs.readFile('pid')).trim();
    expect(await bench.env.exists(`/proc/${pid}/cwd/.`)).toBe(false);
  });

  test('may have a timeout that is longer than the timers of Node', async () => {
    await using bench = await harnessBench();
    expect(await bench.harness.run(action(() => 'in time', { timeoutMs: 2 ** 32 }))).toBe('in time');
  });

  // contract: 2-signal-caller
  test('aborts its signal with the caller, whatever it then throws', async () => {
    await using bench = await harnessBench();
    const stop = new AbortController();
    const rude = defineAction({
      name: 'rude',
      description: 'Says something else.',
      run: ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(new Error('something else')));
          stop.abort('enough');
        }),
    });
    const call = bench.harness.run(rude, undefined, { signal: stop.signal });
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  });

  // contract: 2-signal-timeout, 1.2-timeout
  test('that returns after its time is timed out, also when it held the event loop all the while', async () => {
    await using bench = await harnessBench();
    const busy = action(
      () => {
        const end = performance.now() + 30;
        while (performance.now() < end);
        return 'too late';
      },
      { timeoutMs: 10 },
    );
    await expect(bench.harness.run(busy)).rejects.toMatchObject({ name: 'ActionTimeoutError' });
    const ignores = defineAction({
      name: 'ignores',
      description: 'Goes on when it is aborted.',
      timeoutMs: 10,
      run: ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve('too late'))),
    });
    await expect(bench.harness.run(ignores)).rejects.toMatchObject({ name: 'ActionTimeoutError' });
  });

  // contract: 2-signal-caller, 2-aborted-caller
  test('gives nothing to a caller that aborted it, also when it goes on and returns', async () => {
    await using bench = await harnessBench();
    const started = gate();
    const ignores = defineAction({
      name: 'ignores',
      description: 'Goes on when it is aborted.',
      run: ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => resolve('too late'));
          started.open();
        }),
    });
    const call = bench.harness.run(ignores);
    await started.promise;
    call.abort('enough');
    await expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  });

  // contract: 2-end-aborts, 2-end-awaits
  test('ends what it left running before its result is delivered', async () => {
    await using bench = await harnessBench();
    const leaves = defineAction({
      name: 'leaves',
      description: 'Does not wait for its command.',
      async run({ harness }) {
        const started = gate();
        void harness.shell('sleep 1402');
        started.open();
        return 'result';
      },
    });
    expect(await bench.harness.run(leaves)).toBe('result');
    expect(bench.types().slice(-7)).toEqual(['tool_start', 'tool', 'operation', 'idle', 'action', 'operation', 'idle']);
  });

  // contract: 2-log-action, 2-log-any, 2-log-errors, 2-log-size, 8-log
  test('writes its log with its name, whatever the attributes are, and never throws', async () => {
    await using bench = await harnessBench();
    const cyclic: Record<string, unknown> = { big: 1n, when: new Date(0), fail: new Error('why') };
    cyclic.self = cyclic;
    const talks = defineAction({
      name: 'talks',
      description: 'Logs.',
      run: ({ log }) => {
        log.info('plain');
        log.warn('odd', cyclic);
        log.error('huge', { text: 'x'.repeat(65 * 1024) });
      },
    });
    await bench.harness.run(talks);
    const [plain, odd, huge] = bench.of('log');
    expect(plain).toMatchObject({ level: 'info', message: 'plain', attributes: { action: 'talks' } });
    expect(odd?.attributes).toMatchObject({
      action: 'talks',
      big: '1',
      self: '<cycle>',
      fail: { name: 'Error', message: 'why', stack: expect.stringContaining('action.test') },
    });
    expect(JSON.stringify(huge?.attributes).length).toBeLessThan(200);
  });
});

describe('an action that a model calls', () => {
  // contract: 2-model-json
  test('gives it the compact JSON of its output, and null for none', async () => {
    expect(await calledByModel({ actions: [action(() => ({ a: [1, 'x'] }))] }, 'act')).toMatchObject({
      text: '{"a":[1,"x"]}',
      isError: false,
    });
    expect(await calledByModel({ actions: [action(() => {})] }, 'act')).toMatchObject({ text: 'null', isError: false });
  });

  // contract: 2-log-action, 8-action
  test('is told of with the id of the call, also in its log', async () => {
    const talks = defineAction({ name: 'talks', description: 'Logs.', run: ({ log }) => log.info('hello') });
    const { bench } = await calledByModel({ actions: [talks] }, 'talks');
    const toolCallId = 'call_1_1';
    expect(bench.of('action_start')[0]).toMatchObject({ action: 'talks', toolCallId });
    expect(bench.of('action')[0]).toMatchObject({ action: 'talks', toolCallId, isError: false });
    expect(bench.of('log')[0]?.attributes).toEqual({ action: 'talks', toolCallId });
    const types = bench.types();
    expect(types.indexOf('tool_start')).toBeLessThan(types.indexOf('action_start'));
    expect(types.indexOf('action')).toBeLessThan(types.indexOf('tool'));
  });

  // contract: 1.4-model-arguments
  test('ignores what the model writes where it takes no input', async () => {
    expect(await calledByModel({ actions: [action(() => 'fine')] }, 'act', { any: 'thing' })).toMatchObject({
      text: '"fine"',
      isError: false,
    });
  });

  // contract: 2-model-input-issues
  test('answers bad input with the paths, and asks to call again', async () => {
    const needy = defineAction({ name: 'act', description: 'A.', input: v.object({ n: v.number() }), run: () => 1 });
    const { text, isError } = await calledByModel({ actions: [needy] }, 'act', { n: 'x' });
    expect(isError).toBe(true);
    expect(text).toMatch(/input\.n: .*Call it again/);
  });

  // contract: 2-model-output-issues, 2-model-message
  test('answers bad output with the paths, and an error with its message alone, at most 4 KB of it', async () => {
    const bad = action(() => ({ n: 'x' }), { output: v.object({ n: v.number() }) });
    expect(await calledByModel({ actions: [bad as ActionDefinition] }, 'act')).toMatchObject({
      isError: true,
      text: expect.stringContaining('output.n: '),
    });
    const fails = action(() => {
      throw new Error('it broke', { cause: new Error('the secret cause') });
    });
    expect(await calledByModel({ actions: [fails] }, 'act')).toMatchObject({ isError: true, text: 'it broke' });
    const long = action(() => Promise.reject(new Error('ü'.repeat(10_000))));
    const { text } = await calledByModel({ actions: [long] }, 'act');
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4 * 1024 + 8);
    expect(text).toMatch(/^ü+ …$/);
  });

  // contract: 2-child-configuration, 2-child-no-overrides
  test('has the configuration of the agent, not what the calling prompt overrides', async () => {
    const ofAgent = scriptedModel(['from the agent']);
    const ofCall = scriptedModel([{ toolCalls: [{ name: 'asks' }] }, 'Done.'], { id: 'of-call' });
    const asks = defineAction({
      name: 'asks',
      description: 'Asks a model.',
      run: async ({ harness }) => (await (await harness.session()).prompt('Well?')).text,
    });
    await using bench = await harnessBench({ model: ofAgent, actions: [asks], instructions: 'Be brief.' });
    const extra = defineTool({ name: 'extra', description: 'More.', run: () => 1 });
    await (await bench.harness.session()).prompt('Go.', { model: ofCall, tools: [extra], thinkingLevel: 'high' });
    expect(ofAgent.requests[0]).toMatchObject({
      thinkingLevel: 'medium',
      system: expect.stringMatching(/^Be brief\./),
    });
    const names = ofAgent.requests[0]?.tools.map(({ name }) => name);
    expect(names).toContain('asks');
    expect(names).not.toContain('extra');
  });

  // contract: 2-side-by-side
  test('runs beside the other actions of its turn, each in a harness of its own', async () => {
    const both = gate();
    const names = new Set<string>();
    const meets = defineAction({
      name: 'meets',
      description: 'Waits for the other.',
      async run({ harness }) {
        names.add(harness.name);
        if (names.size === 2) both.open();
        await both.promise;
      },
    });
    const model = scriptedModel([{ toolCalls: [{ name: 'meets' }, { name: 'meets' }] }, 'Done.']);
    await using bench = await harnessBench({ model, actions: [meets] });
    await (await bench.harness.session()).prompt('Go.');
    expect(names.size).toBe(2);
  });

  // contract: 2-depth-model
  test('at the fifth level is a tool error', async () => {
    const model = scriptedModel([{ toolCalls: [{ name: 'act' }] }, 'Done.']);
    await using bench = await harnessBench({ model, actions: [action(() => 1)] }, { depth: 4 });
    const session = await bench.harness.session();
    await session.prompt('Go.');
    const part = (await session.history())[1]?.parts[0];
    expect(part).toMatchObject({ state: 'output-error', errorText: expect.stringContaining('4 deep') });
    expect(bench.of('action_start')).toEqual([]);
  });

  // contract: 4.4-below, 4.4-action
  test('counts to the usage of the prompt that called it', async () => {
    const usage = { input: 5, output: 1 };
    const model = scriptedModel([
      { toolCalls: [{ name: 'asks' }], usage },
      { text: 'inner', usage },
      { text: 'Done.', usage },
    ]);
    const asks = defineAction({
      name: 'asks',
      description: 'Asks a model.',
      run: async ({ harness }) => (await (await harness.session()).prompt('Well?')).text,
    });
    await using bench = await harnessBench({ model, actions: [asks] });
    const result = await (await bench.harness.session()).prompt('Go.');
    expect(result.usage.totalTokens).toBe(18);
    expect(bench.meter.total.totalTokens).toBe(18);
    expect(bench.of('action')[0]?.usage?.totalTokens).toBe(6);
  });

  // contract: 3.4-abort-actions, 3.4-abort-commands, 3.4-abort-awaits
  test('is aborted with the prompt; the model gets nothing more', async () => {
    const model = scriptedModel([{ toolCalls: [{ name: 'waits' }] }, 'never']);
    const waits = defineAction({
      name: 'waits',
      description: 'Waits.',
      run: async ({ harness }) => void (await harness.shell('sleep 1403')),
    });
    await using bench = await harnessBench({ model, actions: [waits] });
    const prompt = (await bench.harness.session()).prompt('Go.');
    bench.observe((event) => event.type === 'tool_start' && event.toolName === 'bash' && prompt.abort('enough'));
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    expect(model.requests).toHaveLength(1);
    const types = bench.types();
    expect(types.lastIndexOf('action')).toBeLessThan(types.lastIndexOf('operation'));
    expect(types.slice(-2)).toEqual(['operation', 'idle']);
  });

  // contract: 2-end-grace, 2-end-silent
  test('that ignores its signal is given up before the prompt ends, so that all is told in order', async () => {
    const forever = gate();
    const started = gate();
    const stubborn = action(() => {
      started.open();
      return forever.promise;
    });
    const model = scriptedModel([{ toolCalls: [{ name: 'act' }] }, 'never']);
    await using bench = await harnessBench({ model, actions: [stubborn] });
    const prompt = (await bench.harness.session()).prompt('Go.');
    await started.promise;
    prompt.abort();
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError' });
    const types = bench.types();
    expect(types).toContain('action');
    expect(bench.of('log')).toMatchObject([{ level: 'warn', message: expect.stringContaining('did not end') }]);
    expect(types.indexOf('action')).toBeLessThan(types.indexOf('operation'));
    forever.open(); // nothing is told of it any more
    await new Promise((resolve) => setImmediate(resolve));
    expect(bench.types()).toEqual(types);
  });
});

describe('a custom tool that a model calls', () => {
  const tool = (run: () => unknown, more: { output?: v.GenericSchema; timeoutMs?: number } = {}) =>
    defineTool({ name: 'tool', description: 'T.', run, ...more } as Parameters<typeof defineTool>[0]);

  // contract: 1.4-parsed, 7.3-tool-value
  test('gets the parsed input, a signal, the id of the call and a log', async () => {
    const seen: object[] = [];
    const echo = defineTool({
      name: 'echo',
      description: 'E.',
      input: v.object({ n: v.optional(v.number(), 3) }),
      run: (context) => {
        seen.push(context);
        context.log.info('called');
        return context.input;
      },
    });
    const { text, bench, history } = await calledByModel({ tools: [echo] }, 'echo', {});
    expect(text).toBe('{"n":3}');
    expect(seen).toMatchObject([{ input: { n: 3 }, toolCallId: 'call_1_1', signal: expect.any(AbortSignal) }]);
    expect(bench.of('log')[0]).toMatchObject({
      session: 'default',
      attributes: { tool: 'echo', toolCallId: 'call_1_1' },
    });
    expect(history[1]?.parts[0]).toMatchObject({ state: 'output-available', output: { n: 3 } });
  });

  // contract: 1.5-tool-output, 4.2-throws
  test('gives a text as it is, and errors as results', async () => {
    expect((await calledByModel({ tools: [tool(() => 'a "text"')] }, 'tool')).text).toBe('a "text"');
    const date = await calledByModel({ tools: [tool(() => ({ when: new Date(0) }))] }, 'tool');
    expect(date).toMatchObject({ isError: true, text: expect.stringContaining('output.when is an instance of Date') });
    const unfit = await calledByModel({ tools: [tool(() => 1, { output: v.string() })] }, 'tool');
    expect(unfit).toMatchObject({ isError: true, text: expect.stringContaining('does not fit') });
    const thrown = await calledByModel({ tools: [tool(() => Promise.reject(new Error('no luck')))] }, 'tool');
    expect(thrown).toMatchObject({ isError: true, text: 'no luck' });
  });

  // contract: 4.2-bad-arguments, 4.2-no-coercion
  test('answers bad arguments with their paths', async () => {
    const needy = defineTool({ name: 'needy', description: 'N.', input: v.object({ n: v.number() }), run: () => 1 });
    const { text, isError } = await calledByModel({ tools: [needy] }, 'needy', { n: 'x' });
    expect(isError).toBe(true);
    expect(text).toMatch(/input\.n: .*Call it again/);
  });

  // contract: 1.3-timeout
  test('gives an error result when its time is over', async () => {
    const slow = defineTool({
      name: 'tool',
      description: 'T.',
      timeoutMs: 50,
      run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    const { text, isError } = await calledByModel({ tools: [slow] }, 'tool');
    expect({ text, isError }).toEqual({ isError: true, text: expect.stringContaining('longer than 50 ms') });
  });
});

describe('a custom tool', () => {
  // contract: 1.3-context, 1.3-input-with-schema
  test('gets no harness, and an input only where it has a schema', async () => {
    const seen: string[][] = [];
    const note = (context: object) => {
      seen.push(Object.keys(context).sort());
    };
    const common = { description: 'T.', run: note };
    const tools = [
      defineTool({ name: 'plain', ...common }),
      defineTool({ name: 'with_input', input: v.object({}), ...common }),
    ];
    const model = scriptedModel([{ toolCalls: [{ name: 'plain', input: { a: 1 } }, { name: 'with_input' }] }, 'Done.']);
    await using bench = await harnessBench({ model, tools });
    await (await bench.harness.session()).prompt('Go.');
    expect(seen).toEqual([
      ['log', 'signal', 'toolCallId'],
      ['input', 'log', 'signal', 'toolCallId'],
    ]);
  });

  // contract: 4.2-custom-sequential
  test('that is sequential waits for the call before it', async () => {
    const order: string[] = [];
    const slow = defineTool({
      name: 'slow',
      description: 'T.',
      sequential: true,
      input: v.object({ n: v.number() }),
      run: async ({ input: { n } }) => {
        order.push(`${n} starts`);
        await new Promise((resolve) => setImmediate(resolve));
        order.push(`${n} ends`);
      },
    });
    const model = scriptedModel([{ toolCalls: [1, 2].map((n) => ({ name: 'slow', input: { n } })) }, 'Done.']);
    await using bench = await harnessBench({ model, tools: [slow] });
    await (await bench.harness.session()).prompt('Go.');
    expect(order).toEqual(['1 starts', '1 ends', '2 starts', '2 ends']);
  });

  // contract: 1.3-timeout-default
  test('may take ten minutes, and not longer, where it names no time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const started = gate();
      const slow = defineTool({
        name: 'slow',
        description: 'T.',
        run: ({ signal }) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason));
            started.open();
          }),
      });
      const model = scriptedModel([{ toolCalls: [{ name: 'slow' }] }, 'Done.']);
      await using bench = await harnessBench({ model, builtinTools: false, tools: [slow] });
      const prompt = (await bench.harness.session()).prompt('Go.');
      await started.promise;
      vi.advanceTimersByTime(599_999);
      await new Promise((resolve) => setImmediate(resolve));
      expect(bench.of('tool')).toEqual([]);
      vi.advanceTimersByTime(1);
      expect((await prompt).text).toBe('Done.');
      expect(bench.of('tool')).toMatchObject([{ isError: true }]);
    } finally {
      vi.useRealTimers();
    }
  });
});
