import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { jsonLines, test } from '../cli/command.ts';

const example = 'examples/migrate-from-flue';
const text = (path: string) => readFileSync(new URL(`../../${example}/${path}`, import.meta.url), 'utf8');

test.each(['actions/shorten.ts', 'tools/word-count.ts', 'workflows/shorten.ts'])(
  '%s is that of Flue but for the import',
  (path) => {
    const before = text(`before/${path}`);
    expect(before).toContain("'@flue/runtime'");
    expect(text(`after/${path}`)).toBe(before.replace("'@flue/runtime'", "'berth'"));
  },
);

test('runs', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run([
    ...['run', `${example}/after/workflows/shorten.ts`, '--input-file', `${example}/input.json`, '--json'],
  ]);
  expect(exitCode, stderr).toBe(0);
  const lines = jsonLines(stdout);
  expect(lines.pop()).toMatchObject({
    record: {
      state: 'completed',
      result: { document: 'Berth runs agents in containers.\n', reason: 'What it is not was left out.' },
    },
  });
  const counted = lines.find(({ type, toolName }) => type === 'tool' && toolName === 'word_count');
  expect(counted).toMatchObject({ isError: false, result: { details: { words: 5 } } });
});
