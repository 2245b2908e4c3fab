import { describe, expect, test, vi } from 'vitest';
import { OperationFailedError, TurnLimitError } from '../../../src/runtime/model/errors.ts';
import type { Message, Model, ToolMessage } from '../../../src/runtime/model/model.ts';
import { type LoopTool, textResult } from '../../../src/runtime/model/tool.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { converse, gate, tool } from './conversation-of.ts';

const echo = tool('echo', (input) => JSON.stringify(input));

function toolResults(messages: Message[]): ToolMessage[] {
  return messages.filter((message) => message.role === 'tool');
}

function texts(messages: ToolMessage[]): string[] {
  return messages.map(({ content }) => content.map((part) => (part.type === 'text' ? part.text : part.type)).join());
}

describe('turns', () => {
  // contract: 4.2-ends
  test('end with the answer that calls no tool', async () => {
    const model = scriptedModel([
      { text: 'I look.', toolCalls: [{ name: 'echo', input: { a: 1 } }], usage: { input: 10, output: 2 } },
      { text: 'Done.', usage: { input: 20, output: 3, cacheRead: 4 } },
    ]);
    const { result, messages } = converse(model, { tools: [echo] });
    expect(await result).toMatchObject({ text: 'Done.', finishReason: 'stop', turns: 2 });
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'assistant']);
    expect(texts(toolResults(messages))).toEqual(['{"a":1}']);
    expect(model.requests[1]?.messages).toHaveLength(3);
    expect(model.requests[0]?.tools.map(({ name }) => name)).toEqual(['echo']);
  });

  // contract: 8-turn, 8-message, 8-deltas, 8-tool, 8-turn-messages
  // contract: 8-ends-whole
  test('tell of themselves in the order of happening', async () => {
    const model = scriptedModel([{ thinking: 'Hm.', text: 'Look.', toolCalls: [{ name: 'echo' }] }, 'ok']);
    const { result, events } = converse(model, { tools: [echo] });
    await result;
    const kinds = events.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1]);
    expect(kinds).toEqual([
      'turn_start',
      'turn_request',
      'message_start',
      'thinking_start',
      'thinking_delta',
      'thinking_end',
      'text_delta',
      'message_end',
      'turn',
      'tool_start',
      'tool',
      'turn_messages',
      'turn_start',
      'turn_request',
      'message_start',
      'text_delta',
      'message_end',
      'turn',
      'turn_messages',
    ]);
    const ids = new Set(events.map(({ turnId }) => turnId));
    expect(ids.size).toBe(2);
    expect(events.find(({ type }) => type === 'turn_messages')).toMatchObject({
      message: { content: [{ type: 'thinking', text: 'Hm.' }, { text: 'Look.' }, { type: 'tool-call' }] },
      toolResults: [{ role: 'tool', toolName: 'echo' }],
    });
  });

  // contract: 3.2-option-max-turns
  test('stop at the limit', async () => {
    const model = scriptedModel([{ toolCalls: [{ name: 'echo' }] }, { toolCalls: [{ name: 'echo' }] }, 'never']);
    const error = await converse(model, { tools: [echo], maxTurns: 2 }).result.catch((error) => error);
    expect(error).toBeInstanceOf(TurnLimitError);
    expect(error.meta).toEqual({ maxTurns: 2 });
    expect(model.requests).toHaveLength(2);
  });

  test('go on with a follow-up message as long as one is given', async () => {
    const model = scriptedModel(['one', 'two']);
    let left = 1;
    const { result, messages } = converse(model, {
      followUp: () => (left-- > 0 ? { role: 'user', content: [{ type: 'text', text: 'Go on.' }] } : undefined),
    });
    expect(await result).toMatchObject({ text: 'two', turns: 2 });
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
  });

  // contract: 3.3-ends-after-batch
  test('end after the whole batch when a tool says so', async () => {
    const finish: LoopTool = { ...echo, name: 'finish', run: async () => textResult('ok', { endsLoop: true }) };
    const model = scriptedModel([{ text: 'Here.', toolCalls: [{ name: 'finish' }, { name: 'echo' }] }]);
    const { result, messages } = converse(model, { tools: [finish, echo] });
    expect(await result).toMatchObject({ text: 'Here.', turns: 1 });
    expect(texts(toolResults(messages))).toEqual(['ok', '{}']);
  });

  // contract: 3.2-result-length
  test('give the answer at the output limit with its reason', async () => {
    const { result } = converse(scriptedModel([{ text: 'half', finishReason: 'length' }]));
    expect(await result).toMatchObject({ text: 'half', finishReason: 'length' });
  });

  // contract: 4.2-cut-calls, 8-tool
  test('run no tool of an answer that was cut off at the output limit', async () => {
    let ran = false;
    const spy = tool('spy', () => {
      ran = true;
      return '';
    });
    const model = scriptedModel([{ toolCalls: [{ name: 'spy', input: '{"a":' }], finishReason: 'length' }, 'ok']);
    const { result, messages, events } = converse(model, { tools: [spy] });
    expect(await result).toMatchObject({ text: 'ok' });
    expect(ran).toBe(false);
    expect(toolResults(messages)).toMatchObject([{ isError: true }]);
    expect(texts(toolResults(messages))[0]).toContain('output limit');
    expect(events.filter(({ type }) => type === 'tool_start' || type === 'tool')).toHaveLength(2);
  });
});

describe('tool calls', () => {
  // contract: 4.2-same-ids
  test.for(['call', ''])('of one turn that all have the id %j get ids of their own', async (id) => {
    const calls = [1, 2, 3].map((n) => ({ id, name: 'echo', input: { n } }));
    const { result, messages } = converse(scriptedModel([{ toolCalls: calls }, 'ok']), { tools: [echo] });
    await result;
    const [, answer] = messages;
    const ids = answer?.content.flatMap((part) => (part.type === 'tool-call' ? part.toolCallId : []));
    expect(new Set(ids).size).toBe(3);
    expect(ids).not.toContain('');
    const answered = toolResults(messages).map((message) => [message.toolCallId, ...texts([message])]);
    expect(answered).toEqual([1, 2, 3].map((n, i) => [ids?.[i], `{"n":${n}}`]));
  });

  // contract: 4.2-unknown-tool, 4.2-bad-json, 4.2-throws, 8-tool
  test('that can not be run give an error result each and leave the others alone', async () => {
    const broken = tool('broken', () => {
      throw new Error('no disk');
    });
    const strange = tool('strange', () => {
      throw Object.create(null);
    });
    const model = scriptedModel([
      {
        toolCalls: [
          { name: 'missing' },
          { name: 'echo', input: '{not json' },
          { name: 'broken' },
          { name: 'strange' },
          { name: 'echo', input: { b: 2 } },
        ],
      },
      'ok',
    ]);
    const { result, messages, events } = converse(model, { tools: [broken, strange, echo] });
    await result;
    const results = toolResults(messages).sort((a, b) => a.toolCallId.localeCompare(b.toolCallId));
    expect(results.map(({ isError }) => isError)).toEqual([true, true, true, true, false]);
    const [missing, notJson, threw, unreadable, good] = texts(results);
    expect(missing).toContain('"missing"');
    expect(missing).toContain('broken, strange, echo');
    expect(notJson).toContain('not JSON');
    expect(threw).toBe('no disk');
    expect(unreadable).toBe('<not readable>');
    expect(good).toBe('{"b":2}');
    const ended = events.filter((event) => event.type === 'tool');
    expect(ended).toHaveLength(5);
    expect(ended.find(({ toolName }) => toolName === 'broken')).toMatchObject({
      isError: true,
      error: { name: 'Error', message: 'no disk' },
    });
  });

  // contract: 4.2-at-once, 4.2-results-in-order, 8-batch-order
  test('start at once; results go back in the order of the calls', async () => {
    const first = gate();
    const slow = tool('slow', async () => {
      await first.promise;
      return 'slow';
    });
    const fast = tool('fast', () => {
      first.open(); // if calls waited for each other, this would never run
      return 'fast';
    });
    const model = scriptedModel([{ toolCalls: [{ name: 'slow' }, { name: 'fast' }] }, 'ok']);
    const { result, messages, events } = converse(model, { tools: [slow, fast] });
    await result;
    expect(texts(toolResults(messages))).toEqual(['fast', 'slow']);
    expect(texts(toolResults(model.requests[1]?.messages ?? []))).toEqual(['slow', 'fast']);
    expect(events.find(({ type }) => type === 'turn_messages')).toMatchObject({
      toolResults: [{ toolName: 'slow' }, { toolName: 'fast' }],
    });
  });

  // contract: 4.2-sequential, 4.2-read-waits, 4.2-at-once
  test('of sequential tools run in call order, and what waits for these before it does', async () => {
    const log: string[] = [];
    const noted = (name: string, order?: LoopTool['order']) =>
      tool(
        name,
        async (input) => {
          log.push(`${name} ${JSON.stringify(input)} starts`);
          await new Promise((resolve) => setImmediate(resolve));
          log.push(`${name} ${JSON.stringify(input)} ends`);
          return '';
        },
        order ? { order } : {},
      );
    const calls = ['free', 'write', 'read', 'write', 'free'].map((name, input) => ({ name, input: String(input) }));
    const model = scriptedModel([{ toolCalls: calls }, 'ok']);
    const tools = [noted('write', 'sequential'), noted('read', 'after-sequential'), noted('free')];
    await converse(model, { tools }).result;
    expect(log.indexOf('free 4 starts')).toBeLessThan(log.indexOf('write 1 ends'));
    expect(log.indexOf('write 1 ends')).toBeLessThan(log.indexOf('write 3 starts'));
    expect(log.indexOf('write 1 ends')).toBeLessThan(log.indexOf('read 2 starts'));
  });

  // contract: 8-tool-output
  test('show output while they run, and none after their end', async () => {
    let late: (() => void) | undefined;
    const chatty = tool('chatty', (_, { output }) => {
      output('stdout', 'working');
      late = () => output('stdout', 'late');
      return 'ok';
    });
    const { result, events } = converse(scriptedModel([{ toolCalls: [{ name: 'chatty' }] }, 'ok']), {
      tools: [chatty],
    });
    await result;
    late?.();
    expect(events.filter(({ type }) => type === 'tool_output')).toMatchObject([
      { stream: 'stdout', text: 'working', toolCallId: 'call_1_1' },
    ]);
  });

  // contract: 1.3-timeout
  test('that take longer than their tool allows give an error result', async () => {
    const stuck = tool(
      'stuck',
      (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      {
        timeoutMs: 20,
      },
    );
    const { result, messages } = converse(scriptedModel([{ toolCalls: [{ name: 'stuck' }] }, 'ok']), {
      tools: [stuck],
    });
    expect(await result).toMatchObject({ text: 'ok' });
    expect(texts(toolResults(messages))[0]).toContain('took longer than 20 ms');
  });

  // contract: 2-end-grace
  test('of a tool that ignores its signal are given up after the grace time, with a warning', async () => {
    const deaf = tool('deaf', () => new Promise<string>(() => {}), { timeoutMs: 10 });
    const { result, messages, events } = converse(scriptedModel([{ toolCalls: [{ name: 'deaf' }] }, 'ok']), {
      tools: [deaf],
      graceMs: 10,
    });
    await result;
    expect(toolResults(messages)).toMatchObject([{ isError: true }]);
    expect(events.filter(({ type }) => type === 'log')).toMatchObject([{ level: 'warn' }]);
  });

  // contract: 2-long-texts
  test('give the model at most 256 KB of text, the record all of it', async () => {
    const long = tool('long', () => 'é'.repeat(200_000));
    const model = scriptedModel([{ toolCalls: [{ name: 'long' }] }, 'ok']);
    const { result, messages } = converse(model, { tools: [long] });
    await result;
    expect(texts(toolResults(messages))[0]).toHaveLength(200_000);
    const [sent] = texts(toolResults(model.requests[1]?.messages ?? []));
    expect(sent).toMatch(/^é+\n\[Cut: this is the first 262144 of 400000 bytes\.\]$/);
  });
});

describe('a request that failed', () => {
  // contract: 4.3-statuses, 8-retry
  test.each([408, 409, 425, 429, 500, 502, 503, 504, 529])('with status %i is made again', async (status) => {
    const model = scriptedModel([{ error: { status, message: 'later' } }, 'ok']);
    const { result, events, waits } = converse(model);
    expect(await result).toMatchObject({ text: 'ok', turns: 1 });
    expect(events.filter(({ type }) => type === 'retry')).toMatchObject([{ attempt: 1, delayMs: waits[0] }]);
  });

  // contract: 4.3-other-4xx, 4.3-quota, 4.3-failed
  test.each([
    { status: 400, message: 'bad request' },
    { status: 401, message: 'who are you' },
    { status: 404, message: 'no such model' },
    { status: 429, message: 'You exceeded your current quota' },
    { message: 'no idea' },
  ])('for good is not made again: $status $message', async (error) => {
    const model = scriptedModel([{ error }, 'ok']);
    const failure = await converse(model).result.catch((error) => error);
    expect(failure).toBeInstanceOf(OperationFailedError);
    expect(failure.meta).toEqual({
      operation: 'prompt',
      reason: error.message,
      ...(error.status !== undefined && { status: error.status }),
    });
    expect(model.requests).toHaveLength(1);
  });

  // contract: 4.3-waits
  test('is made again three times, after 2, 4 and 8 s, each times 0.75 to 1', async () => {
    const error = { status: 503, message: 'busy' };
    const model = scriptedModel([{ error }, { error }, { error }, { error }, 'never']);
    const { result, waits } = converse(model);
    await expect(result).rejects.toThrow(OperationFailedError);
    expect(waits).toHaveLength(3);
    for (const [i, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual(1500 * 2 ** i);
      expect(wait).toBeLessThanOrEqual(2000 * 2 ** i);
    }
  });

  // contract: 4.3-in-a-row
  test('counts only in a row: a good turn resets the count', async () => {
    const error = { status: 503, message: 'busy' };
    const call = { toolCalls: [{ name: 'echo' }] };
    const model = scriptedModel([{ error }, { error }, { error }, call, { error }, { error }, { error }, 'ok']);
    expect(await converse(model, { tools: [echo] }).result).toMatchObject({ text: 'ok', turns: 2 });
  });

  // contract: 4.3-retry-after
  test('waits as long as the provider asks, up to 60 s, and fails at once beyond that', async () => {
    const busy = (retryAfterMs: number) => ({ error: { status: 429, message: 'busy', retryAfterMs } });
    const { result, waits } = converse(scriptedModel([busy(60_000), busy(1), 'ok']));
    await result;
    expect(waits[0]).toBe(60_000);
    expect(waits[1]).toBeGreaterThanOrEqual(3000);
    await expect(converse(scriptedModel([busy(60_001), 'ok'])).result).rejects.toThrow(OperationFailedError);
  });

  // contract: 4.3-not-in-context, 4.1-failed-left-out, 8-turn
  test('is not in the context of the next, though what it said is kept', async () => {
    const model = scriptedModel([{ text: 'half', error: { status: 500, message: 'cut' } }, 'ok']);
    const { result, messages, events } = converse(model);
    await result;
    expect(messages).toMatchObject([{ role: 'user' }, { finishReason: 'error' }, { finishReason: 'stop' }]);
    expect(model.requests[1]?.messages.map(({ role }) => role)).toEqual(['user']);
    expect(events.filter(({ type }) => type === 'turn')).toMatchObject([
      { isError: true, response: { error: { message: 'cut' }, output: { content: [{ text: 'half' }] } } },
      { isError: false },
    ]);
  });

  // contract: 4.2-empty, 4.4-failed
  test('by an empty answer is made again once; the second is an empty text', async () => {
    const { result, waits, events } = converse(
      scriptedModel([{ thinking: 'hm', usage: { output: 1 } }, { usage: { output: 2 } }]),
    );
    expect(await result).toMatchObject({ text: '', finishReason: 'stop' });
    const turns = events.filter((event) => event.type === 'turn');
    expect(turns.map(({ usage }) => usage?.output)).toEqual([1, 2]); // the failed one counts
    expect(waits).toHaveLength(1);
  });

  // contract: 4.3-refused
  test('because the content was refused is final', async () => {
    const model = scriptedModel([{ text: 'I…', finishReason: 'content-filter' }, 'ok']);
    await expect(converse(model).result).rejects.toThrow(OperationFailedError);
  });

  // contract: 4.3-cut
  test('by a stream without an end is made again', async () => {
    const rest = scriptedModel(['ok']);
    let first = true;
    const model: Model = {
      provider: 'test',
      id: 'cut',
      async *stream(request, signal) {
        if (!first) return yield* rest.stream(request, signal);
        first = false;
        yield { type: 'text-delta', index: 0, text: 'half' };
      },
    };
    expect(await converse(model).result).toMatchObject({ text: 'ok' });
  });

  // contract: 4.3-silent
  test('by a stream that went silent is made again, also when the model ignores its signal', async () => {
    const rest = scriptedModel(['ok']);
    let first = true;
    const model: Model = {
      provider: 'test',
      id: 'silent',
      async *stream(request, signal) {
        if (!first) return yield* rest.stream(request, signal);
        first = false;
        yield { type: 'text-delta', index: 0, text: 'half' };
        await new Promise(() => {});
      },
    };
    const { result, events } = converse(model, { idleTimeoutMs: 20 });
    expect(await result).toMatchObject({ text: 'ok' });
    expect(events.find(({ type }) => type === 'retry')).toMatchObject({ error: { message: /silent/ } });
  });

  // contract: 4.6-scripted-end
  test('for being asked more often than was written down is final and says so', async () => {
    const failure = await converse(scriptedModel([])).result.catch((error) => error);
    expect(failure).toBeInstanceOf(OperationFailedError);
    expect(failure.message).toContain('asked for turn 1, but has only 0');
  });
});

describe('an abort', () => {
  const reason = new Error('enough');
  const aborted = { name: 'AbortError', cause: reason };

  // contract: 3.4-abort-before
  test('before the start does nothing', async () => {
    const model = scriptedModel(['ok']);
    const { result, events } = converse(model, { signal: AbortSignal.abort(reason) });
    await expect(result).rejects.toMatchObject(aborted);
    expect(events).toEqual([]);
    expect(model.requests).toEqual([]);
  });

  // contract: 3.4-abort-stream
  test('while the model speaks keeps what it said, as an aborted message', async () => {
    const stop = new AbortController();
    const model: Model = {
      provider: 'test',
      id: 'endless',
      async *stream() {
        yield { type: 'text-delta', index: 0, text: 'half' };
        stop.abort(reason);
        await new Promise(() => {});
      },
    };
    const { result, messages, events } = converse(model, { signal: stop.signal });
    await expect(result).rejects.toMatchObject(aborted);
    expect(messages.slice(1)).toMatchObject([{ finishReason: 'aborted', content: [{ text: 'half' }] }]);
    expect(events.at(-1)).toMatchObject({ type: 'turn', isError: true });
  });

  // contract: 3.4-abort-retry
  test('in a wait for the next try ends the wait', async () => {
    const stop = new AbortController();
    const model = scriptedModel([{ error: { status: 500, message: 'later' } }, 'never']);
    const { result } = converse(model, {
      signal: stop.signal,
      realWaits: true,
      emit: ({ type }) => {
        if (type === 'retry') setImmediate(() => stop.abort(reason));
      },
    });
    await expect(result).rejects.toMatchObject(aborted);
    expect(model.requests).toHaveLength(1);
  });

  // contract: 3.4-abort-unknown, 3.4-abort-tools, 3.4-abort-awaits
  test('while tools run waits for their end and gives those under way an unknown outcome', async () => {
    const stop = new AbortController();
    let ended = false;
    const running = tool(
      'running',
      async (_, { signal }) => {
        stop.abort(reason);
        await new Promise((resolve) => setImmediate(resolve));
        ended = true;
        throw signal.reason;
      },
      { order: 'sequential' },
    );
    const never = tool('never', () => 'ran', { order: 'sequential' });
    const model = scriptedModel([{ toolCalls: [{ name: 'echo' }, { name: 'running' }, { name: 'never' }] }, 'never']);
    const { result, messages } = converse(model, { tools: [echo, running, never], signal: stop.signal });
    await expect(result).rejects.toMatchObject(aborted);
    expect(ended).toBe(true);
    const [kept, unknown, notRun] = texts(toolResults(messages));
    expect(kept).toBe('{}');
    expect(unknown).toContain('outcome is unknown');
    expect(notRun).toContain('was not run');
    expect(model.requests).toHaveLength(1);
  });

  // contract: 3.4-abort-complete
  test('after the last turn does not take the result away', async () => {
    const stop = new AbortController();
    const { result } = converse(scriptedModel(['done']), {
      signal: stop.signal,
      record: () => stop.abort(reason),
    });
    expect(await result).toMatchObject({ text: 'done' });
  });
});

// contract: 4.2-recorded-before-next, 4.2-recorded-at-once
test('a message that can not be kept ends the loop with that error, after the tools have ended', async () => {
  let ended = false;
  const slow = tool('slow', async () => {
    await new Promise((resolve) => setImmediate(resolve));
    ended = true;
    return 'ok';
  });
  const { result } = converse(scriptedModel([{ toolCalls: [{ name: 'echo' }, { name: 'slow' }] }, 'never']), {
    tools: [echo, slow],
    record: (message) => {
      if (message.role === 'tool' && message.toolName === 'echo') throw new Error('disk full');
    },
  });
  await expect(result).rejects.toThrow('disk full');
  expect(ended).toBe(true);
});

// contract: 4.3-silent-default
test('a stream may be silent for 120 s, and not longer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const silent = gate();
    const rest = scriptedModel(['ok']);
    let first = true;
    const model: Model = {
      provider: 'test',
      id: 'silent',
      async *stream(request, signal) {
        if (!first) return yield* rest.stream(request, signal);
        first = false;
        silent.open();
        await new Promise(() => {});
      },
    };
    const { result, events } = converse(model);
    await silent.promise;
    vi.advanceTimersByTime(119_999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(events.filter(({ type }) => type === 'retry')).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(await result).toMatchObject({ text: 'ok' });
    expect(events.filter(({ type }) => type === 'retry')).toHaveLength(1);
  } finally {
    vi.useRealTimers();
  }
});
