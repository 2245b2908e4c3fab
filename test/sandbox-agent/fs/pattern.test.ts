import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { globMatcher } from '../../../sandbox-agent/fs/pattern.ts';
import { pathMatcher } from '../../../src/protocol/path-pattern.ts';

describe('globMatcher', () => {
  test.for<[pattern: string, matching: string[], others: string[]]>([
    ['*.ts', ['a.ts', 'src/a.ts', '.ts', 'a/b/.x.ts'], ['a.tsx', 'ts', 'a.ts/b']],
    ['src/*.ts', ['src/a.ts'], ['a.ts', 'src/b/a.ts', 'x/src/a.ts']],
    ['/a.ts', ['a.ts'], ['b/a.ts']],
    ['./a/*', ['a/b'], ['b', 'a/b/c']],
    ['a//b', ['a/b'], ['a']],
    ['**/*.ts', ['a.ts', 'x/a.ts', 'x/y/a.ts'], ['a.js']],
    ['**/src/**', ['src/a', 'x/src/a', 'x/src/y/a'], ['src', 'x/srcs/a']],
    ['src/**', ['src/a', 'src/b/c'], ['src', 'srcs/a']],
    ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b'], ['ab', 'a/xb', 'a/x/y/c']],
    ['a/**/b/**/c', ['a/b/c', 'a/x/b/y/z/c', 'a/b/b/c'], ['a/c', 'a/b']],
    ['a**b', ['ab', 'axxb', 'd/axb'], ['a/b']],
    ['?.ts', ['a.ts', '😀.ts'], ['ab.ts', '.ts']],
    ['[abc].ts', ['a.ts', 'c.ts'], ['d.ts', '[.ts']],
    ['[a-c]x', ['ax', 'bx'], ['dx', '-x']],
    ['[!a-c]x', ['dx', '-x'], ['ax']],
    ['[^a]x', ['bx'], ['ax']],
    ['[]a]', [']', 'a'], ['b']],
    ['[a-]', ['a', '-'], ['b']],
    ['[a', ['[a'], ['a']],
    ['[\\]]', [']'], ['\\']],
    ['\\*', ['*'], ['a']],
    ['a\\', ['a\\'], ['a']],
    ['*.{ts,tsx}', ['a.ts', 'a.tsx'], ['a.js']],
    ['{a,b/c}/d', ['a/d', 'b/c/d'], ['c/d', 'a']],
    ['a{,b}', ['a', 'ab'], ['abb']],
    ['{a,{b,c}d}e', ['ae', 'bde', 'cde'], ['be', 'ade']],
    ['{a}', ['{a}'], ['a']],
    ['{a,b', ['{a,b'], ['a']],
    ['a,b}', ['a,b}'], ['a']],
    ['\\{a,b}', ['{a,b}'], ['a']],
    ['*', ['a', 'x/y', '.env'], []],
    ['.github/*/*.yml', ['.github/workflows/ci.yml'], ['github/workflows/ci.yml']],
    ['../*', [], ['a', 'b/a']],
    ['constructor', ['constructor'], ['x']],
  ])('%s', ([pattern, matching, others]) => {
    const matches = globMatcher(pattern);
    expect(matching.filter((path) => !matches(path))).toEqual([]);
    expect(others.filter((path) => matches(path))).toEqual([]);
  });

  test('matches what a plain search through all ways would match', () => {
    const name = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 });
    const piece = fc.constantFrom('a', 'b', '*', '?', '[a]', '[!a]', '{a,b*}', '{a/b,}');
    const segment = fc.oneof(
      fc.array(piece, { minLength: 1, maxLength: 4 }).map((pieces) => pieces.join('')),
      fc.constant('**'),
    );
    fc.assert(
      fc.property(
        fc.array(segment, { minLength: 2, maxLength: 4 }),
        fc.array(name, { minLength: 1, maxLength: 4 }),
        (segments, names) => {
          const pattern = segments.join('/');
          expect(globMatcher(pattern)(names.join('/'))).toBe(referenceMatches(pattern, names.join('/')));
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test('takes time that grows with the pattern, not with the ways to match it', () => {
    const started = performance.now();
    expect(globMatcher(`${'*a'.repeat(100)}b`)('a'.repeat(255))).toBe(false);
    expect(globMatcher(`${'**/a/'.repeat(50)}b`)(`${'a/'.repeat(1_000)}c`)).toBe(false);
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  test('refuses braces that stand for too many patterns', () => {
    expect(() => globMatcher('{a,b}'.repeat(20))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(globMatcher('{a,b}'.repeat(9))('a'.repeat(9))).toBe(true);
  });

  test('never throws anything else, for any pattern and path', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab/*?[]!^-{},\\.😀'), maxLength: 30 });
    fc.assert(
      fc.property(text, text, (pattern, path) => {
        expect(typeof pathMatcher(pattern)(path)).toBe('boolean');
      }),
    );
  });
});

/** By backtracking over the characters, and braces by recursion: slow, short, and written differently. */
function referenceMatches(pattern: string, path: string): boolean {
  const braces = /\{([^{}]*,[^{}]*)\}/.exec(pattern);
  if (braces?.[1] !== undefined) {
    return braces[1].split(',').some((choice) =>
      referenceMatches(
        pattern.replace(braces[0], () => choice),
        path,
      ),
    );
  }
  const segments = pattern.split('/').filter((segment) => segment !== '');
  if (!pattern.includes('/')) return referenceName(pattern, path.split('/').at(-1) ?? '');
  return referencePath(segments, path.split('/'));
}

function referencePath([segment, ...segments]: string[], names: string[]): boolean {
  if (segment === undefined) return names.length === 0;
  if (segment === '**') {
    const least = segments.length === 0 ? 1 : 0;
    return (
      names.some((_, index) => index >= least - 1 && segments.length === 0) ||
      names.concat('').some((_, index) => segments.length > 0 && referencePath(segments, names.slice(index)))
    );
  }
  const [name, ...rest] = names;
  return name !== undefined && referenceName(segment, name) && referencePath(segments, rest);
}

function referenceName(pattern: string, name: string): boolean {
  if (pattern === '') return name === '';
  if (pattern[0] === '*')
    return referenceName(pattern.slice(1), name) || (name !== '' && referenceName(pattern, name.slice(1)));
  if (name === '') return false;
  if (pattern.startsWith('[a]')) return name[0] === 'a' && referenceName(pattern.slice(3), name.slice(1));
  if (pattern.startsWith('[!a]')) return name[0] !== 'a' && referenceName(pattern.slice(4), name.slice(1));
  return (pattern[0] === '?' || pattern[0] === name[0]) && referenceName(pattern.slice(1), name.slice(1));
}
