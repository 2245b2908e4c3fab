import { defineAgent, defineWorkflow, docker } from 'berth';
import { fixTheBug } from './fix-the-bug.ts';
import { scriptedFix } from './scripted.ts';

/** `berth run --model provider/model` sets BERTH_MODEL. Without it the answers of the model are written down. */
const coder = defineAgent(
  ({ env }) => ({
    model: env.BERTH_MODEL ?? scriptedFix(),
    instructions: 'You mend small TypeScript projects. You find the cause of a failure before you change any code.',
    sandbox: docker(),
  }),
  { name: 'coder' },
);

export default defineWorkflow({ name: 'fix-the-bug', agent: coder, action: fixTheBug });
