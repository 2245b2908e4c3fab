// Imported first by every script here, and written for any Node that knows modules at all: it ends the process with a
// clear line where a newer file would end it with a syntax error or a missing export.
import { readFileSync } from 'node:fs';

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const [wanted, found] = [engines.node, process.versions.node].map((version) => {
  const [major = 0, minor = 0, patch = 0] = version.replace('>=', '').split('.').map(Number);
  return major * 1e6 + minor * 1e3 + patch;
});
if (found < wanted) {
  console.error(`Berth needs Node ${engines.node}; this is ${process.versions.node}. Get it: https://nodejs.org`);
  process.exit(1);
}
