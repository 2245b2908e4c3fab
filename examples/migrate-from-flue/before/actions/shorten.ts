import { defineAction } from '@flue/runtime';
import * as v from 'valibot';

export const shorten = defineAction({
  name: 'shorten',
  description: 'Makes a document shorter, to at most so many words.',
  input: v.object({ document: v.string(), words: v.pipe(v.number(), v.minValue(1)) }),
  output: v.object({ document: v.string(), reason: v.string() }),
  async run({ harness, input, log }) {
    await harness.fs.writeFile('document.md', input.document);
    const session = await harness.session();
    const { data } = await session.prompt(
      `Shorten document.md to at most ${input.words} words. Edit the file, count its words, and say what you left out.`,
      { result: v.object({ reason: v.string() }) },
    );
    const document = await harness.fs.readFile('document.md');
    const { stdout } = await harness.shell('wc -w < document.md');
    log.info('shortened', { words: Number(stdout) });
    return { document, reason: data.reason };
  },
});
