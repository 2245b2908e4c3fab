import { defineAction } from 'berth';
import * as v from 'valibot';

/** Says that a problem is mended only when a test that failed passes and no other fails: by code, whatever the model says. */
export const fix = defineAction({
  name: 'fix',
  description: 'Has one problem of a file mended. Gives how many tests fail before and after.',
  input: v.object({ path: v.string(), problem: v.string() }),
  output: v.object({ failedBefore: v.number(), failedAfter: v.number() }),
  async run({ harness, input }) {
    const failing = async () => {
      const { stdout } = await harness.shell('node --test --test-reporter=tap', { timeoutMs: 60_000 });
      return Number(/^# fail (\d+)$/m.exec(stdout)?.[1] ?? Number.NaN);
    };
    const failedBefore = await failing();
    const session = await harness.session('fix');
    await session.prompt(`Mend this in ${input.path}, and nothing else: ${input.problem}`);
    const failedAfter = await failing();
    if (failedAfter >= failedBefore)
      throw new Error(`It is not mended: ${failedAfter} tests fail, as ${failedBefore} did.`);
    return { failedBefore, failedAfter };
  },
});
