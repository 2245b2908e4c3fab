import { fileURLToPath } from 'node:url';
import { defineAgent, defineWorkflow, docker, type Harness } from 'berth';
import * as v from 'valibot';
import { scriptedFix } from './scripted.ts';

const project = fileURLToPath(new URL('./project', import.meta.url));

/** What a person sends to the run. */
export const review = v.object({ approved: v.boolean(), by: v.string() });

/** The answers of the model are written down; `APPROVE_MODEL` names a real one. */
const mender = defineAgent(
  ({ env }) => ({
    model: env.APPROVE_MODEL ?? scriptedFix(),
    instructions: 'You mend small programs. You find the cause of a failure before you change any code.',
    sandbox: docker(),
  }),
  { name: 'mender' },
);

/** Every line of this may be the last one of its process: the next process goes on with what is recorded. */
export const approveAndMerge = defineWorkflow({
  name: 'approve-and-merge',
  agent: mender,
  output: v.object({ merged: v.boolean(), by: v.string(), log: v.string() }),
  async run({ harness }) {
    await harness.fs.upload(project, '.');
    await succeeds(
      harness,
      'git init -q -b main && git config user.name berth && git config user.email berth@localhost',
    );
    await succeeds(harness, 'git add . && git commit -qm "The project"');
    await succeeds(harness, 'git switch -qc fix');

    const session = await harness.session('fix');
    const { text } = await session.prompt('A test of this project fails: run `npm test`. Mend the code, not the test.');
    await succeeds(harness, 'git checkout -q main -- "*.test.js" package.json && npm test');
    await succeeds(harness, 'git commit -qam "Mend what fails"');
    const diff = await succeeds(harness, 'git diff main fix');

    harness.emit('to review', { text, diff });
    const { approved, by } = v.parse(review, await harness.waitFor('review')); // for days, perhaps
    if (approved) await succeeds(harness, `git switch -q main && git merge -q --no-ff -m "Merge the fix" fix`);
    return { merged: approved, by, log: await succeeds(harness, 'git log --format=%s main') };
  },
});

async function succeeds(harness: Harness, command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await harness.shell(command);
  if (exitCode !== 0) throw new Error(`${command} failed: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}
