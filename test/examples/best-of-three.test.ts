import { expect } from 'vitest';
import { jsonLines, test } from '../cli/command.ts';

test('keeps the attempt that passes all tests, of three that were made side by side', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['run', 'examples/best-of-three/workflow.ts', '--json']);
  expect(exitCode, stderr).toBe(0);
  const lines = jsonLines(stdout);
  const values = lines.flatMap(({ type, action, result }) =>
    type === 'action' && action === 'attempt' ? [result] : [],
  );
  expect(values).toHaveLength(3);
  expect(values).toEqual(
    expect.arrayContaining([
      { attempt: 1, failing: 1 },
      { attempt: 2, failing: 0 },
      { attempt: 3, failing: 3 },
    ]),
  );
  expect(lines.at(-1)).toMatchObject({
    type: 'run',
    record: {
      state: 'completed',
      result: { attempt: 2, failing: 0, source: expect.stringContaining('sorted[middle - 1]') },
    },
  });
  const kinds = lines.flatMap(({ type, kind }) => (type === 'sandbox' ? [kind] : []));
  expect(kinds.filter((kind) => kind === 'created')).toHaveLength(4);
  expect(kinds.filter((kind) => kind === 'removed')).toHaveLength(4);
});
