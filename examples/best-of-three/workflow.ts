import { defineAgent, defineWorkflow, docker, type Harness } from 'berth';
import * as v from 'valibot';
import { project } from './project.ts';
import { scriptedAttempts } from './scripted.ts';

const hints = ['Make a small change.', 'Be careful: think of every test.', 'You may rewrite all of it.'];

/** The answers of the model are written down: `berth run --model provider/model` puts a real one in its place. */
const mender = defineAgent(
  () => ({ model: scriptedAttempts(), instructions: 'You mend small programs for Node.', sandbox: docker() }),
  { name: 'mender' },
);

export default defineWorkflow({
  name: 'best-of-three',
  agent: mender,
  output: v.object({ attempt: v.number(), failing: v.literal(0), source: v.string() }),
  async run({ harness: root, log }) {
    for (const [path, content] of Object.entries(project)) await root.fs.writeFile(path, content);
    log.info(`${await failingTests(root)} tests fail`);

    const best = await root.attempt(
      async ({ harness, attempt }) => {
        const session = await harness.session();
        await session.prompt(`The tests of median.mjs fail. Mend it, and leave the tests alone. ${hints[attempt - 1]}`);
        await harness.fs.writeFile('median.test.mjs', project['median.test.mjs'] ?? ''); // the tests are the judge
        return { attempt, failing: await failingTests(harness) };
      },
      {
        count: hints.length,
        choose: (completed) => completed.reduce((a, b) => (b.value.failing < a.value.failing ? b : a)).attempt,
      },
    );
    if (best.failing > 0) throw new Error(`The best attempt still fails ${best.failing} tests.`);
    return { attempt: best.attempt, failing: 0, source: await root.fs.readFile('median.mjs') };
  },
});

async function failingTests(harness: Harness): Promise<number> {
  const { stdout, stderr } = await harness.shell('node --test --test-reporter=tap', { timeoutMs: 60_000 });
  const count = /^# fail (\d+)$/m.exec(stdout)?.[1];
  if (count === undefined) throw new Error(`The tests can't be run: ${stderr || stdout}`);
  return Number(count);
}
