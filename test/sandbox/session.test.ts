import { once } from 'node:events';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished } from 'vitest';
import { InvalidOptionsError, ProcessKeyConflictError } from '../../src/sandbox/errors.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

const checkout = join(import.meta.dirname, '../..');

const command = 'echo x >> runs; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended';

test('a command with a key in a session with a key is joined by a later process, when the first was killed', async () => {
  await using opened = await openHost();
  const script = `
    const { SandboxHost } = await import('${checkout}/src/sandbox/host.ts');
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(opened.stateDir)} });
    const sandbox = await host.create({ key: 'work' });
    const session = await sandbox.session({ key: 'step 1', cwd: 'below', env: { OF: 'session' } });
    await sandbox.fs.mkdir('below');
    await session.exec(${JSON.stringify(command)}, { key: 'a', onStdout: (chunk) => process.stdout.write(chunk) });`;
  const first = execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: checkout,
    reject: false,
  });
  onTestFinished(() => void first.kill('SIGKILL'));
  await once(first.stdout, 'data');
  first.kill('SIGKILL');
  expect(await first).toMatchObject({ signal: 'SIGKILL', stdout: 'begun' });

  const sandbox = await opened.host.create({ key: 'work' });
  const session = await sandbox.session({ key: 'step 1', cwd: 'below' });
  const joined = session.exec(command, { key: 'a' });
  expect(await sandbox.processes()).toMatchObject([{ state: 'running' }]);
  await session.fs.writeFile('go', '');
  expect(await joined).toMatchObject({ exitCode: 0, stdout: 'begun\nended\n' });
  expect(await session.fs.readFile('runs')).toBe('x\n');
  // It is the session of before, which was not closed.
  expect((await session.exec('echo $OF')).stdout).toBe('session\n');
});

test('what a key has started in it is known after the session was closed, and after a stop', async ({ sandbox }) => {
  await sandbox.fs.writeFile('go', '');
  const first = await sandbox.session({ key: 'k' });
  const result = await first.exec(command, { key: 'a' });
  await first.close();
  const second = await sandbox.session({ key: 'k', env: { OF: 'second' } });
  expect(second.id).toBe(first.id);
  expect(await second.exec(command, { key: 'a' })).toEqual(result);
  expect((await second.exec('echo $OF')).stdout).toBe('second\n');
  await sandbox.stop();
  await sandbox.start();
  const third = await sandbox.session({ key: 'k' });
  expect(await third.exec(command, { key: 'a' })).toEqual(result);
  expect((await third.exec('echo "[$OF]"')).stdout).toBe('[]\n');
  expect(await sandbox.fs.readFile('runs')).toBe('x\n');
  await expect(third.exec('true', { key: 'a' })).rejects.toBeInstanceOf(ProcessKeyConflictError);
});

test('one key gives one session to all who ask, each in a directory of its own; another key, and none, another one', async ({
  shared: sandbox,
}) => {
  const [first, second] = await Promise.all([
    sandbox.session({ key: 'k', env: { OF: 'k' } }),
    sandbox.session({ key: 'k', env: { OF: 'k' }, cwd: '/tmp', name: 'for people' }),
  ]);
  expect(second.id).toBe(first.id);
  expect([first.name, second.name]).toEqual([first.id, 'for people']);
  expect((await first.exec('pwd; echo $OF')).stdout).toBe('/workspace\nk\n');
  expect((await second.exec('pwd; echo $OF')).stdout).toBe('/tmp\nk\n');
  const others = [await sandbox.session({ key: 'other' }), await sandbox.session(), await sandbox.session()];
  expect(new Set([first, ...others].map(({ id }) => id)).size).toBe(4);
  await first.close();
  await expect(second.exec('true')).rejects.toMatchObject({ meta: { reason: 'unknown_session' } });
  expect((await others[0]?.exec('true'))?.exitCode).toBe(0);
});

test('a session that is asked for while it closes is opened anew', async ({ shared: sandbox }) => {
  const first = await sandbox.session({ key: 'k' });
  await first.exec('sleep 1000 >/dev/null 2>&1 &');
  const closing = first.close();
  const second = await sandbox.session({ key: 'k' });
  await closing;
  expect((await second.exec('pgrep sleep || echo none')).stdout).toBe('none\n');
});

test('refuses a key that is none', async ({ shared: sandbox }) => {
  for (const key of ['', 'x'.repeat(257), 'a\0b']) {
    await expect(sandbox.session({ key })).rejects.toBeInstanceOf(InvalidOptionsError);
  }
});
