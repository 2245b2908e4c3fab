import { dirname } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { type CodeBlock, codeBlocks, pages, root } from './markdown.ts';

const configPath = `${root}tsconfig.json`;
const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(configPath, ts.sys.readFile).config,
  ts.sys,
  dirname(configPath),
);

/** Checks blocks as if each were a file beside its page. @returns what is wrong, as `page:line message` */
function typeErrors(blocks: readonly CodeBlock[]): string[] {
  // Empty lines in front: the compiler then counts as the page does.
  const files = new Map<string, string>(
    blocks.map(({ path, line, code }) => [`${root}${path}.${line}.ts`, '\n'.repeat(line) + code] as const),
  );
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name) ?? readFile(name);
  const program = ts.createProgram([...files.keys()], options, host);
  return [...files.keys()].flatMap((name) => {
    const file = program.getSourceFile(name);
    if (!file) throw new Error(`${name} was not compiled`);
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map((problem) => {
      const line = file.getLineAndCharacterOfPosition(problem.start ?? 0).line + 1;
      const page = name.slice(root.length).replace(/\.\d+\.ts$/, '');
      return `${page}:${line} ${ts.flattenDiagnosticMessageText(problem.messageText, ' ')}`;
    });
  });
}

const blocks = pages.flatMap(codeBlocks).filter(({ language }) => language === 'ts');

describe('TypeScript in the documentation', () => {
  test('is there', () => {
    expect(blocks.length).toBeGreaterThan(10);
  });

  // In one program, which takes seconds to make.
  test('fits the sources, block by block; what does not is named with its page and line', { timeout: 120_000 }, () => {
    const text = "# Page\n\n```ts\nimport { local } from 'berth';\n\nlocal({ cwd: 5 });\n```\n";
    expect(typeErrors([...blocks, ...codeBlocks({ path: 'docs/page.md', text })])).toEqual([
      "docs/page.md:6 Type 'number' is not assignable to type 'string'.",
    ]);
  });
});
