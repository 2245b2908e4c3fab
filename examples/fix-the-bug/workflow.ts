import { defineAgent, defineWorkflow } from 'berth';
import { fixTheBug } from './fix-the-bug.ts';
import { scriptedEngineer } from './scripted.ts';

/** `berth run --model provider/model` sets BERTH_MODEL; without it, a scripted model drives the same tools. */
const engineer = defineAgent(({ env }) => ({
  model: env.BERTH_MODEL ?? scriptedEngineer(),
  instructions:
    'You are a careful software engineer. Find the cause of a failure before you change anything. Change as little as ' +
    'is needed, run the tests afterwards, and say in a few sentences what was wrong.',
}));

export default defineWorkflow({ name: 'fix-the-bug', agent: engineer, action: fixTheBug });
