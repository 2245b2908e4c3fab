import { type ScriptedAnswer, type ScriptedModel, scriptedModel } from 'berth/testing';

const delayMs = 500;

const answers: ScriptedAnswer[] = [
  { text: 'I look at the code.', toolCalls: [{ id: 'look', name: 'read', input: { path: 'slug.js' } }] },
  {
    text: 'A text as the first argument of replace stands for its first place only.',
    toolCalls: [
      {
        id: 'mend',
        name: 'edit',
        input: { path: 'slug.js', oldText: "replace(' ', '-')", newText: "replaceAll(' ', '-')" },
      },
    ],
  },
  { text: 'Now the tests.', toolCalls: [{ id: 'try', name: 'bash', input: { command: 'npm test' } }] },
  { text: 'slug() replaced the first space only. It replaces all of them now, and the tests pass.' },
];

/**
 * A model that drives the real tools with answers that were written down, so that the example needs no key. As a real one
 * does, it answers what it is asked: in a process that goes on with the work of another one it goes on, too.
 */
export function scriptedFix(): ScriptedModel {
  const answer: Parameters<typeof scriptedModel>[0][number] = ({ messages }) => {
    const given = messages.filter(({ role }) => role === 'assistant').length;
    return { delayMs, ...(answers[given] ?? answers.at(-1)) };
  };
  return scriptedModel(
    Array.from({ length: 2 * answers.length }, () => answer),
    { id: 'approve-and-merge' },
  );
}
