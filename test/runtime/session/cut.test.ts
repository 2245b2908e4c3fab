import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sendable } from '../../../src/runtime/model/conversation.ts';
import type { AssistantMessage, Message, Usage } from '../../../src/runtime/model/model.ts';
import { noUsage } from '../../../src/runtime/model/usage.ts';
import { Conversation, inContext, type NewRecord } from '../../../src/runtime/session/conversation.ts';
import { contextTokens, findCut } from '../../../src/runtime/session/cut.ts';

function user(text: string): NewRecord {
  return { type: 'user', message: { role: 'user', content: [{ type: 'text', text }] } };
}

function answer(text: string, more: Partial<AssistantMessage> = {}): NewRecord {
  return { type: 'assistant', message: { role: 'assistant', content: [{ type: 'text', text }], ...more } };
}

function call(...ids: string[]): NewRecord {
  const content = ids.map((toolCallId) => ({ type: 'tool-call', toolCallId, toolName: 'bash', input: '{}' }) as const);
  return { type: 'assistant', message: { role: 'assistant', content } };
}

function result(toolCallId: string, text: string): NewRecord {
  const content = [{ type: 'text', text } as const];
  return { type: 'tool', message: { role: 'tool', toolCallId, toolName: 'bash', content, isError: false } };
}

function used(totalTokens: number): Usage {
  return { ...noUsage(), totalTokens };
}

async function conversationOf(records: NewRecord[]) {
  const conversation = new Conversation();
  for (const record of records) await conversation.append(record);
  return conversation;
}

/** The cut, as the places of the records. */
async function cutOf(records: NewRecord[], keepTokens: number) {
  const all = await (await conversationOf(records)).records();
  const cut = findCut([...all], keepTokens);
  const placesOf = (part: { id: string }[]) => part.map(({ id }) => all.findIndex((record) => record.id === id));
  return (
    cut && { history: placesOf(cut.history), turn: placesOf(cut.turn), first: placesOf([{ id: cut.firstKeptId }])[0] }
  );
}

/** A text of so many tokens. */
const words = (tokens: number) => 'word'.repeat(tokens);

describe('the cut', () => {
  // contract: 4.5-cut
  test('is before the message with which enough is kept', async () => {
    const records = [user(words(10)), answer(words(10)), user(words(10)), answer(words(10))];
    expect(await cutOf(records, 20)).toEqual({ history: [0, 1], turn: [], first: 2 });
    expect(await cutOf(records, 30)).toMatchObject({ first: 1 });
    expect(await cutOf(records, 0)).toMatchObject({ first: 3 });
  });

  // contract: 4.5-nothing
  test('is nowhere when all of it is to be kept', async () => {
    const records = [user(words(10)), answer(words(10))];
    expect(await cutOf(records, 11)).toBeUndefined();
    expect(await cutOf([user(words(50))], 20)).toBeUndefined();
    expect(await cutOf([], 0)).toBeUndefined();
  });

  // contract: 4.5-cut, 4.5-inside-turn
  test('is never between a call and its results, and tells the beginning of a turn from what was before it', async () => {
    const records = [
      ...[user(words(10)), answer(words(10))],
      ...[user(words(10)), call('a', 'b'), result('b', words(30)), result('a', words(30))],
      ...[call('c'), result('c', words(10))],
    ];
    // In the middle of the results: from the next answer on.
    expect(await cutOf(records, 20)).toEqual({ history: [0, 1], turn: [2, 3, 4, 5], first: 6 });
    // The last results alone are enough: they stay with their call.
    expect(await cutOf(records.slice(0, 6), 20)).toEqual({ history: [0, 1], turn: [2], first: 3 });
  });

  test('leaves out a message that is far more than enough, unless it is the newest', async () => {
    const records = [user(words(10)), user(words(41)), answer('')];
    expect(await cutOf(records, 20)).toMatchObject({ first: 2 });
    expect(await cutOf(records, 21)).toMatchObject({ first: 1 });
    expect(await cutOf(records.slice(0, 2), 20)).toMatchObject({ first: 1 });
    expect(await cutOf(records.slice(1), 20)).toEqual({ history: [], turn: [0], first: 1 });
  });

  test('does not begin with an answer that broke off, of which nothing is sent', async () => {
    const records = [user('1'), answer(words(90), { finishReason: 'aborted' }), user('2'), answer('3')];
    expect(await cutOf(records, 2)).toMatchObject({ first: 2 });
    expect(await cutOf(records.slice(0, 2), 0)).toBeUndefined();
  });

  test('counts an image as 1,200 tokens, and of the text of a tool only what is sent', async () => {
    const image = { type: 'image', data: 'AAAA', mimeType: 'image/png' } as const;
    const records: NewRecord[] = [
      user('1'),
      answer('2'),
      { type: 'user', message: { role: 'user', content: [image] } },
    ];
    expect(await cutOf(records, 1_200)).toMatchObject({ first: 2 });
    expect(await cutOf(records, 1_201)).toMatchObject({ first: 1 });
    const long = await conversationOf([user(''), call('a'), result('a', 'x'.repeat(10_000_000))]);
    expect(contextTokens(await long.records(), await long.messages())).toBeLessThan(70_000);
  });
});

describe('how long a request would be', () => {
  const tokensOf = async (records: NewRecord[]) => {
    const conversation = await conversationOf(records);
    return contextTokens(await conversation.records(), await conversation.messages());
  };

  test('is what was reported of the latest answer, and an estimate of what came since', async () => {
    const asked = [user('1'), answer('2', { usage: used(1_000) }), user(words(20))];
    expect(await tokensOf(asked)).toBe(1_020);
    const broken = answer(words(50), { usage: used(9_000), finishReason: 'aborted' });
    expect(await tokensOf([...asked, broken])).toBe(1_020);
  });

  test('is an estimate when nothing was reported, or only of a conversation that was longer', async () => {
    expect(await tokensOf([user(words(20)), answer(words(5), { usage: used(0) })])).toBe(25);
    const conversation = await conversationOf([user(words(90)), answer(words(5), { usage: used(1_000) })]);
    const kept = (await conversation.records())[1]?.id ?? '';
    await conversation.append({
      type: 'compaction',
      summary: 's',
      firstKeptId: kept,
      files: { read: [], changed: [] },
    });
    expect(contextTokens(await conversation.records(), await conversation.messages())).toBeLessThan(50);
  });
});

// One operation of a session, with the order in which the results of each turn come.
const operation = fc.record({
  text: fc.string({ maxLength: 400 }),
  signal: fc.boolean(),
  turns: fc.array(
    fc.record({
      broken: fc.boolean(),
      results: fc.array(fc.record({ text: fc.string({ maxLength: 400 }), order: fc.nat() }), { maxLength: 3 }),
    }),
    { maxLength: 4 },
  ),
  answer: fc.option(fc.string({ maxLength: 400 }), { nil: undefined }),
});

type Operation = typeof operation extends fc.Arbitrary<infer Value> ? Value : never;

function recordsOf(operations: Operation[]): NewRecord[] {
  let ids = 0;
  return operations.flatMap(({ text, signal, turns, answer: last }) => [
    signal ? ({ type: 'signal', tag: 'signal', attributes: {}, content: text } as const) : user(text),
    ...turns.flatMap(({ broken, results }) => {
      const answered = results.map((given) => ({ ...given, id: `call_${++ids}` }));
      return [
        ...(broken ? [answer(text, { finishReason: 'error' })] : []),
        call(...answered.map(({ id }) => id)),
        ...answered.sort((a, b) => a.order - b.order).map((given) => result(given.id, given.text)),
      ];
    }),
    ...(last === undefined ? [] : [answer(last)]),
  ]);
}

/** The results of a turn come right after it, one for each call, in the order of the calls. */
function isValid(messages: Message[]): boolean {
  let due: string[] = [];
  for (const message of messages) {
    if (message.role === 'tool') {
      if (message.toolCallId !== due.shift()) return false;
      continue;
    }
    if (due.length > 0) return false;
    if (message.role === 'assistant')
      due = message.content.flatMap((part) => ('toolCallId' in part ? part.toolCallId : []));
  }
  return due.length === 0 && messages[0]?.role === 'user';
}

// contract: 4.5-cut
test('what is sent after any compactions is a valid conversation: a summary, and the end of what was sent before', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ said: fc.array(operation, { minLength: 1, maxLength: 4 }), keep: fc.nat(600) }), {
        maxLength: 4,
      }),
      async (rounds) => {
        const conversation = new Conversation();
        let calls = 0;
        for (const { said, keep } of rounds) {
          for (const record of recordsOf(said)) await conversation.append(renamed(record, calls));
          calls += 1_000;
          const before = sendable(await conversation.messages(), true);
          const { kept } = inContext(await conversation.records());
          const cut = findCut(kept, keep);
          if (!cut) continue;
          expect([...cut.history, ...cut.turn].length).toBeGreaterThan(0);
          await conversation.append({
            type: 'compaction',
            summary: 'Summary.',
            firstKeptId: cut.firstKeptId,
            files: { read: [], changed: [] },
          });
          const after = sendable(await conversation.messages(), true);
          expect(isValid(after)).toBe(true);
          const [, ...rest] = after;
          expect(rest.length).toBeGreaterThan(0);
          expect(rest).toEqual(before.slice(-rest.length));
        }
      },
    ),
  );
});

/** Calls of different rounds have different ids. */
function renamed(record: NewRecord, round: number): NewRecord {
  return JSON.parse(JSON.stringify(record).replaceAll('"call_', `"call_${round}_`));
}
