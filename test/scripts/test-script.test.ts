import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';

let folder: string;
let server: Server;
/** What each listing of the containers gives; the last one also those after it. */
let listings: object[][];

// An engine that has the base image and what a test says: on the real one, tests that run meanwhile make containers.
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'scripts-'));
  server = createServer((request, response) => {
    const path = request.url ?? '';
    if (path.startsWith('/containers/json'))
      response.end(JSON.stringify(listings.length > 1 ? listings.shift() : listings[0]));
    else if (path.startsWith('/volumes')) response.end('{"Volumes":[]}');
    else if (/^\/(networks|images)/.test(path)) response.end('[]');
    else response.end('{"Version":"1","ApiVersion":"1.41","Arch":"amd64"}');
  });
  await once(server.listen(join(folder, 'engine.sock')), 'listening');
});
afterAll(async () => {
  server.closeAllConnections();
  await once(server.close(), 'close');
  await rm(folder, { recursive: true });
});

/** What `npm test` does with the tests of one folder: its exit code and its last line. */
async function runTests(fixture: string, ...args: string[]) {
  const script = fileURLToPath(new URL('../../scripts/test.js', import.meta.url));
  const fixtures = fileURLToPath(new URL('fixtures', import.meta.url));
  const where = ['--root', join(fixtures, fixture), '--config', join(fixtures, 'vitest.config.ts')];
  const { exitCode, stdout, stderr } = await execa('node', [script, ...where, ...args], {
    env: { DOCKER_HOST: `unix://${folder}/engine.sock` },
    reject: false,
  });
  return { exitCode, stderr, last: stdout.split('\n').at(-1) };
}

test.each([
  ['fair', 0, '1 passed, 0 failed, 1 skipped'],
  ['failing', 1, '1 passed, 1 failed'],
  ['broken', 1, '0 passed, 1 failed'],
  ['stray', 1, '1 passed, 1 failed'],
])('counts the tests that are %s', async (fixture, exitCode, last) => {
  listings = [[]];
  expect(await runTests(fixture)).toMatchObject({ exitCode, last });
});

test('fails when no test ran', async () => {
  listings = [[]];
  expect(await runTests('fair', '--passWithNoTests', 'nothing-of-this-name')).toMatchObject({
    exitCode: 1,
    last: '0 passed, 1 failed',
  });
});

test('counts and names what tests left in the folder for temporary files', async () => {
  listings = [[]];
  const result = await runTests('untidy');
  expect(result).toMatchObject({ exitCode: 1, last: '1 passed, 1 failed' });
  expect(result.stderr).toContain('left behind by the tests: temporary tmp/berth-left-');
});

test('counts and names a container that was not there before', async () => {
  const old = { Id: '1', Names: ['/old'], State: 'running' };
  listings = [[old], [old, { Id: '2', Names: ['/berth-new'], State: 'running' }]];
  expect(await runTests('fair')).toMatchObject({
    exitCode: 1,
    last: '1 passed, 1 failed, 1 skipped',
    stderr: expect.stringContaining('left behind by the tests: container /berth-new (running)'),
  });
});
