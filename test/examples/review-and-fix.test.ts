import { expect } from 'vitest';
import { jsonLines, test } from '../cli/command.ts';

test('an agent has a file reviewed and mended by two Actions, and asks a tool of the program', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['run', 'examples/review-and-fix/workflow.ts', '--json']);
  expect(exitCode, stderr).toBe(0);
  const lines = jsonLines(stdout);
  expect(lines.pop()).toMatchObject({
    record: {
      state: 'completed',
      result: {
        report: expect.stringContaining('mended'),
        price: expect.stringMatching(/Math\.round\(.*\/ 100\)[\s\S]*toFixed\(2\)/),
      },
    },
  });
  const ended = lines.filter(({ type }) => type === 'action').map(({ action, result }) => [action, result]);
  expect(ended).toEqual([
    ['review', { findings: [expect.objectContaining({ line: 3 }), expect.objectContaining({ line: 8 })] }],
    ['fix', { failedBefore: 3, failedAfter: 1 }],
    ['fix', { failedBefore: 1, failedAfter: 0 }],
  ]);
});
