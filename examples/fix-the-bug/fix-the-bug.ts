import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineAction, type Harness } from 'berth';
import * as v from 'valibot';

const projectFolder = fileURLToPath(new URL('project', import.meta.url));

const testCounts = v.object({ passed: v.number(), failed: v.number() });

/**
 * Puts the project into the sandbox, lets a model find and mend the bug, and checks what it did. The model's word counts
 * for nothing: tests and diff are what commands of the application say.
 */
export const fixTheBug = defineAction({
  name: 'fix_the_bug',
  description: 'Finds the bug behind a failing test of the project and mends it.',
  input: v.object({
    task: v.optional(v.pipe(v.string(), v.minLength(1)), 'A test of this project fails. Find the cause and mend it.'),
  }),
  output: v.object({ model: v.string(), testsBefore: testCounts, testsAfter: testCounts, diff: v.string() }),
  async run({ harness, input, log }) {
    await uploadProject(harness);
    await command(harness, 'git init --quiet && git add --all && git commit --quiet --message "As it was"');
    const testsBefore = await runTests(harness);
    if (testsBefore.failed === 0) throw new Error('All tests of the project pass: there is nothing to mend.');

    const session = await harness.session();
    const answer = await session.prompt(
      `${input.task} \`npm test\` runs the tests. Do not change what a test expects.`,
    );
    const model = `${answer.model.provider}/${answer.model.id}`;
    if (answer.model.provider === 'scripted') {
      log.info('The model was a scripted one: its answers are written down in scripted.ts, its tools are real.');
    }

    const testsAfter = await runTests(harness);
    // What was added counts, too, and what the model may have committed.
    const diff = await command(harness, 'git add --all && git diff $(git rev-list --max-parents=0 HEAD)');
    if (testsAfter.failed > 0 || testsAfter.passed < testsBefore.passed) {
      throw new Error(
        `${model} did not mend the bug: ${testsAfter.failed} tests fail and ${testsAfter.passed} pass, ` +
          `before it were ${testsBefore.failed} and ${testsBefore.passed}.`,
      );
    }
    return { model, testsBefore, testsAfter, diff };
  },
});

async function uploadProject({ fs }: Harness): Promise<void> {
  const entries = await readdir(projectFolder, { recursive: true, withFileTypes: true });
  for (const entry of entries.filter((found) => found.isFile())) {
    const path = join(entry.parentPath, entry.name);
    await fs.writeFile(relative(projectFolder, path), await readFile(path));
  }
}

/** How many tests pass and fail now. Failing tests are a result; tests that can't be run are an error. */
async function runTests(harness: Harness): Promise<{ passed: number; failed: number }> {
  const { stdout, stderr } = await harness.shell('npm test', { timeoutMs: 60_000 });
  const count = (name: string) => stdout.match(new RegExp(`^ℹ ${name} (\\d+)$`, 'm'))?.[1];
  const [passed, failed] = [count('pass'), count('fail')];
  if (passed === undefined || failed === undefined) {
    throw new Error(`The tests of the project can't be run: ${stderr.trim() || stdout.trim()}`);
  }
  return { passed: Number(passed), failed: Number(failed) };
}

/** The output of a command that must not fail. */
async function command(harness: Harness, line: string): Promise<string> {
  const author = { GIT_AUTHOR_NAME: 'berth', GIT_AUTHOR_EMAIL: 'berth@localhost' };
  const committer = { GIT_COMMITTER_NAME: 'berth', GIT_COMMITTER_EMAIL: 'berth@localhost' };
  const { exitCode, stdout, stderr } = await harness.shell(line, { env: { ...author, ...committer } });
  if (exitCode !== 0) throw new Error(`${line} failed with ${exitCode}: ${stderr.trim()}`);
  return stdout;
}
