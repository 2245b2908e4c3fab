import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import { test } from '../cli/command.ts';
import { endLeases } from '../support/interrupted.ts';

function main(stateDir: string, ...args: string[]) {
  const program = execa(process.execPath, ['--import', 'tsx', 'examples/approve-and-merge/main.ts', ...args], {
    env: { BERTH_STATE_DIR: stateDir, BERTH_LOG: 'warn' },
    stdin: 'ignore',
    reject: false,
  });
  onTestFinished(() => void program.kill('SIGKILL'));
  return program;
}

test('killed while the model works and again while it waits for a person, it goes on, and merges what is approved', async ({
  berth: { stateDir },
}) => {
  const killedAt = async (line: RegExp) => {
    const program = main(stateDir, 'start', 'fix-1');
    const seen = new Promise<boolean>((tell) => {
      createInterface(program.stdout).on('line', (text) => line.test(text) && tell(true));
    });
    expect(await Promise.race([seen, program])).toBe(true);
    program.kill('SIGKILL');
    expect((await program).signal).toBe('SIGKILL');
    endLeases(join(stateDir, 'runtime.db'));
  };
  await killedAt(/^bash .*"npm test"}$/);
  await killedAt(/^To approve it/);
  expect(await main(stateDir, 'approve', 'fix-1', 'Ada')).toMatchObject({ exitCode: 0 });
  const { stdout, stderr } = await main(stateDir, 'start', 'fix-1');
  expect(stderr).toBe('');
  expect(stdout.match(/^Goes on .*$/gm)).toEqual(['Goes on (attempt 2).', 'Goes on (attempt 3).']);
  const made = stdout.split('\n').filter((line) => /^(read|edit|bash) /.test(line));
  expect(new Set(made).size).toBe(made.length); // none twice
  expect(stdout).toContain("+  return title.toLowerCase().replaceAll(' ', '-');");
  expect(stdout.split('\n').slice(-4)).toEqual([
    'Merged, as Ada decided. main has:',
    'Merge the fix',
    'Mend what fails',
    'The project',
  ]);
});
