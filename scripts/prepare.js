import './node-version.js';
import { bundleAgent } from './agent-bundle.js';
import { installDependencies } from './dependencies.js';
import { createProgress } from './progress.js';

/**
 * Brings what is missing: npm packages, the sandbox-agent's bundle and, with `engine`, a container engine and the base
 * image. Until `npm ci` has run there is only plain Node, so this and what it imports are JavaScript; from then on
 * TypeScript can be run, and what Berth itself needs too (finding the engine, making the image) is written once, in src/.
 * Afterwards this process can import TypeScript.
 * @param {{ engine?: boolean, quiet?: boolean }} [options] quiet: says nothing when nothing was missing
 */
export async function prepare({ engine = true, quiet = false } = {}) {
  const progress = createProgress();
  const interruption = new AbortController();
  /** @param {NodeJS.Signals} signal */
  const interrupt = (signal) => {
    process.exitCode = signal === 'SIGINT' ? 130 : 143;
    interruption.abort();
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  try {
    await installDependencies(progress, interruption.signal);
    await bundleAgent(progress);
    const { register } = await import('tsx/esm/api');
    register();
    if (!engine) return progress.ready('ready', { quiet: true });
    const { prepareEngine } = await import('./engine.ts');
    const { version, url, image } = await prepareEngine(progress, interruption.signal);
    progress.ready(`ready: engine ${version} at ${url}, image ${image}`, { quiet });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    progress.fail(interruption.signal.aborted ? 'interrupted' : error instanceof Error ? error.message : `${error}`);
    process.exit(process.exitCode ?? (code === 'engine_unreachable' ? 3 : 1));
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
}
