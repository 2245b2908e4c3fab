import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { formatWithOptions } from 'node:util';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type CodeBlock, codeBlocks, type Page, pages, root } from './markdown.ts';

/** A program, and the block behind it, which has what it prints. */
interface Program {
  block: CodeBlock;
  output: CodeBlock | undefined;
}

function programs(page: Page): Program[] {
  return codeBlocks(page).flatMap((block, i, all) => (block.mark === 'run' ? [{ block, output: all[i + 1] }] : []));
}

/** Whether this was printed; `…` stands for what differs from run to run, within a line. */
function fits(printed: string, output: string): boolean {
  const literal = output.split('…').map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${literal.join('.*')}$`).test(printed);
}

let folder: string;
const before = process.cwd();

// Programs of the pages are run in a folder of their own, where `valibot` is found as in a project of a user.
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-docs-'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  process.chdir(folder);
});

afterAll(async () => {
  process.chdir(before);
  await rm(folder, { recursive: true, force: true });
});

/** Runs a block as a module. @returns what it gave to the console */
async function run({ path, line, code }: CodeBlock): Promise<string> {
  const file = join(folder, `${path.replaceAll('/', '-')}-${line}.ts`);
  await writeFile(file, code);
  const lines: string[] = [];
  const print = (...values: unknown[]) => void lines.push(`${formatWithOptions({ colors: false }, ...values)}\n`);
  const spies = [vi.spyOn(console, 'log'), vi.spyOn(console, 'error')].map((spy) => spy.mockImplementation(print));
  try {
    await import(pathToFileURL(file).href);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return lines.join('');
}

const all = pages.flatMap(programs);

describe('a program of the documentation that is marked with `run`', () => {
  test('has what it prints in the block behind it', () => {
    const without = all.filter(({ output }) => output?.language !== 'text');
    expect(without.map(({ block }) => `${block.path}:${block.line}`)).toEqual([]);
  });

  test.each(all.map((program) => ({ ...program, name: `${program.block.path}:${program.block.line}` })))(
    'prints what the page says: $name',
    async ({ block, output }) => {
      const printed = await run(block);
      if (!fits(printed, output?.code ?? '')) expect(printed).toBe(output?.code);
    },
  );

  test('would fail if it printed anything else', async () => {
    const text =
      "```ts run\nconsole.log('id', { a: Math.random() });\n```\n\nIt prints\n\n```text\nid { a: 0.… }\n```\n";
    const [program] = programs({ path: 'docs/page.md', text });
    const printed = program ? await run(program.block) : '';
    expect(fits(printed, program?.output?.code ?? '')).toBe(true);
    expect(fits(printed, 'id { b: 0.… }\n')).toBe(false);
    expect(fits(`${printed}more\n`, program?.output?.code ?? '')).toBe(false);
  });
});
