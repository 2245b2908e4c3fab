import { mkdtempSync } from 'node:fs';
import { chmod, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SandboxGoneError } from '../../../src/runtime/errors.ts';
import { type LocalOptions, local } from '../../../src/runtime/sandbox/local.ts';
import { sandboxContract } from '../../../src/testing/sandbox-contract.ts';
import { sandboxRequest } from '../../support/sandbox-request.ts';

const cwd = mkdtempSync(join(tmpdir(), 'berth-test-'));
afterAll(() => rm(cwd, { recursive: true, force: true }));

sandboxContract({ describe, test, beforeAll, afterAll }, { name: 'local()', factory: () => local({ cwd }) });

const open = (options: LocalOptions = {}) => local(options).createSandbox(sandboxRequest());

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
  const env = await factory.createSandbox(sandboxRequest());
  delete process.env.LC_CTYPE;
  expect((await env.exec('echo $LC_CTYPE')).stdout).toBe('before\n');
});

// contract: 10.2-local-env-refused
test.each([[null], ['PATH=x'], [['PATH']], [new Map()], [{ PATH: 1 }]])('refuses %j as env', (env) => {
  expect(() => local({ env } as unknown as LocalOptions)).toThrow(
    expect.objectContaining({ name: 'DefinitionError', issues: [{ path: 'env', message: expect.any(String) }] }),
  );
});

test('refuses null as options', () => {
  expect(() => local(null as never)).toThrow(expect.objectContaining({ name: 'DefinitionError' }));
});

test('a path with a NUL is told as other errors of files are', async () => {
  const env = await local({ cwd }).createSandbox(sandboxRequest());
  for (const call of [env.readFile('a\0b'), env.writeFile('a\0b', ''), env.rm('a\0b')]) {
    await expect(call).rejects.toMatchObject({ name: 'FileError', code: 'EINVAL' });
  }
});

// contract: 10.1-resume
test('goes on in the directory of before, and says so when that is gone', async () => {
  const directory = join(cwd, 'resumed');
  const request = sandboxRequest();
  const before = await local({ cwd: directory }).createSandbox(request);
  await before.writeFile('note', 'kept');
  await before.close('suspended');
  const after = await local({ cwd: directory }).createSandbox({ ...request, resume: true });
  expect(await after.readFile('note')).toBe('kept');
  await rm(directory, { recursive: true });
  const gone = local({ cwd: directory }).createSandbox({ ...request, resume: true });
  await expect(gone).rejects.toBeInstanceOf(SandboxGoneError);
  await expect(gone).rejects.toMatchObject({ meta: { id: request.id, reason: expect.stringContaining(directory) } });
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

// contract: 5-write-atomic-local
test('replaces a file as a whole: who reads meanwhile gets the old content or the new', async () => {
  const env = await open({ cwd });
  const [old, fresh] = ['a'.repeat(4_000_000), 'b'.repeat(4_000_000)];
  await env.writeFile('whole', old);
  const seen = new Set<string>();
  let isWritten = false;
  const reading = (async () => {
    while (!isWritten) seen.add(await readFile(join(cwd, 'whole'), 'utf8'));
  })();
  for (const content of [fresh, old, fresh]) await env.writeFile('whole', content);
  isWritten = true;
  await reading;
  expect([...seen].every((content) => content === old || content === fresh)).toBe(true);
});

test('keeps the mode of a file that it replaces, and a link; leaves nothing behind when it can not', async () => {
  const env = await open({ cwd: join(cwd, 'replaced') });
  await env.writeFile('script', 'old');
  await chmod(join(env.cwd, 'script'), 0o750);
  await symlink('script', join(env.cwd, 'link'));
  await symlink('later', join(env.cwd, 'dangling'));
  await env.writeFile('link', 'new');
  await env.writeFile('dangling', 'made');
  await env.mkdir('directory');
  await expect(env.writeFile('directory', 'x')).rejects.toMatchObject({ code: 'EISDIR' });
  await env.writeFile('/dev/null', 'dropped');
  expect(await env.readFile('script')).toBe('new');
  expect(await env.readFile('later')).toBe('made');
  expect((await stat(join(env.cwd, 'script'))).mode & 0o777).toBe(0o750);
  expect((await env.readdir('.')).sort()).toEqual(['dangling', 'directory', 'later', 'link', 'script']);
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
