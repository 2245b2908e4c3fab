import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentProfile, defineAgent, defineAgentProfile, resolveAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { attachmentId } from '../../../src/runtime/session/attachments.ts';
import type { Session } from '../../../src/runtime/session/session.ts';
import { type ScriptedAnswer, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { harnessBench } from '../harness/harness-bench.ts';

const task = (input: object): ScriptedAnswer => ({ toolCalls: [{ name: 'task', input }] });
const tool = (name: string) => ({ name, description: `Tool ${name}.`, run: () => name });
const image = { type: 'image', data: 'AAEC', mimeType: 'image/png' } as const;
const noop = defineAction({ name: 'noop', description: 'Nothing.', run: () => null });

function toolNames(model: ReturnType<typeof scriptedModel>, request: number): string[] {
  return model.requests[request]?.tools.map(({ name }) => name) ?? [];
}

async function issuesOf(config: object): Promise<Record<string, string>> {
  const resolved = resolveAgent(
    defineAgent(() => config),
    { id: 'run_1', env: {} },
  );
  const error = await resolved.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof DefinitionError)) throw new Error('it was taken', { cause: error });
  return Object.fromEntries(error.issues.map(({ path, message }) => [path, message]));
}

describe('the tool task', () => {
  // contract: 6.2-child-session, 6.2-last-text, 8-task, 8-scope-tasks, 4.4-tasks
  test('gives a task to a session with an empty conversation; only its last text comes back', async () => {
    const model = scriptedModel([
      { ...task({ prompt: 'Count.', description: 'counting' }), usage: { input: 1 } },
      { text: 'Working.', toolCalls: [{ name: 'bash', input: { command: 'echo 3' } }], usage: { input: 2 } },
      { text: 'Three.', usage: { input: 4 } },
      { text: 'Done.', usage: { input: 8 } },
    ]);
    await using bench = await harnessBench({ model });
    const session = await bench.harness.session('work');
    const { usage } = await session.prompt('Secret words.');
    expect(usage.input).toBe(15);
    expect(JSON.stringify(model.requests[1]?.messages)).not.toContain('Secret');
    expect(model.requests[3]?.messages.at(-1)).toMatchObject({
      toolName: 'task',
      content: [{ type: 'text', text: 'Three.' }],
      isError: false,
    });
    const [start] = bench.of('task_start');
    expect(start).toMatchObject({ session: 'work', prompt: 'Count.', taskId: expect.stringMatching(/^task_/) });
    expect(bench.of('task')).toMatchObject([
      { taskId: start?.taskId, isError: false, usage: { input: 6 }, result: { text: 'Three.' } },
    ]);
    const child = await bench.harness.sessions.get(`task:work:${start?.taskId}`);
    expect(await child.history()).toHaveLength(3);
    const inside = bench.events.filter((event) => event.session === child.name);
    expect(inside.every((event) => event.parentSession === 'work' && event.taskId === start?.taskId)).toBe(true);
    const told = bench.types();
    expect(told.indexOf('task_start')).toBeLessThan(bench.events.findIndex(({ session: name }) => name === child.name));
  });

  // contract: 6.2-last-text
  test('says so when a task ended without a text', async () => {
    const model = scriptedModel([task({ prompt: 'Do it.' }), ' ', 'Done.']);
    await using bench = await harnessBench({ model });
    await (await bench.harness.session()).prompt('Go.');
    expect(model.requests[2]?.messages.at(-1)).toMatchObject({
      content: [{ text: 'The task ended without a text.' }],
    });
  });

  // contract: 6.2-listed, 1.6-description, 1.6-subagents-named
  test('lists name and description of each subagent', async () => {
    const model = scriptedModel(['Done.']);
    const subagents = [{ name: 'searcher', description: 'Finds places.' }, { name: 'plain' }];
    await using bench = await harnessBench({ model, subagents });
    await (await bench.harness.session()).prompt('Go.');
    const { description } = model.requests[0]?.tools.find(({ name }) => name === 'task') ?? {};
    expect(description).toMatch(/\n- searcher: Finds places\.\n- plain$/);
  });

  // contract: 6.2-profile-only, 6.2-profile-open, 3.2-option-tools-subagent
  test('with an agent has only what its profile names, and the rest of the parent and of the call', async () => {
    const ofCall = scriptedModel([task({ prompt: 'Do it.', agent: 'other' }), 'Child.', 'Done.']);
    const subagents = [{ name: 'other', instructions: 'You are other.', tools: [tool('own')] }];
    await using bench = await harnessBench({
      ...{ model: scriptedModel([]), instructions: 'You are first.', tools: [tool('first')], actions: [noop] },
      ...{ subagents, builtinTools: ['read', 'task'] as const },
    });
    const session = await bench.harness.session();
    await session.prompt('Go.', { model: ofCall, thinkingLevel: 'low', tools: [tool('call')] });
    const [asked, child] = ofCall.requests;
    expect(asked?.tools.map(({ name }) => name)).toEqual(['read', 'first', 'noop', 'task', 'call']);
    expect(toolNames(ofCall, 1)).toEqual(['read', 'own', 'task']);
    expect(child?.system).toMatch(/^You are other\.\n\nDate/);
    expect(child?.thinkingLevel).toBe('low');
    expect(child?.tools.find(({ name }) => name === 'task')?.description).not.toContain('- other');
  });

  // contract: 3.2-option-model-subagent
  test('with an agent asks its model at its level, also when the call names others', async () => {
    const own = scriptedModel(['Child.']);
    const ofCall = scriptedModel([task({ prompt: 'Do it.', agent: 'other' }), 'Done.']);
    const subagents = [{ name: 'other', model: own, thinkingLevel: 'high' as const }];
    await using bench = await harnessBench({ subagents });
    await (await bench.harness.session()).prompt('Go.', { model: ofCall, thinkingLevel: 'low' });
    expect(own.requests).toMatchObject([{ thinkingLevel: 'high' }]);
  });

  // contract: 6.2-without-agent
  test('without an agent has all that the caller has, with the tools, model and level of the call', async () => {
    const model = scriptedModel([task({ prompt: 'Do it.' }), 'Child.', 'Done.']);
    const config = { instructions: 'You are first.', tools: [tool('first')], actions: [noop] };
    await using bench = await harnessBench({ ...config, subagents: [{ name: 'other' }] });
    await (await bench.harness.session()).prompt('Go.', { model, thinkingLevel: 'low', tools: [tool('call')] });
    expect(model.requests[1]?.tools).toEqual(model.requests[0]?.tools);
    expect(model.requests[1]?.system).toBe(model.requests[0]?.system);
    expect(model.requests[1]?.thinkingLevel).toBe('low');
  });

  // contract: 6.2-sandbox
  test('works in the directory that it names, with the files of all', async () => {
    const model = scriptedModel([
      task({ prompt: 'Do it.', cwd: 'sub' }),
      { toolCalls: [{ name: 'bash', input: { command: 'pwd; cat ../top' } }] },
      'Child.',
      'Done.',
    ]);
    await using bench = await harnessBench({ model, workspaceContext: true });
    await mkdir(join(bench.cwd, 'sub'));
    await writeFile(join(bench.cwd, 'top'), 'of all');
    await writeFile(join(bench.cwd, 'sub/AGENTS.md'), 'Rules of sub.');
    await (await bench.harness.session()).prompt('Go.');
    expect(model.requests[1]?.system).toContain('Rules of sub.');
    expect(JSON.stringify(model.requests[2]?.messages.at(-1))).toContain('/sub\\nof all');
    expect(bench.of('task_start')).toMatchObject([{ cwd: 'sub' }]);
  });

  // contract: 6.2-unknown
  test.each([
    [
      'an agent that there is not',
      { prompt: 'x', agent: 'nobody' },
      'The agent has no subagent nobody (it has other).',
    ],
    ['an attachment', { prompt: 'x', attachments: [{ id: 'att_1' }] }, 'There is no image att_1'],
    ['a directory that there is not', { prompt: 'x', cwd: 'missing' }, 'ENOENT'],
  ])('tells the model of %s', async (_, input, text) => {
    const model = scriptedModel([task(input), 'Done.']);
    await using bench = await harnessBench({ model, subagents: [{ name: 'other' }] });
    await (await bench.harness.session()).prompt('Go.');
    const result = model.requests[1]?.messages.at(-1);
    expect(result).toMatchObject({ isError: true });
    expect(JSON.stringify(result)).toContain(text);
  });

  // contract: 6.2-attachments, 4.1-image-ids
  test('passes images of its caller on, those of a user and those of a tool, in the order in which they are named', async () => {
    const png = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
    const read = { type: 'image', data: png.toString('base64'), mimeType: 'image/png' } as const;
    const attachments = [read, image].map((named) => ({ id: attachmentId(named) }));
    const model = scriptedModel([
      { toolCalls: [{ name: 'read', input: { path: 'a.png' } }] },
      task({ prompt: 'Compare.', attachments }),
      'They differ.',
      'Done.',
    ]);
    await using bench = await harnessBench({ model });
    await writeFile(join(bench.cwd, 'a.png'), png);
    await (await bench.harness.session()).prompt('Look.', { images: [image] });
    expect(
      model.requests[2]?.messages.flatMap(({ content }) => content.filter(({ type }) => type === 'image')),
    ).toEqual([read, image]);
  });

  // contract: 6.2-attachments, 4.5-images
  test('passes on no image of another session, and none from before a compaction; then no task is started', async () => {
    const other = scriptedModel(['Seen.']);
    const named = task({ prompt: 'What is it?', attachments: [{ id: attachmentId(image) }] });
    const model = scriptedModel([named, 'Not mine.', 'Seen.', 'A summary.', 'Of the turn.', named, 'Gone.']);
    await using bench = await harnessBench({ model, compaction: { keepRecentTokens: 1 } });
    await (await bench.harness.session('other')).prompt('Look.', { model: other, images: [image] });
    const session = await bench.harness.session();
    await session.prompt('Go.');
    await session.prompt('Look.', { images: [image] });
    await session.compact();
    await session.prompt('Go.');
    expect(bench.of('task_start')).toEqual([]);
    const failed = bench.of('tool').map(({ isError, error }) => ({ isError, name: error?.name, meta: error?.meta }));
    const refused = { isError: true, name: 'AttachmentNotAvailableError', meta: { attachmentId: attachmentId(image) } };
    expect(failed).toEqual([refused, refused]);
    expect(JSON.stringify(model.requests.at(-1)?.messages)).not.toContain('<image id');
  });

  // contract: 6.2-not-offered, 2-depth-tasks
  test('is not offered at depth 4, where a task of code is refused before it starts', async () => {
    const model = scriptedModel(['Done.']);
    await using bench = await harnessBench({ model }, { depth: 4 });
    const session = await bench.harness.session();
    await session.prompt('Go.');
    expect(toolNames(model, 0)).not.toContain('task');
    const told = bench.events.length;
    await expect(session.task('Deeper.')).rejects.toMatchObject({ name: 'DelegationDepthExceededError' });
    expect(bench.events).toHaveLength(told);
  });

  // contract: 5-task-tool
  test('is not there where built-in tools are switched off', async () => {
    const model = scriptedModel(['One.']);
    await using bench = await harnessBench({ model, builtinTools: ['read'] });
    await (await bench.harness.session()).prompt('Go.');
    expect(toolNames(model, 0)).toEqual(['read']);
  });

  // contract: 3.4-abort-tasks
  test('is aborted with its caller, and its command is ended', async () => {
    const model = scriptedModel([
      task({ prompt: 'Do it.' }),
      { toolCalls: [{ name: 'bash', input: { command: 'echo on; sleep 1000' } }] },
    ]);
    await using bench = await harnessBench({ model });
    const prompt = (await bench.harness.session()).prompt('Go.');
    await bench.next('tool_output');
    prompt.abort('enough');
    await expect(prompt).rejects.toMatchObject({ name: 'AbortError' });
    expect(bench.of('task')).toMatchObject([{ isError: true }]);
  });
});

describe('session.task', () => {
  // contract: 3.2-task
  test('gives the result of a prompt in a child session, and leaves nothing in this conversation', async () => {
    const model = scriptedModel([{ toolCalls: [{ name: 'finish', input: { count: 3 } }] }]);
    await using bench = await harnessBench({ model });
    const session: Session = await bench.harness.session();
    const { data } = await session.task('Count.', { result: v.object({ count: v.number() }) });
    expect(data.count).toBe(3);
    // @ts-expect-error: the schema has no such field
    expect(data.total).toBeUndefined();
    expect(await session.history()).toEqual([]);
    expect(bench.of('operation_start').map(({ operationKind }) => operationKind)).toEqual(['task', 'prompt']);
  });

  // contract: 3.2-option-model-subagent
  test('asks the model of the call before that of the subagent, and gives it the tools of the call', async () => {
    const model = scriptedModel(['Done.']);
    await using bench = await harnessBench({ subagents: [{ name: 'other', model: scriptedModel([]) }] });
    const session = await bench.harness.session();
    await session.task('Go.', { agent: 'other', model, tools: [tool('call')] });
    expect(toolNames(model, 0)).toContain('call');
  });

  // contract: 6.2-unknown
  test('refuses what can not be right before anything is told', async () => {
    await using bench = await harnessBench({ model: scriptedModel([]) });
    const session = await bench.harness.session();
    await expect(session.task('Go.', { agent: 'x' })).rejects.toMatchObject({ meta: { name: 'x', known: [] } });
    await expect(session.task('Go.', { cwd: '' })).rejects.toMatchObject({ name: 'InvalidRequestError' });
    const misspelt = { agnt: 'x' } as object;
    await expect(session.task('Go.', misspelt)).rejects.toMatchObject({ name: 'InvalidRequestError' });
    expect(bench.events).toEqual([]);
  });

  // contract: 3.2-delete-below
  test('leaves a conversation that goes with the one above it', async () => {
    await using bench = await harnessBench({ model: scriptedModel(['Done.']) });
    const session = await bench.harness.session();
    await session.task('Go.');
    const name = `task:default:${bench.of('task')[0]?.taskId}`;
    expect(await (await bench.harness.sessions.get(name)).history()).toHaveLength(2);
    await session.delete();
    await expect(bench.harness.sessions.get(name)).rejects.toMatchObject({ name: 'SessionNotFoundError' });
  });

  // contract: 2-child-subagent-configuration
  test('calls actions with the configuration and directory of its own agent, not of its harness', async () => {
    const inner = scriptedModel([{ toolCalls: [{ name: 'where' }] }, 'Asked.', 'Child.']);
    const where = defineAction({
      name: 'where',
      description: 'Where.',
      run: async ({ harness }) => {
        const { text } = await (await harness.session()).prompt('Who are you?');
        return { text, cwd: harness.sandbox.cwd };
      },
    });
    const subagents = [{ name: 'other', model: inner, instructions: 'You are other.', actions: [where] }];
    await using bench = await harnessBench({ subagents, instructions: 'You are first.' });
    await mkdir(join(bench.cwd, 'sub'));
    await (await bench.harness.session()).task('Go.', { agent: 'other', cwd: 'sub' });
    expect(inner.requests[1]?.system).toMatch(/^You are other\./);
    expect(bench.of('action')).toMatchObject([{ result: { text: 'Asked.', cwd: expect.stringMatching(/\/sub$/) } }]);
  });
});

describe('subagents of a profile', () => {
  // contract: 1.6-subagents-named, 1.6-subagents-no-cycle, 1.6-subagents-durability
  test('have names, no durability and no cycle, and are checked as profiles are', async () => {
    const cycle: AgentProfile & { subagents: AgentProfile[] } = { name: 'cycle', subagents: [] };
    cycle.subagents.push({ name: 'between', subagents: [cycle] });
    const issues = await issuesOf({
      subagents: [{}, { name: 'a', durability: {} }, { name: 'a', tools: [{}] }, cycle],
    });
    expect(Object.keys(issues).sort()).toEqual([
      'subagents[0].name',
      'subagents[1].durability',
      'subagents[2].name',
      'subagents[2].tools[0].description',
      'subagents[2].tools[0].name',
      'subagents[2].tools[0].run',
      'subagents[3].subagents[0].subagents[0]',
    ]);
    expect(issues['subagents[3].subagents[0].subagents[0]']).toBe('is a subagent of itself');
  });

  test('of an agent come after those of its profile, and share no name with them', async () => {
    const profile = defineAgentProfile({ subagents: [{ name: 'a' }] });
    const agent = defineAgent(() => ({ profile, subagents: [{ name: 'b' }] }));
    const { subagents } = await resolveAgent(agent, { id: 'run_1', env: {} });
    expect(subagents.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(await issuesOf({ profile, subagents: [{ name: 'a' }] })).toHaveProperty('subagents[1].name');
  });
});
