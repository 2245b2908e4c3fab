// npm run demo [-- ARGUMENTS]: the main job, live.
import './node-version.js';
import { prepare } from './prepare.js';

await prepare();
// In this process: a signal and the exit code then need nobody who passes them on.
process.argv.splice(2, 0, 'run', 'examples/fix-the-bug/workflow.ts');
await import('../src/cli/main.ts');
