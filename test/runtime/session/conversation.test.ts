import { describe, expect, test } from 'vitest';
import type { Operation } from '../../../src/runtime/harness/operation.ts';
import type { Message } from '../../../src/runtime/model/model.ts';
import { Conversation, type NewRecord } from '../../../src/runtime/session/conversation.ts';
import type { OpenSession } from '../../../src/runtime/session/open-session.ts';
import { scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';

function user(text: string): NewRecord {
  return { type: 'user', message: { role: 'user', content: [{ type: 'text', text }] } };
}

function answer(text: string): NewRecord {
  return { type: 'assistant', message: { role: 'assistant', content: [{ type: 'text', text }] } };
}

function texts(messages: readonly Message[]): string[] {
  return messages.flatMap(({ content }) => content.map((part) => ('text' in part ? part.text : part.type)));
}

function compaction(summary: string, firstKeptId: string): NewRecord {
  return { type: 'compaction', summary, firstKeptId, files: { read: [], changed: [] } };
}

describe('a conversation', () => {
  test('gives a signal to the model and to readers as a message of the user, escaped', async () => {
    const conversation = new Conversation();
    await conversation.append({ type: 'signal', tag: 'note', attributes: { from: '"me"' }, content: '1 < 2' });
    const text = '<note from="&quot;me&quot;">\n1 &lt; 2\n</note>';
    expect(await conversation.messages()).toEqual([{ role: 'user', content: [{ type: 'text', text }] }]);
    const [shown] = await conversation.history();
    expect(shown).toMatchObject({ role: 'user', parts: [{ type: 'text', text }] });
  });

  test('sends the latest summary and what it left, and shows readers all that was said', async () => {
    const conversation = new Conversation();
    await conversation.append(user('one'));
    await conversation.append(answer('two'));
    await conversation.append(user('three'));
    const idOf = async (at: number) => (await conversation.records())[at]?.id ?? '';
    await conversation.append(compaction('one & two', await idOf(2)));
    await conversation.append(answer('four'));
    const summary = (text: string) => `<compaction type="context_summary">\n${text}\n</compaction>`;
    expect(texts(await conversation.messages())).toEqual([summary('one &amp; two'), 'three', 'four']);
    await conversation.append(compaction('to three', await idOf(4)));
    await conversation.append(user('five'));
    expect(texts(await conversation.messages())).toEqual([summary('to three'), 'four', 'five']);
    const history = await conversation.history();
    expect(history.flatMap(({ parts }) => parts)).toMatchObject(
      ['one', 'two', 'three', 'four', 'five'].map((text) => ({ text })),
    );
  });

  test('keeps what stands before its messages until a compaction or another configuration', async () => {
    const conversation = new Conversation();
    const preamble = async (configuration: string, system: string) =>
      (await conversation.preamble(configuration, async () => ({ system, tools: [], skills: [] }))).system;
    expect(await preamble('a', 'first')).toBe('first');
    await conversation.append(user('one'));
    expect(await preamble('a', 'second')).toBe('first');
    await conversation.append(compaction('', ''));
    expect(await preamble('a', 'third')).toBe('third');
    expect(await preamble('b', 'fourth')).toBe('fourth');
    expect(await preamble('b', 'fifth')).toBe('fourth');
    expect(await conversation.messages()).toHaveLength(1);
    expect(await conversation.history()).toHaveLength(1);
  });

  // contract: 4.2-same-ids
  test('shows readers each result in its own call, where a model gives the same id in each turn', async () => {
    const conversation = new Conversation();
    for (const text of ['one', 'two']) {
      const call = { type: 'tool-call', toolCallId: 'call_0', toolName: 'look', input: '{}' } as const;
      await conversation.append({ type: 'assistant', message: { role: 'assistant', content: [call] } });
      const message = { role: 'tool', toolCallId: 'call_0', toolName: 'look', isError: false } as const;
      await conversation.append({ type: 'tool', message: { ...message, content: [{ type: 'text', text }] } });
    }
    const history = await conversation.history();
    expect(history.flatMap(({ parts }) => parts)).toMatchObject([{ output: 'one' }, { output: 'two' }]);
  });

  test('keeps nothing that comes after it was removed', async () => {
    const conversation = new Conversation();
    await conversation.append(user('before'));
    await conversation.remove();
    await conversation.append(user('after'));
    expect(await conversation.messages()).toEqual([]);
  });
});

describe('a session below another', () => {
  const asTask = (session: OpenSession, work: (operation: Operation) => Promise<unknown>) =>
    session.operation({ kind: 'task', about: [], options: {}, check: () => {}, work });

  test('has a conversation of its own, says whose it is, and counts for the operation that it is a part of', async () => {
    const model = scriptedModel([{ text: 'Done.', usage: { input: 3, output: 1 } }]);
    await using bench = await harnessBench({ model: scriptedModel([]) });
    const { harness } = bench;
    const parent = await harness.session('work');
    const agent = { ...harness.parts.agent, model, instructions: 'You are another.' };
    await asTask(parent, async (operation) => {
      const child = harness.childSession(parent, operation, { taskId: 'task_1', agent });
      await child.prompt('Do it.');
      expect(await child.history()).toHaveLength(2);
    });
    expect(await parent.history()).toEqual([]);
    expect(model.requests[0]?.system).toMatch(/^You are another\./);
    const [started, asked] = bench.of('operation_start');
    expect(started).not.toHaveProperty('taskId');
    expect(asked).toMatchObject({ session: 'task:work:task_1', parentSession: 'work', taskId: 'task_1' });
    expect(asked?.conversationId).not.toBe(started?.conversationId);
    expect(bench.of('operation').map(({ usage }) => usage?.totalTokens)).toEqual([4, 4]);
  });

  test('is one level deeper, and refused where that is too deep', async () => {
    await using bench = await harnessBench({}, { depth: 3 });
    const { harness } = bench;
    const parent = await harness.session();
    await asTask(parent, async (operation) => {
      const child = harness.childSession(parent, operation, { taskId: 'task_1' });
      const below = asTask(child, async (deeper) => harness.childSession(child, deeper, { taskId: 'task_2' }));
      await expect(below).rejects.toMatchObject({ name: 'DelegationDepthExceededError' });
    });
  });

  test('goes with the one that it is below', async () => {
    await using bench = await harnessBench();
    const { harness } = bench;
    const parent = await harness.session();
    await asTask(parent, async (operation) => harness.childSession(parent, operation, { taskId: 'task_1' }));
    const child = await harness.sessions.get('task:default:task_1');
    await child.shell('true');
    await parent.delete();
    expect(await child.history()).toEqual([]);
    await expect(harness.sessions.get('task:default:task_1')).rejects.toMatchObject({ name: 'SessionNotFoundError' });
  });
});
