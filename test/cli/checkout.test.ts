import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('npm run berth takes paths from where they are typed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-typed-'));
  try {
    await writeFile(
      join(directory, 'hello.mts'),
      `import { defineAgent, defineWorkflow, local } from 'berth';
export default defineWorkflow({ agent: defineAgent(() => ({ sandbox: local() })), run: () => 'hello' });`,
    );
    const { exitCode, stdout, stderr } = await execa(
      'npm',
      ['--prefix', root, 'run', '--silent', 'berth', '--', 'run', './hello.mts', '--json'],
      { cwd: directory, reject: false, stdin: 'ignore' },
    );
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(stdout.split('\n').at(-1) ?? '')).toMatchObject({ record: { result: 'hello' } });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
