import { expect } from 'vitest';
import { test } from '../support/sandbox-fixture.ts';

test('lists a million entries bit by bit, in constant memory, and refuses them as an array', async ({ sandbox }) => {
  await sandbox.exec('mkdir large && cd large && seq 0 999999 | xargs -n 10000 touch');
  const before = process.memoryUsage().rss;
  let sum = 0;
  for await (const name of sandbox.fs.entries('large')) sum += Number(name);
  expect(sum).toBe(499_999_500_000);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  await expect(sandbox.fs.readdir('large')).rejects.toMatchObject({ name: 'FileError', code: 'EOVERFLOW' });
  await sandbox.fs.rm('large', { recursive: true });
  expect(await sandbox.fs.readdir('.')).toEqual([]);
});
