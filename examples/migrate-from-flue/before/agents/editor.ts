import { defineAgent } from '@flue/runtime';
import { shorten } from '../actions/shorten.ts';
import { wordCount } from '../tools/word-count.ts';

export default defineAgent(() => ({
  model: 'anthropic/claude-haiku-4-5',
  instructions: 'You edit documents. You keep what the author wants to say.',
  tools: [wordCount],
  actions: [shorten],
}));
