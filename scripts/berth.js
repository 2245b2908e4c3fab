// npm run berth -- ARGUMENTS: the command, from its sources. Only what the sources need is set up: `berth doctor` is
// there to say what a machine lacks, and no command should install a container engine by the way.
import './node-version.js';
import { prepare } from './prepare.js';

await prepare({ engine: false });
// npm runs scripts in the checkout; paths are meant from where they were typed.
if (process.env.npm_lifecycle_event === 'berth' && process.env.INIT_CWD) process.chdir(process.env.INIT_CWD);
await import('../src/cli/main.ts');
