import { expect } from 'vitest';
import { jsonLines, test } from '../cli/command.ts';

const workflow = 'examples/fix-the-bug/workflow.ts';

test('fixes the bug: lines of JSON that another program can read, the record last', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['run', workflow, '--json']);
  expect(exitCode, stderr).toBe(0);
  expect(stderr).toBe('');
  const lines = jsonLines(stdout);
  const last = lines.pop();
  expect(lines.map(({ eventIndex }) => eventIndex)).toEqual(lines.map((_, i) => i));
  expect(lines[0]).toMatchObject({ v: 1, type: 'run_start', workflowName: 'fix-the-bug' });
  expect(lines.at(-1)).toMatchObject({ type: 'run_end', state: 'completed' });
  expect(last).toMatchObject({
    type: 'run',
    record: {
      state: 'completed',
      result: {
        testsBefore: { passed: 7, failed: 1 },
        testsAfter: { passed: 8, failed: 0 },
        diff: expect.stringContaining('+  return plain.startsWith('),
      },
    },
  });
});

test('tells people the same, and that the model was a scripted one', async ({ berth }) => {
  const { exitCode, stdout } = await berth.run(['run', workflow]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/scripted one/);
  expect(stdout).toMatch(/testsBefore +7 passed, 1 failed/);
  expect(stdout).toMatch(/testsAfter +8 passed, 0 failed/);
  expect(stdout).toMatch(/^ {2}-.*Number\(units\)/m);
  expect(stdout).not.toMatch(/\x1b/); // no terminal, no escape sequences
});

test('an answer that does not mend the bug fails the run', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['run', 'test/examples/fixtures/lazy-engineer.ts', '--json']);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/The bug is not fixed: 1 tests fail and 7 pass/);
});
