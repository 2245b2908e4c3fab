import { type ScriptedModel, scriptedModel } from 'berth/testing';

/** What each kind of attempt makes of the function: the first is not good enough, the third breaks it. */
const answers: Readonly<Record<string, string>> = {
  small: `export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
`,
  careful: `export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 0 ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle];
}
`,
  rewrite: `export function median(numbers) {
  return Math.max(...numbers) / 2;
}
`,
};

/**
 * A model that drives the real tools with answers that were written down, so that the example needs no key. It is asked by
 * three attempts at once, so each answer is made of what the request says.
 */
export function scriptedAttempts(): ScriptedModel {
  return scriptedModel(
    Array.from({ length: 6 }, () => ({ messages }) => {
      if (messages.some(({ role }) => role === 'tool')) return { delayMs: 300, text: 'I have changed median.mjs.' };
      const asked = JSON.stringify(messages[0]);
      const [, content = ''] = Object.entries(answers).find(([kind]) => asked.includes(kind)) ?? [];
      return {
        delayMs: 300,
        text: 'I write the function anew.',
        toolCalls: [{ name: 'write', input: { path: 'median.mjs', content } }],
      };
    }),
    { id: 'best-of-three' },
  );
}
