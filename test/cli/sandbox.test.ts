import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { test } from './command.ts';

test('makes, lists, uses and removes a sandbox', async ({ berth }) => {
  const created = await berth.run(['sandbox', 'create', '--id', 'cli-one', '--label', 'for=test', '--json']);
  expect(JSON.parse(created.stdout)).toMatchObject({ id: 'cli-one', state: 'running', labels: { for: 'test' } });

  const listed = await berth.run(['sandbox', 'ls', '--label', 'for=test', '--json']);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ id: 'cli-one' }]);

  const ran = await berth.run(['sandbox', 'exec', 'cli-one', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
  expect(ran).toMatchObject({ exitCode: 7, stdout: 'out', stderr: 'err' });

  const removed = await berth.run(['sandbox', 'rm', 'cli-one', '--json']);
  expect(JSON.parse(removed.stdout)).toEqual({ removed: ['cli-one'] });
  expect(JSON.parse((await berth.run(['sandbox', 'ls', '--json'])).stdout)).toEqual([]);
});

test('a command that takes too long gives 124, and what it said until then', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-slow']);
  const { exitCode, stdout } = await berth.run([
    'sandbox',
    'exec',
    'cli-slow',
    '--timeout',
    '300',
    '--json',
    '--',
    'sh',
    '-c',
    'echo so far; sleep 1000',
  ]);
  expect(exitCode).toBe(124);
  expect(JSON.parse(stdout)).toMatchObject({ timedOut: true, stdout: 'so far\n' });
  await berth.run(['sandbox', 'rm', 'cli-slow']);
});

test('copies files and directories in and out', async ({ berth }) => {
  const source = join(berth.stateDir, 'note.txt');
  await writeFile(source, 'hello\n');
  await berth.run(['sandbox', 'create', '--id', 'cli-copy']);
  const copied = await berth.run(['sandbox', 'cp', source, 'cli-copy:notes/', '--json']);
  expect(copied.exitCode, copied.stderr).toBe(0);
  const path: string = JSON.parse(copied.stdout).copied;
  const back = join(berth.stateDir, 'back.txt');
  const out = await berth.run(['sandbox', 'cp', path, back]);
  expect(out.exitCode, out.stderr).toBe(0);
  expect(await readFile(back, 'utf8')).toBe('hello\n');
  await berth.run(['sandbox', 'rm', 'cli-copy']);
});

test('a sandbox that is not there is one line and exit code 2', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['sandbox', 'exec', 'no-such-sandbox', '--', 'true']);
  expect(stderr).toMatch(/no-such-sandbox/);
  expect(stderr.split('\n')).toHaveLength(1);
  expect(exitCode).toBe(2);
});

test('gc says what it would remove and removes nothing that is in use', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-kept']);
  const { stdout } = await berth.run(['gc', '--dry-run', '--json']);
  expect(JSON.parse(stdout)).toMatchObject({ dryRun: true });
  expect((await berth.run(['gc'])).exitCode).toBe(0);
  expect(await berth.containers()).toEqual(['berth-cli-kept']);
  await berth.run(['sandbox', 'rm', 'cli-kept']);
});
