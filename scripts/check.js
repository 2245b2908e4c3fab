// npm run check: everything that can be known without running it. Goes through all of it, so that one run shows all.
import './node-version.js';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepare } from './prepare.js';
import { run } from './run.js';

await prepare({ engine: false, quiet: true });
const { version } = (await import('../package.json', { with: { type: 'json' } })).default;
const folder = await mkdtemp(join(tmpdir(), 'berth-check-'));
const tarball = join(folder, `berth-${version}.tgz`);

/** @type {[name: string, program: string, args: string[]][]} */
const checks = [
  ['format and lint', 'biome', ['ci', '--error-on-warnings', '.']],
  ['types', 'tsc', ['-p', '.']],
  ['layers', process.execPath, ['scripts/layers.js']],
  ['unused code', 'knip', []],
  ['build', process.execPath, ['scripts/build.js']],
  ['docstrings', 'typedoc', ['--tsconfig', 'tsconfig.docs.json', '--emit', 'none']],
  ['package', 'npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder]],
  ['package fields', 'publint', ['--strict', tarball]],
  ['published types', 'attw', ['--profile', 'esm-only', tarball]],
];

/** @type {string[]} */
const failed = [];
try {
  for (const [name, program, args] of checks) {
    console.log(`• ${name}`);
    const code = await run(program, args);
    if (code > 128) process.exit(code);
    if (code !== 0) failed.push(name);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(failed.length === 0 ? `✓ all ${checks.length} checks` : `✗ ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
