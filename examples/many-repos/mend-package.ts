import { defineAction, type Harness } from 'berth';
import * as v from 'valibot';

/** Works in one folder only, so that many can be worked on side by side, each in a conversation of its own. */
export const mendPackage = defineAction({
  name: 'mend_package',
  description: 'Takes an interface of Node that is deprecated out of one package, and checks that its tests pass.',
  input: v.object({ folder: v.string() }),
  output: v.object({ folder: v.string(), changed: v.boolean() }),
  timeoutMs: 10 * 60_000,
  async run({ harness, input: { folder }, log }) {
    if (await passes(harness, folder)) return { folder, changed: false };
    const session = await harness.session();
    await session.prompt(
      `The package in ${folder} uses an interface of Node that is deprecated, so its test fails with --throw-deprecation. ` +
        `Mend ${folder}/index.js and leave the test as it is.`,
    );
    if (!(await passes(harness, folder))) throw new Error(`The test of ${folder} still fails.`);
    log.info(`${folder} is mended`);
    return { folder, changed: true };
  },
});

async function passes(harness: Harness, folder: string): Promise<boolean> {
  const { exitCode } = await harness.shell('node --throw-deprecation test.js', { cwd: folder, timeoutMs: 60_000 });
  return exitCode === 0;
}
