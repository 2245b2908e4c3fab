import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BerthError } from '../../src/errors.ts';
import * as library from '../../src/index.ts';
import * as sandbox from '../../src/sandbox/index.ts';
import { root } from './markdown.ts';

/** The names of the error classes that a module exports. */
function errorClasses(module: Record<string, unknown>): string[] {
  return Object.entries(module).flatMap(([name, value]) =>
    typeof value === 'function' && value.prototype instanceof BerthError ? [name] : [],
  );
}

/** Code and status of each class, as its source has them: they are fields, which only an object shows. */
function declared(): Map<string, { code: string; status: string }> {
  const files = readdirSync(`${root}src`, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const classes = files.flatMap((name) => [
    ...readFileSync(`${root}src/${name}`, 'utf8').matchAll(/^export class (\w+) extends BerthError.*?^}$/gms),
  ]);
  return new Map(
    classes.map(([body, name = '']) => {
      const code = /^ {2}readonly code = '(\w+)'/m.exec(body)?.[1] ?? 'POSIX name';
      return [name, { code, status: /^ {2}override readonly status = (\d+)/m.exec(body)?.[1] ?? '500' }];
    }),
  );
}

// contract: 9-classes
test('docs/errors.md has every error class that is exported, with its code and status, and no other', () => {
  const page = readFileSync(`${root}docs/errors.md`, 'utf8');
  const rows = Array.from(
    page.matchAll(/^\| `(\w+)` \| `?([\w ]+?)`? \| (\d+) \| `([\w/]+)`(?:, `([\w/]+)`)? \|/gm),
    ([, name, code, status, ...from]) => ({ name, code, status, from: from.filter((entry) => entry !== undefined) }),
  );
  const inLibrary = new Set(errorClasses(library));
  const inSandbox = new Set(errorClasses(sandbox));
  inLibrary.delete('BerthError');
  inSandbox.delete('BerthError');
  const expected = [...new Set([...inLibrary, ...inSandbox])].sort().map((name) => ({
    name,
    ...declared().get(name),
    from: [...(inLibrary.has(name) ? ['berth'] : []), ...(inSandbox.has(name) ? ['berth/sandbox'] : [])],
  }));
  expect(rows.sort((a, b) => ((a.name ?? '') < (b.name ?? '') ? -1 : 1))).toEqual(expected);
});
