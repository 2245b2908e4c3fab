import { pino } from 'pino';
import * as v from 'valibot';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { defineAction } from '../../../src/runtime/define/action.ts';
import { type AgentConfig, defineAgent } from '../../../src/runtime/define/agent.ts';
import { defineWorkflow } from '../../../src/runtime/define/workflow.ts';
import { InvalidRequestError } from '../../../src/runtime/errors.ts';
import type { Harness } from '../../../src/runtime/harness/harness.ts';
import type { ModelRequest } from '../../../src/runtime/model/model.ts';
import { createRuntime } from '../../../src/runtime/run/runtime.ts';
import { docker } from '../../../src/runtime/sandbox/docker.ts';
import { virtual } from '../../../src/runtime/sandbox/virtual.ts';
import { SkillNotRegisteredError } from '../../../src/runtime/skills/errors.ts';
import { defineSkill, type SkillReference } from '../../../src/runtime/skills/skill.ts';
import { type ScriptedTurn, scriptedModel } from '../../../src/testing/scripted-model.ts';
import { eventsOf } from '../../support/runtime.ts';

const notes = defineSkill({
  name: 'notes',
  description: 'How notes\n are written.',
  instructions: 'One line for each.',
  files: { 'examples/one.md': 'first\nsecond\n', 'logo.png': Buffer.from([0x89, 0, ...Array<number>(100).fill(7)]) },
});
const skillFile = (name: string, text: string) => `---\nname: ${name}\ndescription: About ${name}.\n---\n${text}\n`;
const workspace = {
  '.agents/skills/deploy/SKILL.md': skillFile('deploy', 'Push the button.'),
  '.agents/skills/deploy/button.sh': 'true',
};
const activate = (name: string) => ({ toolCalls: [{ name: 'activate_skill', input: { name } }] });
const tool = (name: string, input: object) => ({ toolCalls: [{ name, input }] });

/** Runs `work` in a workspace in memory with these files. */
async function inWorkspace(
  files: Record<string, string>,
  { turns = [], ...config }: AgentConfig & { turns?: readonly ScriptedTurn[] },
  work: (harness: Harness) => Promise<unknown>,
) {
  const model = scriptedModel(turns);
  const paths = Object.entries(files).map(([path, content]) => [`/workspace/${path}`, content]);
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: virtual({ files: Object.fromEntries(paths) as Record<string, string> }),
    logger: pino({ level: 'silent' }),
  });
  const workflow = defineWorkflow({
    name: 'work',
    agent: defineAgent(() => ({ model, ...config })),
    run: async ({ harness }) => void (await work(harness)),
  });
  const run = await runtime.invoke(workflow);
  await run.result();
  return { requests: model.requests, events: await eventsOf(run) };
}

const prompt = async (harness: Harness) => (await harness.session()).prompt('Go.');
const toolsOf = ({ tools }: ModelRequest) => tools.map(({ name }) => name);

/** What the last tool gave. */
function lastResult({ messages }: ModelRequest): string {
  const last = messages.at(-1);
  if (last?.role !== 'tool') throw new Error('the last message is no result of a tool');
  return last.content.map((part) => (part.type === 'text' ? part.text : part.mimeType)).join('\n');
}

function request(requests: readonly ModelRequest[], index: number): ModelRequest {
  const found = requests[index];
  if (!found) throw new Error(`there is no request ${index}`);
  return found;
}

describe('a model', () => {
  // contract: 4.1-skills, 6.1-workspace, 5-skill-tools
  test('is told of the skills of its agent and its workspace, a line each, and has the tools for them', async () => {
    const plain = { name: 'plain', description: 'Only told of.' };
    const { requests } = await inWorkspace(workspace, { skills: [notes, plain], turns: ['Done.'] }, prompt);
    const { system, tools } = request(requests, 0);
    expect(system).toContain('activate_skill');
    expect(system).toContain('\nnotes — How notes are written.\nplain — Only told of.\ndeploy — About deploy.\n');
    expect(tools.map(({ name }) => name)).toEqual(expect.arrayContaining(['activate_skill', 'read_skill_resource']));
  });

  // contract: 5-skill-tools, 4.1-workspace-skills
  test('has no tools for skills where there are none, or none that brings files', async () => {
    const without = await inWorkspace({}, { turns: ['Done.'] }, prompt);
    expect(toolsOf(request(without.requests, 0)).filter((name) => name.includes('skill'))).toEqual([]);
    expect(request(without.requests, 0).system).not.toContain('Skills');
    const found = await inWorkspace(workspace, { turns: ['Done.'] }, prompt);
    expect(toolsOf(request(found.requests, 0)).filter((name) => name.includes('skill'))).toEqual(['activate_skill']);
    const untold = await inWorkspace(workspace, { workspaceContext: false, turns: ['Done.'] }, prompt);
    expect(toolsOf(request(untold.requests, 0)).filter((name) => name.includes('skill'))).toEqual([]);
  });

  // contract: 6.1-activate, 6.1-activate-unknown, 6.1-activate-anew
  test('takes a skill up: its instructions and where its files are, of the workspace as they are now', async () => {
    const turns = [
      activate('notes'),
      activate('deploy'),
      tool('write', { path: '.agents/skills/deploy/SKILL.md', content: skillFile('deploy', 'Pull the lever.') }),
      activate('deploy'),
      tool('write', { path: '.agents/skills/deploy/SKILL.md', content: 'no skill any more' }),
      activate('deploy'),
      activate('../../etc'),
      'Done.',
    ];
    const { requests } = await inWorkspace(workspace, { skills: [notes], turns }, prompt);
    const results = [1, 2, 4, 6, 7].map((index) => lastResult(request(requests, index)));
    expect(results[0]).toBe(
      `<skill name="notes">\nOne line for each.\n</skill>\n\nIts other files. Read those that you need with read_skill_resource; commands do not see them.\n${notes.directory}/examples/one.md\n${notes.directory}/logo.png`,
    );
    expect(results[1]).toContain('Push the button.');
    expect(results[1]).toContain('/workspace/.agents/skills/deploy');
    expect(results[2]).toContain('Pull the lever.');
    expect(results[3]).toContain('must begin with YAML');
    expect(results[4]).toBe('There is no skill "../../etc" (there are notes, deploy).');
  });

  // contract: 6.1-resources
  test('reads what a skill brings, by lines, and what is no text in base64; with read, too', async () => {
    const at = (path: string) => `${notes.directory}/${path}`;
    const turns = [
      tool('read_skill_resource', { path: at('examples/one.md'), offset: 2, limit: 1 }),
      tool('read_skill_resource', { path: at('logo.png') }),
      tool('read', { path: at('examples/../examples/one.md') }),
      tool('read_skill_resource', { path: '/etc/passwd' }),
      tool('read', { path: at('missing') }),
      tool('bash', { command: 'ls /.berth' }),
      'Done.',
    ];
    const { requests } = await inWorkspace({}, { skills: [notes], turns }, prompt);
    const results = [1, 2, 3, 4, 5, 6].map((index) => lastResult(request(requests, index)));
    expect(results[0]).toContain('second');
    expect(results[0]).not.toContain('first');
    const lines = results[1]?.split('\n') ?? [];
    expect(lines[0]).toHaveLength(76);
    expect(Buffer.from(lines.join(''), 'base64')).toHaveLength(102);
    expect(results[2]).toContain('first\nsecond');
    expect(results[3]).toContain('no path of a skill');
    expect(results[4]).toContain('ENOENT');
    expect(results[5]).toContain('No such file');
  });

  // contract: 6.1-bad-skipped, 6.1-equal-names, 6.1-size
  test('is not told of a bad skill of the workspace, nor of one whose name the agent has: a warning says so', async () => {
    const files = {
      ...workspace,
      '.agents/skills/notes/SKILL.md': skillFile('notes', 'Others.'),
      '.agents/skills/other/SKILL.md': skillFile('different', 'x'),
      '.agents/skills/Bad_Name/SKILL.md': skillFile('Bad_Name', 'x'),
      '.agents/skills/large/SKILL.md': skillFile('large', 'x'.repeat(1024 * 1024)),
      '.agents/skills/broken/SKILL.md': '---\nname: [\n---\n',
      '.agents/skills/directory/SKILL.md/file': '',
      '.agents/skills/README.md': 'no skill, and no warning',
    };
    const { requests, events } = await inWorkspace(
      files,
      { skills: [notes], turns: [activate('notes'), 'Done.'] },
      prompt,
    );
    const { system } = request(requests, 0);
    expect(system.match(/^\S+ — .*$/gm)).toEqual(['notes — How notes are written.', 'deploy — About deploy.']);
    expect(lastResult(request(requests, 1))).toContain('One line for each.');
    const warned = events.flatMap((event) => (event.type === 'log' && event.level === 'warn' ? [event.message] : []));
    const left = ['Bad_Name', 'broken', 'directory', 'large', 'notes', 'other'];
    expect(warned).toEqual(left.map((name) => `The skill ${JSON.stringify(name)} of the workspace is left out`));
  });

  test('is told of a hundred skills of the workspace at most', async () => {
    const names = Array.from({ length: 103 }, (_, i) => `s${String(i).padStart(3, '0')}`);
    const files = names.map((name) => [`.agents/skills/${name}/SKILL.md`, skillFile(name, '')]);
    const { requests, events } = await inWorkspace(Object.fromEntries(files), { turns: ['Done.'] }, prompt);
    expect(request(requests, 0).system.match(/^s\d+ — /gm)).toHaveLength(100);
    expect(events).toContainEqual(expect.objectContaining({ type: 'log', message: expect.stringContaining('3 more') }));
  });

  test('that is a subagent has the skills of its profile only; one without a profile those of its parent', async () => {
    const config = {
      skills: [notes],
      subagents: [{ name: 'bare', description: 'None.', workspaceContext: false }],
      workspaceContext: false,
      turns: [tool('task', { prompt: 'x' }), 'One.', tool('task', { prompt: 'x', agent: 'bare' }), 'Two.', 'Done.'],
    };
    const { requests } = await inWorkspace({}, config, prompt);
    const has = requests.map((asked) => toolsOf(asked).includes('activate_skill'));
    expect(has).toEqual([true, true, true, false, true]);
  });

  test('in a child harness has the skills of the agent', async () => {
    const ask = defineAction({
      name: 'ask',
      description: 'Asks.',
      run: ({ harness }) => prompt(harness).then(() => null),
    });
    const { requests } = await inWorkspace({}, { skills: [notes], turns: ['Done.'] }, (harness) => harness.run(ask));
    expect(toolsOf(request(requests, 0))).toContain('activate_skill');
  });
});

describe('session.skill', () => {
  const result = v.object({ lines: v.number() });
  const finish = tool('finish', { lines: 2 });

  // contract: 3.2-skill, 6.1-session-skill
  test('prompts with the text of a skill and its arguments, and gives what a prompt gives', async () => {
    const { requests, events } = await inWorkspace(
      workspace,
      { skills: [notes], turns: ['Noted.', finish, 'Deployed.'] },
      async (harness) => {
        const session = await harness.session();
        expect(await session.skill('notes', { args: { since: 'v1' } })).toMatchObject({ text: 'Noted.', turns: 1 });
        const structured = await session.skill(notes, { result });
        expectTypeOf(structured.data).toEqualTypeOf<{ lines: number }>();
        expect(structured.data).toEqual({ lines: 2 });
        expect((await session.skill('deploy')).text).toBe('Deployed.');
      },
    );
    const asked = requests.map(({ messages }) => JSON.stringify(messages.at(-1)));
    expect(asked[0]).toContain('One line for each.');
    expect(asked[0]).toContain('Arguments:\\n{\\n  \\"since\\": \\"v1\\"\\n}');
    expect(asked[1]).toContain('call the tool finish');
    expect(asked[2]).toContain('Push the button.');
    const kinds = events.flatMap((event) => (event.type === 'operation' ? [event.operationKind] : []));
    expect(kinds).toEqual(['skill', 'skill', 'skill']);
  });

  test('takes a skill that the agent does not have, with the files that it brings', async () => {
    const { requests } = await inWorkspace(
      {},
      { turns: [tool('read_skill_resource', { path: `${notes.directory}/examples/one.md` }), 'Done.'] },
      async (harness) => (await harness.session()).skill(notes),
    );
    expect(lastResult(request(requests, 1))).toContain('second');
  });

  // contract: 6.1-session-skill
  test('refuses a name that is not known, one that is bad, and what is no skill, without asking the model', async () => {
    const files = { ...workspace, '.agents/skills/broken/SKILL.md': 'x' };
    const { requests } = await inWorkspace(files, { skills: [notes] }, async (harness) => {
      const session = await harness.session();
      const unknown: unknown = await session.skill('nowhere').catch((error: unknown) => error);
      expect(unknown).toBeInstanceOf(SkillNotRegisteredError);
      expect(unknown).toMatchObject({
        code: 'skill_not_registered',
        meta: { name: 'nowhere', known: ['notes', 'deploy'] },
      });
      await expect(session.skill('broken')).rejects.toThrow('must begin with YAML');
      await expect(session.skill({ ...notes } as SkillReference)).rejects.toThrow(InvalidRequestError);
      await expect(session.skill('notes', { args: [new Date()] })).rejects.toThrow('args[0]');
      await expect(session.skill('notes', { arg: 1 } as object)).rejects.toThrow(InvalidRequestError);
      expect(await session.history()).toEqual([]);
    });
    expect(requests).toEqual([]);
  });
});

test('over docker() a skill of the workspace is found, and a link out of it is not followed', async () => {
  const model = scriptedModel([activate('deploy'), 'Done.']);
  await using runtime = await createRuntime({
    store: ':memory:',
    sandbox: docker(),
    logger: pino({ level: 'silent' }),
  });
  const workflow = defineWorkflow({
    name: 'deploy',
    agent: defineAgent(() => ({ model })),
    run: async ({ harness }) => {
      await harness.fs.writeFile('.agents/skills/deploy/SKILL.md', skillFile('deploy', 'Push the button.'));
      await harness.shell(
        'mkdir -p /tmp/out .agents/skills/out .agents/skills/pipe && mkfifo .agents/skills/pipe/SKILL.md',
      );
      await harness.shell(
        'cp .agents/skills/deploy/SKILL.md /tmp/out && ln -s /tmp/out/SKILL.md .agents/skills/out/SKILL.md',
      );
      await prompt(harness);
    },
  });
  const run = await runtime.invoke(workflow);
  await run.result();
  expect(request(model.requests, 0).system).toContain('deploy — About deploy.');
  expect(lastResult(request(model.requests, 1))).toContain('Push the button.');
  const warned = (await eventsOf(run)).flatMap((event) => (event.type === 'log' ? [JSON.stringify(event)] : []));
  expect(warned).toHaveLength(2);
  expect(warned[0]).toContain('a link out of the working directory');
  expect(warned[1]).toContain('is no file');
});
