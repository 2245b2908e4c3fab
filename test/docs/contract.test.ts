import { readdirSync, readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { sections } from '../contract/rules.ts';
import { root } from './markdown.ts';

/** A test with the rules that the comments above it name. */
interface Shown {
  path: string;
  name: string;
  ids: string[];
}

const mark = /^[ \t]*\/\/ contract: (.+)$/gm;

/** What is called in the end: `test` of `test.each(table)('name', work)`. */
function calledName(call: ts.Expression): string | undefined {
  if (ts.isIdentifier(call)) return call.text;
  return ts.isCallExpression(call) || ts.isPropertyAccessExpression(call) ? calledName(call.expression) : undefined;
}

/** The name of a test or a group, with `…` for what is only known when it runs. */
function nameOf(call: ts.CallExpression): string {
  const [name] = call.arguments;
  if (name && ts.isStringLiteralLike(name)) return name.text;
  if (!name || !ts.isTemplateExpression(name)) return '…';
  return [name.head, ...name.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join('…');
}

/** The tests of a file that show rules, and the comments that stand above no test, as `path:line`. */
function read(path: string, text: string): { shown: Shown[]; stray: string[] } {
  const shown: Shown[] = [];
  const seen = new Set<number>();
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const visit = (node: ts.Node, groups: string[]): void => {
    const call = ts.isExpressionStatement(node) && ts.isCallExpression(node.expression) ? node.expression : undefined;
    const called = call && calledName(call);
    if (call && called === 'test') {
      const comments = ts.getLeadingCommentRanges(text, node.pos) ?? [];
      const ids = comments.flatMap(({ pos, end }) =>
        Array.from(text.slice(pos, end).matchAll(mark), ([, list = '']) => {
          seen.add(file.getLineAndCharacterOfPosition(pos).line);
          return list.split(', ');
        }).flat(),
      );
      if (ids.length > 0) shown.push({ path, name: [...groups, nameOf(call)].join(' '), ids });
    }
    const inside = call && called === 'describe' ? [...groups, nameOf(call)] : groups;
    ts.forEachChild(node, (child) => visit(child, inside));
  };
  visit(file, []);
  const lines = text.split('\n').flatMap((line, i) => (line.match(mark) && !seen.has(i) ? [i] : []));
  return { shown, stray: lines.map((line) => `${path}:${line + 1}`) };
}

/** In a cell of a table. */
const escaped = (text: string) => text.replaceAll(/[\\|[\]*_<>~]/g, '\\$&');

const intro = `<!-- Made by test/docs/contract.test.ts from test/contract/rules.ts and the tests, by \`npx vitest run test/docs/contract.test.ts -u\` -->

# What you may rely on

How the runtime behaves, rule by rule, with the tests that show each. A test that is named here fails when its rule is
broken. The guides say how to use all of this; this page is for those who want to know it exactly.

- **tested**: built, and shown by the tests that are named.
- **not tested**: built; no test shows it yet.
- **not built**: comes with the part of Berth that is named.
`;

function page(shown: readonly Shown[]): string {
  const counts: Record<string, number> = { tested: 0, 'not tested': 0, 'not built': 0 };
  const parts = sections.map(({ title, rules }) => {
    const rows = Object.entries(rules).map(([id, rule]) => {
      const tests = shown.filter(({ ids }) => ids.includes(id));
      const state = typeof rule !== 'string' ? 'not built' : tests.length > 0 ? 'tested' : 'not tested';
      counts[state] = (counts[state] ?? 0) + 1;
      const links = tests.map(({ path, name }) => `[${escaped(name)}](../${path})`);
      const shows = typeof rule === 'string' ? links.join('<br>') : `with ${rule.notBuilt}`;
      return `| ${typeof rule === 'string' ? rule : rule.text}<br>\`${id}\` | ${state} | ${shows} |`;
    });
    return `\n## ${title}\n\n| rule | state | shown by |\n| --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  const total = Object.entries(counts).map(([state, count]) => `${count} ${state}`);
  return `${intro}\nOf ${sections.flatMap(({ rules }) => Object.keys(rules)).length} rules: ${total.join(', ')}.\n${parts.join('')}`;
}

const files = ['test', 'src/testing'].flatMap((folder) =>
  readdirSync(`${root}${folder}`, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && `${folder}/${name}` !== 'test/docs/contract.test.ts')
    .map((name) => `${folder}/${name}`)
    .sort(),
);
const found = files
  .map((path) => [path, readFileSync(`${root}${path}`, 'utf8')] as const)
  .filter(([, text]) => text.includes('// contract: '))
  .map(([path, text]) => read(path, text));
const shown = found.flatMap((file) => file.shown);
const rules = new Map(sections.flatMap((section) => Object.entries(section.rules)));

describe('docs/contract.md', () => {
  test('has every rule with the tests that show it; with -u it is written anew', async () => {
    await expect(page(shown)).toMatchFileSnapshot(`${root}docs/contract.md`);
  });

  test('is made of comments that stand above a test and name rules that there are, and that are built', () => {
    expect(found.flatMap(({ stray }) => stray)).toEqual([]);
    const wrong = shown.flatMap(({ path, name, ids }) =>
      ids.filter((id) => typeof rules.get(id) !== 'string').map((id) => `${path} “${name}”: ${id}`),
    );
    expect(wrong).toEqual([]);
  });

  test('has each rule once, below the section whose number its id begins with', () => {
    const misplaced = sections.flatMap(({ title, rules: own }) =>
      Object.keys(own).filter((id) => !id.startsWith(`${title.split(' ')[0]}-`)),
    );
    expect(misplaced).toEqual([]);
    expect(rules.size).toBe(sections.flatMap((section) => Object.keys(section.rules)).length);
  });

  test('finds the tests of a table, of a group and of a suite, and the comments that are above none', () => {
    const text = [
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
      'describe(`the sandbox of ${name}`, () => {',
      '  // contract: 1-a, 1-b',
      '  // contract: 1-c',
      "  test.each([[1]])('takes %i', () => {});",
      '});',
      '// contract: 1-d',
      'const none = 1;',
    ].join('\n');
    expect(read('test/x.ts', text)).toEqual({
      shown: [{ path: 'test/x.ts', name: 'the sandbox of … takes %i', ids: ['1-a', '1-b', '1-c'] }],
      stray: ['test/x.ts:6'],
    });
  });
});
