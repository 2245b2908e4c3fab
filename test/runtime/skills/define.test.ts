import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import { defineAgent, defineAgentProfile, resolveAgent } from '../../../src/runtime/define/agent.ts';
import { DefinitionError } from '../../../src/runtime/define/errors.ts';
import { loadSkill } from '../../../src/runtime/skills/load.ts';
import { type DefineSkillOptions, defineSkill } from '../../../src/runtime/skills/skill.ts';
import { test } from '../../support/runtime.ts';

const named = { name: 'notes', description: 'How notes are written.' };

/** The messages of a refusal by their paths. */
function issuesOf(define: () => unknown): Record<string, string> {
  try {
    define();
  } catch (error) {
    if (error instanceof DefinitionError)
      return Object.fromEntries(error.meta.issues.map(({ path, message }) => [path, message]));
    throw error;
  }
  return {};
}

const untyped = (value: object) => value as DefineSkillOptions;

async function folder(directory: string, name: string, files: Record<string, string | Uint8Array>): Promise<string> {
  const root = join(directory, name);
  await mkdir(root);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return root;
}

const skillFile = (fields: string, text = 'Do it well.') => `---\n${fields}\n---\n${text}`;

// contract: 6.1-define
test('gives a frozen reference with what it was given, and a directory that changes with it', () => {
  const skill = defineSkill({
    ...named,
    instructions: ' One line each.\n',
    files: { 'b.md': 'B', a: Buffer.from([0]) },
  });
  expect(skill).toMatchObject({ ...named, instructions: 'One line each.' });
  expect(skill.files).toEqual([
    { path: 'a', encoding: 'base64', content: 'AA==' },
    { path: 'b.md', encoding: 'utf8', content: 'B' },
  ]);
  expect(skill.directory).toMatch(/^\/\.berth\/skills\/notes-[0-9a-f]{16}$/);
  expect(Object.isFrozen(skill) && Object.isFrozen(skill.files)).toBe(true);
  expect(defineSkill(named).directory).toBe(defineSkill({ ...named }).directory);
  expect(defineSkill({ ...named, instructions: 'x' }).directory).not.toBe(defineSkill(named).directory);
});

// contract: 1.1-names-skills
test('takes names of lower-case words and numbers with single hyphens between', () => {
  for (const name of ['a', 'pdf-2-text', '0', 'x'.repeat(64)]) expect(defineSkill({ ...named, name }).name).toBe(name);
  for (const name of ['', 'A', 'a--b', '-a', 'a-', 'a_b', 'a b', 'é', 'x'.repeat(65)]) {
    expect(issuesOf(() => defineSkill({ ...named, name }))).toHaveProperty('name');
  }
});

// contract: 6.1-paths, 6.1-fields
test('refuses what no skill can have, all of it at once', () => {
  const issues = issuesOf(() =>
    defineSkill(
      untyped({
        description: 'x'.repeat(1_025),
        compatibility: 'x'.repeat(501),
        license: 1,
        metadata: { a: 1 },
        allowedTools: [],
        instructions: 'x'.repeat(1024 * 1024 + 1),
        extra: 1,
        files: {
          'SKILL.md': '',
          '../a': '',
          '/a': '',
          'a//b': '',
          './a': '',
          'a\\b': '',
          'a\0': '',
          'a\nb': '',
          '': '',
          ok: 7,
        },
      }),
    ),
  );
  expect(Object.keys(issues).sort()).toEqual(
    [
      ...['allowedTools', 'compatibility', 'description', 'extra', 'instructions', 'license', 'metadata', 'name'],
      ...['SKILL.md', '../a', '/a', 'a//b', './a', 'a\\b', 'a\0', 'a\nb', ''].map(
        (path) => `files[${JSON.stringify(path)}]`,
      ),
      'files.ok',
    ].sort(),
  );
  expect(
    issuesOf(() => defineSkill({ ...named, files: { big: new Uint8Array(16 * 1024 * 1024 + 1) } })),
  ).toHaveProperty('files');
  const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`${i}`, '']));
  expect(issuesOf(() => defineSkill({ ...named, files: many }))).toHaveProperty('files');
});

// contract: 1.6-skills, 6.1-bad-registered
test('an agent takes references, and names with descriptions; those of its profile come first', async () => {
  const reference = defineSkill(named);
  const plain = { name: 'plain', description: 'Only told of.' };
  const profile = defineAgentProfile({ skills: [reference] });
  const resolve = (skills: unknown) =>
    resolveAgent(
      defineAgent(() => ({ profile, skills: skills as [] })),
      { id: 'i', env: {} },
    );
  const { skills } = await resolve([plain]);
  expect(skills).toEqual([reference, plain]);
  await expect(resolve([{ ...reference }])).rejects.toThrow('give what that returned, not a copy');
  await expect(resolve([{ name: 'Bad', description: '' }])).rejects.toThrow(DefinitionError);
  await expect(resolve([named])).rejects.toThrow(DefinitionError); // the name is that of the profile's
  await expect(resolve([plain, plain])).rejects.toThrow(DefinitionError);
  await expect(resolve('plain')).rejects.toThrow(DefinitionError);
});

// contract: 6.1-define
test('loads a folder: its SKILL.md, and the other files but .git and node_modules', async ({ directory }) => {
  const root = await folder(directory, 'notes', {
    'SKILL.md': skillFile('name: notes\ndescription: How notes are written.'),
    'examples/one.md': 'One',
    'logo.png': Buffer.from([0x89, 0]),
    '.git/config': 'x',
    'node_modules/a/index.js': 'x',
  });
  const skill = loadSkill(root);
  expect(skill).toMatchObject({ ...named, instructions: 'Do it well.' });
  expect(skill.files.map(({ path }) => path)).toEqual(['examples/one.md', 'logo.png']);
  expect(loadSkill(pathToFileURL(root)).directory).toBe(skill.directory);
});

// contract: 6.1-load-refused
test('does not load links, names of secrets, or what is no skill', async ({ directory }) => {
  const text = skillFile('name: notes\ndescription: d');
  const root = await folder(directory, 'notes', {
    'SKILL.md': text,
    '.env.local': 'KEY=1',
    'deep/id_rsa': 'x',
    'deep/server.pem': 'x',
    'credentials.json': '{}',
  });
  await symlink('/etc/hostname', join(root, 'link'));
  const issues = issuesOf(() => loadSkill(root));
  expect(Object.keys(issues).sort()).toEqual(
    [
      'files[".env.local"]',
      'files["credentials.json"]',
      'files["deep/id_rsa"]',
      'files["deep/server.pem"]',
      'files.link',
    ].sort(),
  );
  expect(issuesOf(() => loadSkill(join(directory, 'missing')))['']).toContain('ENOENT');
  await symlink(root, join(directory, 'linked'));
  expect(issuesOf(() => loadSkill(join(directory, 'linked')))['']).toContain('no directory');
  await folder(directory, 'empty', {});
  expect(issuesOf(() => loadSkill(join(directory, 'empty')))).toHaveProperty(['SKILL.md']);
  const other = await folder(directory, 'other', { 'SKILL.md': text });
  expect(issuesOf(() => loadSkill(other)).name).toContain('"other"');
});

// contract: 6.1-frontmatter, 6.1-fields, 6.1-size
test('reads the YAML of a SKILL.md: every scalar a text, a BOM allowed, unknown fields ignored', async ({
  directory,
}) => {
  let count = 0;
  const load = async (content: string | Uint8Array) => {
    const parent = join(directory, `${++count}`);
    await mkdir(parent);
    return loadSkill(await folder(parent, 'notes', { 'SKILL.md': content }));
  };
  const fields = 'name: notes\ndescription: d';
  const full = await load(
    `\uFEFF---\r\n${fields}\r\nlicense: 0.10\r\ncompatibility: yes\r\nallowed-tools: Bash(git:*) Read\r\nmetadata:\r\n  version: 1.0\r\n  __proto__: x\r\nother: [1]\r\n---\r\n\r\nText\r\n---\r\nmore`,
  );
  expect(full).toMatchObject({
    license: '0.10',
    compatibility: 'yes',
    allowedTools: 'Bash(git:*) Read',
    instructions: 'Text\r\n---\r\nmore',
  });
  expect(Object.entries(full.metadata ?? {})).toEqual([
    ['version', '1.0'],
    ['__proto__', 'x'],
  ]);
  expect((await load(`---\n${fields}\nlicense:\n---`)).license).toBeUndefined();
  const refused = async (content: string | Uint8Array) => {
    const error: unknown = await load(content).catch((error: unknown) => error);
    if (!(error instanceof DefinitionError)) throw new Error('it was not refused', { cause: error });
    return Object.fromEntries(error.meta.issues.map(({ path, message }) => [path, message]));
  };
  expect(await refused('no YAML')).toHaveProperty(['SKILL.md']);
  expect(await refused(`\n---\n${fields}\n---\n`)).toHaveProperty(['SKILL.md']);
  expect(await refused('---\nname: [\n---\n')).toHaveProperty(['SKILL.md']);
  expect(await refused('---\n- a\n---\n')).toHaveProperty(['SKILL.md']);
  expect(await refused(Buffer.from([0x2d, 0x2d, 0x2d, 0x0a, 0xff, 0xfe]))).toHaveProperty(['SKILL.md']);
  expect(await refused(skillFile(fields, 'x'.repeat(1024 * 1024)))).toHaveProperty(['SKILL.md']);
  expect(await refused(`---\n${'['.repeat(5_000)}\n---\n`)).toHaveProperty(['SKILL.md']);
  expect(await refused(`---\nname: notes\ndescription: ${'d'.repeat(20_000)}\n---\n`)).toHaveProperty(['SKILL.md']);
  expect(await refused('---\nname: notes\n---\n')).toHaveProperty('description');
  expect(await refused(`---\n${fields}\nmetadata: {a: {b: c}}\n---\n`)).toHaveProperty('metadata');
  expect(await refused(`---\n${fields}\nallowed-tools: [a]\n---\n`)).toHaveProperty('allowed-tools');
});
