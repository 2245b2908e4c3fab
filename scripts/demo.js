// npm run demo [-- ARGUMENTS]: the main job, live.
import './node-version.js';
import { fileURLToPath } from 'node:url';
import { prepare } from './prepare.js';

await prepare();
// In this process: a signal and the exit code then need nobody who passes them on.
process.argv.splice(2, 0, 'run', 'examples/fix-the-bug/workflow.ts');
process.argv[1] = fileURLToPath(new URL('berth.js', import.meta.url)); // what `--watch` starts for each run
await import('../src/cli/main.ts');
