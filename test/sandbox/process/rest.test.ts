import { text } from 'node:stream/consumers';
import { describe, expect } from 'vitest';
import { SandboxDiedError } from '../../../src/sandbox/errors.ts';
import { test } from '../../support/sandbox-fixture.ts';

// A server as far as a command sees it: it holds both outputs, and prints when it is told to.
const server =
  'server() { echo up; until [ -e go ]; do sleep 0.01; done; seq 1 2000; echo error >&2; }; server & echo hi';

describe('what a command has left running', () => {
  test('can be followed to its end, by more than one, while the command is over', async ({ sandbox }) => {
    const result = await sandbox.exec(server);
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
    expect(result.stdout.split('\n').sort()).toEqual(['', 'hi', 'up']);
    const [left] = await sandbox.processes();
    const id = left?.id ?? '';
    // Without `rest`: what there is.
    expect((await (await sandbox.attach(id)).wait()).stdout).toBe(result.stdout);

    const early = await sandbox.attach(id, { rest: true });
    const late = await sandbox.attach(id, { rest: true, stdout: result.stdoutBytes });
    await sandbox.fs.writeFile('go', '');
    const lines = Array.from({ length: 2_000 }, (_, index) => `${index + 1}\n`).join('');
    expect(await early.wait()).toMatchObject({ stdout: result.stdout + lines, stderr: 'error\n', exitCode: 0 });
    expect(await text(late.stdout)).toBe(lines);
    // It is over, and all of it is kept.
    await expect.poll(async () => (await sandbox.processes()).length).toBe(0);
    const [listed] = await sandbox.processes({ all: true });
    expect(listed?.stdout).toEqual({ bytes: result.stdoutBytes + lines.length, gaps: [] });
    expect((await (await sandbox.attach(id, { rest: true })).wait()).stdout).toBe(result.stdout + lines);
  });

  test('keeps all that it prints, however small the pieces', async ({ sandbox }) => {
    const { stdout } = await sandbox.exec(
      '(until [ -e go ]; do sleep 0.01; done; for i in $(seq 1 200); do echo $i; sleep 0.002; done) & echo hi',
    );
    const [left] = await sandbox.processes();
    const process = await sandbox.attach(left?.id ?? '', { rest: true });
    await sandbox.fs.writeFile('go', '');
    await process.wait();
    const kept = await (await sandbox.attach(process.id)).wait();
    expect(kept.stdout).toBe(stdout + Array.from({ length: 200 }, (_, index) => `${index + 1}\n`).join(''));
    expect((await sandbox.processes({ all: true }))[0]?.stdout.gaps).toEqual([]);
  });

  test('ends with its session, and so does who follows it', async ({ sandbox }) => {
    const session = await sandbox.session();
    expect((await session.exec('sleep 1000 & echo hi')).stdout).toBe('hi\n');
    const [left] = await sandbox.processes();
    const following = (await sandbox.attach(left?.id ?? '', { rest: true })).wait();
    await session.close();
    expect(await following).toMatchObject({ stdout: 'hi\n', exitCode: 0 });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('tells who follows it of the end of the sandbox', async ({ sandbox }) => {
    await sandbox.exec('sleep 1000 & echo hi');
    const [left] = await sandbox.processes();
    const following = (await sandbox.attach(left?.id ?? '', { rest: true })).wait();
    following.catch(() => {}); // looked at below
    await sandbox.remove();
    await expect(following).rejects.toBeInstanceOf(SandboxDiedError);
  });
});
