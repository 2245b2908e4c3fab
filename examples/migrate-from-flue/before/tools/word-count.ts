import { defineTool } from '@flue/runtime';
import * as v from 'valibot';

export const wordCount = defineTool({
  name: 'word_count',
  description: 'Counts the words of a text.',
  input: v.object({ text: v.string() }),
  output: v.object({ words: v.number() }),
  run: ({ input }) => ({ words: input.text.split(/\s+/).filter(Boolean).length }),
});
