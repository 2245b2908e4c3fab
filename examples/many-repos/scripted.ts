import { type ScriptedModel, scriptedModel } from 'berth/testing';

/** At most so many answers: two for each package that needs a change. */
const answers = 18;

/**
 * A model that drives the real tools with answers that were written down, so that the example needs no key. It is asked by
 * many conversations at once, so each answer is made of what the request says. The package `legacy` it does not mend: so
 * that it can be seen what becomes of one that fails.
 */
export function scriptedMend(): ScriptedModel {
  return scriptedModel(
    Array.from({ length: answers }, () => ({ messages }) => {
      const asked = JSON.stringify(messages[0]);
      const [path = ''] = /packages\/\w+\/index\.js/.exec(asked) ?? [];
      const worked = messages.some(({ role }) => role === 'tool');
      if (worked || path.includes('legacy'))
        return { delayMs: 300, text: worked ? `${path} is mended.` : 'I would not touch that.' };
      const input = { path, oldText: 'new Buffer(', newText: 'Buffer.from(' };
      return { delayMs: 300, text: 'Buffer.from takes the place of new Buffer.', toolCalls: [{ name: 'edit', input }] };
    }),
    { id: 'many-repos' },
  );
}
