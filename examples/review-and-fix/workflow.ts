import { fileURLToPath } from 'node:url';
import { defineAgent, defineTool, defineWorkflow, docker } from 'berth';
import * as v from 'valibot';
import { fix } from './fix.ts';
import { review } from './review.ts';
import { scriptedMaintainer } from './scripted.ts';

const project = fileURLToPath(new URL('./project', import.meta.url));

/** A function of this program: it knows nothing of the sandbox, and the sandbox nothing of it. */
const houseRule = defineTool({
  name: 'house_rule',
  description: 'Gives the rule of this team on a subject.',
  input: v.object({ subject: v.picklist(['rounding', 'money']) }),
  run: ({ input }) =>
    ({ rounding: 'Cents are rounded to the nearest whole one.', money: 'Money is shown with two decimals, then EUR.' })[
      input.subject
    ],
});

/** The answers of the model are written down: `berth run --model provider/model` puts a real one in its place. */
const maintainer = defineAgent(
  () => ({
    model: scriptedMaintainer(),
    instructions:
      'You look after a small library. You have files reviewed, and what is found mended, one problem at a time.',
    tools: [houseRule],
    actions: [review, fix],
    sandbox: docker(),
  }),
  { name: 'maintainer' },
);

export default defineWorkflow({
  name: 'review-and-fix',
  agent: maintainer,
  output: v.object({ report: v.string(), price: v.string() }),
  async run({ harness }) {
    const { session: sandbox } = harness.sandbox;
    if (!sandbox) throw new Error('This example needs a sandbox of docker().');
    await sandbox.fs.upload(project, '.');
    const session = await harness.session();
    const { text } = await session.prompt(
      'Have price.js reviewed and mended. Ask for our rules where they matter. Then report.',
    );
    return { report: text, price: await harness.fs.readFile('price.js') };
  },
});
