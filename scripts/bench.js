// npm run bench [-- NAME…]: every measurement of bench/, or those whose file name has one of the words.
import './node-version.js';
import { readdir } from 'node:fs/promises';
import { prepare } from './prepare.js';

await prepare({ quiet: true });
const words = process.argv.slice(2);
const files = (await readdir(new URL('../bench/', import.meta.url)))
  .filter((name) => name.endsWith('.bench.ts'))
  .sort();
for (const name of files) {
  if (words.length === 0 || words.some((word) => name.includes(word))) await import(`../bench/${name}`);
}
