import { defineAgent } from 'berth';
import { shorten } from '../actions/shorten.ts';
import { scriptedEditor } from '../scripted.ts';
import { wordCount } from '../tools/word-count.ts';

export default defineAgent(() => ({
  model: scriptedEditor(), // so that the example needs no key; it was 'anthropic/claude-haiku-4-5'
  instructions: 'You edit documents. You keep what the author wants to say.',
  tools: [wordCount],
  actions: [shorten],
}));
