import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect } from 'vitest';
import { commandLine, test } from './command.ts';

test('a reader that has enough ends any command with 141, without a word', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-pipe']);
  const commands = [
    ['--help'],
    ['doctor'],
    ['image', 'ls'],
    ['gc', '--json'],
    ['sandbox', 'ls', '--json'],
    ['sandbox', 'exec', 'cli-pipe', '--', 'yes'],
    ['run', 'test/cli/fixtures/works-for-ever.js'],
    ['run', 'test/cli/fixtures/works-for-ever.js', '--json', '--watch'],
  ];
  for (const args of commands) {
    const command = berth.run(args);
    command.stdout.destroy(); // before anything is printed
    const { exitCode, stderr } = await command;
    expect({ args, exitCode, stderr }).toEqual({ args, exitCode: 141, stderr: '' });
  }
  await berth.run(['sandbox', 'rm', 'cli-pipe']);
});

test('output that can not be written is one line and exit code 1', async ({ berth }) => {
  const commands = [
    ['sandbox', 'ls'],
    ['run', 'test/cli/fixtures/works-for-ever.js'],
  ];
  for (const args of commands) {
    const { exitCode, stderr } = await execa('sh', ['-c', 'exec "$0" "$@" > /dev/full', ...commandLine(args)], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: { BERTH_STATE_DIR: berth.stateDir },
      reject: false,
    });
    expect(stderr).toMatch(/^berth: Standard output can't be written to: ENOSPC.*$/);
    expect(exitCode).toBe(1);
  }
});
