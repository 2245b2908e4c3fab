import { spawnSync } from 'node:child_process';
import { mkdir, open, symlink, utimes } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expandBraces, globMatcher } from '../../../src/runtime/tools/glob-pattern.ts';
import type { Searcher } from '../../../src/runtime/tools/tool-environment.ts';
import { toolBench } from './tool-bench.ts';

async function project(searcher: Searcher = 'grep') {
  const bench = await toolBench();
  bench.shared.searcher = Promise.resolve(searcher);
  for (const directory of ['src/deep', '.git', 'odd: names']) {
    await mkdir(bench.env.resolvePath(directory), { recursive: true });
  }
  await bench.write('src/a.ts', 'const one = 1;\nexport default one; // ONE\n');
  await bench.write('src/deep/b.ts', 'import one from "../a";\n');
  await bench.write('src/deep/c.tsx', 'one + one\n');
  await bench.write('.git/config', 'one\n');
  await bench.write('odd: names/x:1.md', 'one\n');
  await bench.write('binary', 'one\0one\n');
  for (const [i, name] of ['src/a.ts', 'src/deep/b.ts', 'src/deep/c.tsx', 'odd: names/x:1.md', 'binary'].entries()) {
    await utimes(bench.env.resolvePath(name), 1_000 + i, 1_000 + i);
  }
  return bench;
}

const programs = (['grep', 'git', 'rg'] as const).filter((name) => spawnSync(name, ['--version']).status === 0);

describe.each(programs)('grep by %s', (program) => {
  // contract: 5-grep-lines
  test('gives path, line and text', async () => {
    await using bench = await project(program);
    const lines = (await bench.text('grep', { pattern: 'one' })).split('\n').sort();
    expect(lines).toEqual([
      'odd: names/x:1.md:1:one',
      'src/a.ts:1:const one = 1;',
      'src/a.ts:2:export default one; // ONE',
      'src/deep/b.ts:1:import one from "../a";',
      'src/deep/c.tsx:1:one + one',
    ]);
  });

  // contract: 5-grep-where
  test('looks only where it is told to', async () => {
    await using bench = await project(program);
    expect(await bench.text('grep', { pattern: '[O]NE', path: 'src' })).toBe('src/a.ts:2:export default one; // ONE');
    expect(await bench.text('grep', { pattern: 'one =', path: 'src/a.ts' })).toBe('src/a.ts:1:const one = 1;');
    expect(await bench.text('grep', { pattern: 'one', include: '*.tsx' })).toBe('src/deep/c.tsx:1:one + one');
    expect(await bench.text('grep', { pattern: 'o.e', include: '*.{md,tsx}' })).not.toContain('.ts:');
    expect(await bench.text('grep', { pattern: 'one', include: 'src/*.ts' })).not.toContain('deep');
    expect(await bench.text('grep', { pattern: 'one', include: 'src/**/*.ts' })).toContain('src/deep/b.ts:1:');
  });

  // contract: 5-grep-literal, 4.2-built-in-coercion
  test('takes a pattern as text when told to', async () => {
    await using bench = await project(program);
    expect(await bench.text('grep', { pattern: 'one + one', literal: 'true' })).toBe('src/deep/c.tsx:1:one + one');
    expect(await bench.text('grep', { pattern: "'; touch hacked; '" })).toContain('No line matches');
    expect(await bench.text('grep', { pattern: '-e', literal: true })).toContain('No line matches');
    expect(await bench.env.exists('hacked')).toBe(false);
  });

  // contract: 5-grep-cut
  test('stops at 100 matches and says how many there are', async () => {
    await using bench = await project(program);
    await bench.write('many.txt', 'needle\n'.repeat(150));
    const lines = (await bench.text('grep', { pattern: 'needle' })).split('\n');
    expect(lines).toHaveLength(101);
    expect(lines.at(-1)).toBe(
      '[These are the first 100 matches; there are 150 in all. Narrow the pattern, path or include.]',
    );
  });

  // contract: 5-grep-cut
  test('cuts a line at 500 characters', async () => {
    await using bench = await project(program);
    await bench.write('long.txt', `needle${'é'.repeat(2_000)}\n`);
    const text = await bench.text('grep', { pattern: 'needle' });
    expect(text).toBe(`long.txt:1:needle${'é'.repeat(494)}`);
  });

  // contract: 5-grep-errors
  test('without a match is a text, with a bad pattern or path an error', async () => {
    await using bench = await project(program);
    expect(await bench.text('grep', { pattern: 'nowhere' })).toBe('No line matches nowhere.');
    expect(await bench.error('grep', { pattern: '(' })).toContain('The search failed');
    expect(await bench.error('grep', { pattern: 'one', path: 'missing' })).toContain('ENOENT');
  });

  test('ends with the call when that is aborted', async ({ skip }) => {
    if (program === 'git') skip('git reads nothing but files, so that nothing holds it up');
    await using bench = await project(program);
    const pipe = bench.env.resolvePath('pipe');
    spawnSync('mkfifo', [pipe]);
    const call = bench.call('grep', { pattern: 'one', path: 'pipe' });
    const ended = expect(call).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    await using _writer = await open(pipe, 'w'); // it is open when the search reads it, which then waits for its end
    bench.stop.abort('enough');
    await ended;
  });

  // contract: 5-grep-ignored, 5-grep-ignored-always
  test('leaves out what .gitignore names', async ({ skip }) => {
    if (program === 'grep') skip('grep knows no .gitignore');
    await using bench = await project(program);
    await bench.write('.gitignore', '*.tsx\n');
    await bench.write('src/.gitignore', 'deep/\n');
    expect(await bench.text('grep', { pattern: 'one', include: '*.tsx' })).toBe('No line matches one.');
    expect(await bench.text('grep', { pattern: 'one', include: '*.ts' })).not.toContain('deep');
    expect(await bench.text('grep', { pattern: 'import', path: 'src' })).toBe('No line matches import.');
  });

  // contract: 5-grep-own, 5-grep-cut
  test('uses the search of the sandbox where there is one', async () => {
    await using bench = await project(program);
    const asked: unknown[] = [];
    bench.env.grep = async (pattern, options) => {
      asked.push(pattern, options);
      return { matches: [{ path: 'deep/b.ts', line: 3, text: 'x'.repeat(600) }], truncated: true, total: 7 };
    };
    const text = await bench.text('grep', { pattern: 'p', path: './src' });
    expect(text).toBe(
      `src/deep/b.ts:3:${'x'.repeat(500)}\n[These are the first 1 matches; there are 7 in all. Narrow the pattern, path or include.]`,
    );
    expect(asked).toEqual(['p', { path: './src', literal: false, limit: 100 }]);
  });
});

describe('glob', () => {
  // contract: 5-glob-names, 5-glob-files, 5-glob-none
  test('matches names at any depth, the newest first, without .git', async () => {
    await using bench = await project();
    expect(await bench.text('glob', { pattern: '*.ts*' })).toBe('src/deep/c.tsx\nsrc/deep/b.ts\nsrc/a.ts');
    expect(await bench.text('glob', { pattern: '*' })).not.toContain('.git');
    expect(await bench.text('glob', { pattern: 'config' })).toBe('No file below . matches config.');
  });

  // contract: 5-glob-names
  test('with a slash matches paths below the directory', async () => {
    await using bench = await project();
    expect(await bench.text('glob', { pattern: 'src/*' })).toBe('src/a.ts');
    expect(await bench.text('glob', { pattern: 'deep/**', path: 'src' })).toBe('src/deep/c.tsx\nsrc/deep/b.ts');
    expect(await bench.text('glob', { pattern: '**/*.ts' })).toBe('src/deep/b.ts\nsrc/a.ts');
  });

  // contract: 5-glob-files
  test('gives files only, also where a link is in the way', async () => {
    await using bench = await project();
    await symlink('src', bench.env.resolvePath('link'));
    expect(await bench.text('glob', { pattern: 'deep' })).toContain('No file');
    expect(await bench.text('glob', { pattern: 'a.ts' })).toBe('src/a.ts');
  });

  // contract: 5-glob-cut
  test('stops at 1,000 and says that there are more', async () => {
    await using bench = await project();
    await bench.call('bash', { command: 'mkdir many && cd many && seq 1 1001 | xargs touch' });
    const lines = (await bench.text('glob', { pattern: 'many/*' })).split('\n');
    expect(lines).toHaveLength(1_001);
    expect(lines.at(-1)).toContain('There are more');
  });

  test('below what is no directory is an error', async () => {
    await using bench = await project();
    expect(await bench.error('glob', { pattern: '*', path: 'src/a.ts' })).toContain('ENOTDIR');
    expect(await bench.error('glob', { pattern: '*', path: 'missing' })).toContain('ENOENT');
  });
});

describe('a glob', () => {
  test.each([
    ['*.ts', 'a/b/c.ts', true],
    ['*.ts', 'c.tsx', false],
    ['a/*.ts', 'a/b/c.ts', false],
    ['a/**/*.ts', 'a/c.ts', true],
    ['a/**/*.ts', 'a/b/d/c.ts', true],
    ['**/c.ts', 'c.ts', true],
    ['a/**', 'a/b/c', true],
    ['a/**', 'a', false],
    ['./a/b', 'a/b', true],
    ['?.ts', 'é.ts', true],
    ['[ab].ts', 'b.ts', true],
    ['[!ab].ts', 'b.ts', false],
    ['*.{ts,tsx}', 'x.tsx', true],
    ['{a,b/{c,d}}/x', 'b/d/x', true],
    ['a+(b).ts', 'a+(b).ts', true],
    ['{a}', '{a}', true],
    ['a[', 'a[', true],
    ['[a-c]x', 'bx', true],
    ['[]]', ']', true],
    ['a/**/b/**/c', 'a/x/b/y/z/c', true],
    ['**', 'a/b', true],
    ['a**b', 'a/b', false],
    ['*a*b', 'xaxxb', true],
    ['*.ts', '.ts', true],
    ['a/*', 'a', false],
  ])('%s with %s: %s', (pattern, path, matches) => {
    expect(globMatcher(pattern)(path)).toBe(matches);
  });

  test('with many stars or braces is soon done', () => {
    expect(() => globMatcher('{a,b}'.repeat(30))).toThrow('stand for too much');
    expect(globMatcher(`${'*a'.repeat(50)}b`)('a'.repeat(250))).toBe(false);
    expect(globMatcher(`${'**/a/'.repeat(50)}b`)('a/'.repeat(250))).toBe(false);
  });

  test('matches the name that it is, when nothing in it is special', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[^*?[\]{}/\s.]{1,20}$/), (name) => {
        expect(expandBraces(name)).toEqual([name]);
        expect(globMatcher(name)(`any/where/${name}`)).toBe(true);
        expect(globMatcher(`${name}x`)(name)).toBe(false);
      }),
    );
  });
});
