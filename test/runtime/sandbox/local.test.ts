import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type LocalOptions, local } from '../../../src/runtime/sandbox/local.ts';
import { sandboxContract } from './contract.ts';

sandboxContract('local()', async () => {
  const cwd = await mkdtemp(join(tmpdir(), 'berth-test-'));
  return { factory: local({ cwd }), close: () => rm(cwd, { recursive: true, force: true }) };
});

const open = (options: LocalOptions = {}) =>
  local(options).createSandbox({
    id: 'run_local',
    kind: 'run',
    resume: false,
    signal: new AbortController().signal,
    host: () => Promise.reject(new Error('this sandbox needs no host')),
  });

// contract: 10.2-local-cwd
test('works in the directory of the process where none is given', async () => {
  expect((await open()).cwd).toBe(process.cwd());
  expect((await open({ cwd: 'src' })).cwd).toBe(join(process.cwd(), 'src'));
});

// contract: 10.2-local-env
test('passes on a few variables of the process only; env adds and removes', async () => {
  process.env.BERTH_TEST_SECRET = 'secret';
  const env = await open({ env: { ADDED: 'yes', HOME: undefined } });
  try {
    const { stdout } = await env.exec('env');
    const names = stdout.split('\n').map((line) => line.split('=')[0]);
    expect(names).toContain('PATH');
    expect(names).not.toContain('HOME');
    expect(names).not.toContain('BERTH_TEST_SECRET');
    expect(stdout).toContain('ADDED=yes');
  } finally {
    delete process.env.BERTH_TEST_SECRET;
  }
});

// contract: 10.2-local-env
test('takes the variables when the factory is made, not when a sandbox is', async () => {
  process.env.LC_CTYPE = 'before';
  const factory = local();
  process.env.LC_CTYPE = 'after';
  const request = { id: 'x', kind: 'run', resume: false, signal: new AbortController().signal } as const;
  const env = await factory.createSandbox({ ...request, host: () => Promise.reject(new Error('none')) });
  delete process.env.LC_CTYPE;
  expect((await env.exec('echo $LC_CTYPE')).stdout).toBe('before\n');
});

// contract: 10.2-local-env-refused
test.each([[null], ['PATH=x'], [['PATH']], [new Map()], [{ PATH: 1 }]])('refuses %j as env', (env) => {
  expect(() => local({ env } as unknown as LocalOptions)).toThrow(
    expect.objectContaining({ name: 'DefinitionError', issues: [{ path: 'env', message: expect.any(String) }] }),
  );
});

// contract: 10.2-local-warning
test('says that it is no boundary', () => {
  expect(local().warning).toMatch(/no sandbox/);
});

test('names the directory when a command is to run where there is none', async () => {
  const env = await open();
  await expect(env.exec('true', { cwd: '/nowhere/at/all' })).rejects.toMatchObject({
    name: 'FileError',
    code: 'ENOENT',
    path: '/nowhere/at/all',
  });
});

// contract: 10.2-local-kill
test('ends a command that ignores SIGTERM with SIGKILL after two seconds', async () => {
  const env = await open();
  const stop = new AbortController();
  const startedAt = performance.now();
  const call = env.exec('trap "" TERM; echo up; while true; do sleep 0.05; done', {
    signal: stop.signal,
    onStdout: () => stop.abort(),
  });
  await expect(call).rejects.toMatchObject({ name: 'AbortError' });
  expect(performance.now() - startedAt).toBeGreaterThan(1_900);
});
