import { type ScriptedModel, scriptedModel } from 'berth/testing';

const short = 'Berth runs agents in containers.\n';

/** A model that drives the real tools with answers that were written down. */
export function scriptedEditor(): ScriptedModel {
  return scriptedModel(
    [
      { toolCalls: [{ name: 'write', input: { path: 'document.md', content: short } }] },
      { toolCalls: [{ name: 'word_count', input: { text: short } }] },
      { toolCalls: [{ name: 'finish', input: { reason: 'What it is not was left out.' } }] },
    ],
    { id: 'shorten' },
  );
}
