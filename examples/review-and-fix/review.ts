import { defineAction } from 'berth';
import * as v from 'valibot';

/** What a review gives: asked of the model, and promised to who calls the Action. */
const report = v.object({ findings: v.array(v.object({ line: v.number(), problem: v.string() })) });

/** Its conversation is its own: what the reviewer reads does not fill that of the one who asked. */
export const review = defineAction({
  name: 'review',
  description: 'Has a file reviewed by somebody who has not seen it before. Gives what is wrong with it.',
  input: v.object({ path: v.string() }),
  output: report,
  async run({ harness, input }) {
    const session = await harness.session('review');
    const { data } = await session.prompt(
      `Review ${input.path}. Change nothing. Say what gives wrong results, line by line.`,
      { result: report },
    );
    return data;
  },
});
