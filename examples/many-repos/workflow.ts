import { defineAgent, defineWorkflow, docker } from 'berth';
import * as v from 'valibot';
import { mendPackage } from './mend-package.ts';
import { packages } from './packages.ts';
import { scriptedMend } from './scripted.ts';

const atOnce = 4;

/** The answers of the model are written down: `berth run --model provider/model` puts a real one in its place. */
const mender = defineAgent(
  () => ({ model: scriptedMend(), instructions: 'You make small changes and nothing else.', sandbox: docker() }),
  { name: 'mender' },
);

export default defineWorkflow({
  name: 'many-repos',
  agent: mender,
  output: v.object({
    changed: v.array(v.string()),
    unchanged: v.array(v.string()),
    failed: v.record(v.string(), v.string()),
  }),
  async run({ harness, signal }) {
    for (const [path, content] of Object.entries(packages)) await harness.fs.writeFile(path, content);
    const folders = (await harness.fs.readdir('packages')).sort().map((name) => `packages/${name}`);

    const changed: string[] = [];
    const unchanged: string[] = [];
    const failed: Record<string, string> = {};
    let done = 0;
    // The workers share one iterator: each takes the next folder when it is free.
    const next = folders.values();
    const worker = async () => {
      for (const folder of next) {
        try {
          const result = await harness.run(mendPackage, { folder });
          (result.changed ? changed : unchanged).push(folder);
        } catch (error) {
          signal.throwIfAborted(); // a run that is cancelled has no result
          failed[folder] = error instanceof Error ? error.message : String(error); // the others go on
        }
        harness.emit('progress', { done: ++done, of: folders.length }, { id: 'packages' });
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    return { changed: changed.sort(), unchanged: unchanged.sort(), failed };
  },
});
