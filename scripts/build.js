// npm run build: dist/, which is what the package ships.
import './node-version.js';
import { readdir, rm } from 'node:fs/promises';
import { prepare } from './prepare.js';
import { run } from './run.js';

await prepare({ engine: false, quiet: true });
const dist = new URL('../dist/', import.meta.url);
// The sandbox-agent is made by prepare(), and may be in use.
for (const name of await readdir(dist)) {
  if (!/^sandbox-agent[.-]/.test(name)) await rm(new URL(name, dist), { recursive: true });
}
process.exitCode = await run('tsc', ['-p', 'tsconfig.build.json']);
