import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { BerthError } from '../src/errors.ts';
import * as library from '../src/index.ts';
import * as sandbox from '../src/sandbox/index.ts';

const source = fileURLToPath(new URL('../src/', import.meta.url));

/** Classes that no caller meets: the layer above makes another of each, or ends with it. */
const inside = new Set(['ContainerExistsError', 'UsageError', 'WriteRefusedError']);

/** Every class below `BerthError`, whichever file it stands in. */
async function errorClasses(): Promise<Map<string, unknown>> {
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts') && /^export class \w+ extends BerthError/m.test(readFileSync(source + name, 'utf8')),
  );
  const modules: Record<string, unknown>[] = await Promise.all(files.map((name) => import(source + name)));
  return new Map(
    modules
      .flatMap(Object.entries)
      .filter(([name, value]) => value?.prototype instanceof BerthError && !inside.has(name)),
  );
}

// contract: 9-classes
test('berth exports every error class that a caller may meet, and berth/sandbox the same ones', async () => {
  const classes = await errorClasses();
  expect(classes.size).toBeGreaterThan(50);
  const exported = new Map(Object.entries(library));
  for (const [name, value] of classes) expect([name, exported.get(name)]).toEqual([name, value]);
  for (const [name, value] of Object.entries(sandbox)) {
    if (classes.has(name)) expect([name, value]).toEqual([name, classes.get(name)]);
  }
});

test('every error class says its name, also in a bundle that renames classes', async () => {
  for (const [name, value] of await errorClasses()) {
    const { prototype } = value as { prototype: Error }; // they were chosen as classes of errors
    expect(Object.hasOwn(prototype, 'name') && prototype.name).toBe(name);
  }
});
