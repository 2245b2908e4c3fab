import { defineAgent, defineWorkflow, docker } from 'berth';
import { fixTheBug } from './fix-the-bug.ts';
import { scriptedFix } from './scripted.ts';

/** The answers of the model are written down: `berth run --model provider/model` puts a real one in its place. */
const coder = defineAgent(
  () => ({
    model: scriptedFix(),
    instructions: 'You mend small TypeScript projects. You find the cause of a failure before you change any code.',
    sandbox: docker(),
  }),
  { name: 'coder' },
);

export default defineWorkflow({ name: 'fix-the-bug', agent: coder, action: fixTheBug });
