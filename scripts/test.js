// npm test [-- ARGUMENTS OF VITEST]: sets up what is missing, runs the tests, and looks for what they left behind.
// npm run test:long does the same with test/long, which takes longer than a change should wait for.
// The last line is `N passed, N failed`, with `, N skipped` where some were.
import './node-version.js';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepare } from './prepare.js';
import { run } from './run.js';

await prepare();
const { findLeftFiles, listEngineObjects } = await import('./leftovers.ts');

// All temporary files of the tests, and the state of each host that does not ask for a place of its own, are below one
// folder. Its name is short: the path of a Unix socket has room for 107 bytes.
const folder = await mkdtemp(join(tmpdir(), 'bt-'));
// A test runs a host of another user below it.
await chmod(folder, 0o711);
const counts = join(folder, 'counts.json');
const env = { TMPDIR: join(folder, 'tmp'), BERTH_STATE_DIR: join(folder, 'state') };
await mkdir(env.TMPDIR);
try {
  const before = await listEngineObjects();
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${counts}`];
  const projects = process.argv.includes('--project') ? [] : ['--project=!long'];
  const code = await run('vitest', ['run', ...reporters, ...projects, ...process.argv.slice(2)], env);
  const result = readReport(await readFile(counts, 'utf8').catch(() => '{}'));
  // Once more at the end: of a long log often only that is kept.
  for (const failure of result.failures) console.error(`✗ ${failure}`);

  const known = new Set(before.map(({ id }) => id));
  const objects = (await listEngineObjects()).filter(({ id }) => !known.has(id));
  const left = [...objects.map(({ name }) => name), ...(await findLeftFiles(folder))];
  for (const name of left) console.error(`✗ left behind by the tests: ${name}`);
  result.failed += left.length;
  // An error outside of a test, or the end of vitest itself: there is no test to count.
  if (code !== 0 && result.failed === 0) {
    console.error(`✗ vitest ended with code ${code}`);
    result.failed = 1;
  }
  if (code === 0 && result.passed === 0) {
    console.error('✗ no test ran');
    result.failed += 1;
  }
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
  console.log(`${result.passed} passed, ${result.failed} failed${skipped}`);
  process.exitCode = code > 128 ? code : result.failed > 0 ? 1 : 0;
} finally {
  await rm(folder, { recursive: true, force: true });
}

/**
 * A file that could not be loaded has no tests; it counts as one that failed.
 * @param {string} json what vitest's reporter wrote
 */
function readReport(json) {
  /** @type {{ testResults?: { name: string, status: string, message: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} */
  const { testResults = [] } = JSON.parse(json);
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  /** @param {string[]} statuses */
  const count = (...statuses) => tests.filter(({ status }) => statuses.includes(status)).length;
  const broken = testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'),
  );
  return {
    passed: count('passed'),
    failed: count('failed') + broken.length,
    skipped: count('skipped', 'pending', 'todo', 'disabled'),
    failures: [
      ...broken.map(({ name, message }) => `${name}: ${message}`),
      ...testResults.flatMap(({ name, assertionResults }) =>
        assertionResults
          .filter(({ status }) => status === 'failed')
          .map(({ fullName, failureMessages }) => `${name}: ${fullName}\n${failureMessages.join('\n')}`),
      ),
    ],
  };
}
