import { fileURLToPath } from 'node:url';
import { defineAction, type Harness } from 'berth';
import * as v from 'valibot';

const project = fileURLToPath(new URL('./project', import.meta.url));
const counts = v.object({ passed: v.number(), failed: v.number() });

export const fixTheBug = defineAction({
  name: 'fix_the_bug',
  description: 'Makes the failing tests of a small project pass, by a change of its code.',
  output: v.object({ testsBefore: counts, testsAfter: counts, diff: v.string() }),
  async run({ harness, log }) {
    const { session: sandbox } = harness.sandbox;
    if (!sandbox) throw new Error('This example needs a sandbox of docker().');
    await sandbox.fs.upload(project, '.');
    await succeeds(
      harness,
      'git init -q && git add . && git -c user.name=berth -c user.email=berth@localhost commit -qm Start',
    );
    const start = (await succeeds(harness, 'git rev-parse HEAD')).trim();

    const testsBefore = await runTests(harness);
    log.info(`${testsBefore.failed} of ${testsBefore.passed + testsBefore.failed} tests fail`);

    const session = await harness.session('fix');
    const { model } = await session.prompt(
      'A test of this project fails. Find the cause and mend the code in src; leave the tests as they are. ' +
        'Run the tests with `npm test` before and after.',
    );
    log.info(
      model.provider === 'scripted'
        ? 'The model was a scripted one: its answers are written down. A real one: --model provider/model and its API key.'
        : `The model was ${model.provider}/${model.id}.`,
    );

    // What the model says of its work is not taken for granted: the tests are those of the project, run once more.
    await succeeds(harness, `git checkout -q ${start} -- test package.json`);
    const testsAfter = await runTests(harness);
    if (testsAfter.failed > 0 || testsAfter.passed < testsBefore.passed + testsBefore.failed) {
      throw new Error(`The bug is not fixed: ${testsAfter.failed} tests fail and ${testsAfter.passed} pass.`);
    }
    // With what it added, and also when it committed its work.
    const diff = await succeeds(harness, `git add --all && git diff --cached ${start}`);
    return { testsBefore, testsAfter, diff };
  },
});

/** Counts by what `node --test` says at its end: `# pass 6`, or `ℹ pass 6` to people. */
async function runTests(harness: Harness): Promise<v.InferOutput<typeof counts>> {
  const { stdout, stderr } = await harness.shell('npm test', { timeoutMs: 60_000 });
  const count = (name: string) => stdout.match(new RegExp(`^\\S+ ${name} (\\d+)$`, 'm'))?.[1];
  const [passed, failed] = [count('pass'), count('fail')];
  if (passed === undefined || failed === undefined) throw new Error(`The tests can't be run: ${stderr || stdout}`);
  return { passed: Number(passed), failed: Number(failed) };
}

async function succeeds(harness: Harness, command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await harness.shell(command);
  if (exitCode !== 0) throw new Error(`${command} failed: ${stderr.trim()}`);
  return stdout;
}
