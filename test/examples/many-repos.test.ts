import { expect } from 'vitest';
import { jsonLines, test } from '../cli/command.ts';

const workflow = 'examples/many-repos/workflow.ts';

test('works on ten packages, four at a time, tells of the progress, and names the one that failed', async ({
  berth,
}) => {
  const { exitCode, stdout, stderr } = await berth.run(['run', workflow, '--json']);
  expect(exitCode, stderr).toBe(0);
  const lines = jsonLines(stdout);
  const names = ['api', 'auth', 'billing', 'cli', 'events', 'mail', 'search', 'web'];
  expect(lines.pop()).toMatchObject({
    record: {
      state: 'completed',
      result: {
        changed: names.map((name) => `packages/${name}`),
        unchanged: ['packages/docs'],
        failed: { 'packages/legacy': 'The test of packages/legacy still fails.' },
      },
    },
  });
  let running = 0;
  let most = 0;
  for (const { type } of lines) {
    if (type === 'action_start') most = Math.max(most, ++running);
    if (type === 'action') running--;
  }
  expect(most).toBe(4);
  const progress = lines.filter(({ type }) => type === 'data').map(({ data }) => data);
  expect(progress).toEqual(Array.from({ length: 10 }, (_, i) => ({ done: i + 1, of: 10 })));
});
