import { describe, expect, onTestFinished } from 'vitest';
import { ProcessLimitError } from '../../../src/sandbox/errors.ts';
import type { Process } from '../../../src/sandbox/process/exec.ts';
import { test } from '../../support/sandbox-fixture.ts';

const trees = {
  'a fork bomb': 'b() { b | b & }; b & exec sleep 1000',
  // Not so many that the first shell can't make the last of them: it would end for that.
  'a crowd with a session each': 'for i in $(seq 80); do setsid sh -c "while :; do sleep 0.05; done" & done; wait',
};

describe('at the limit of processes', () => {
  test('a command is refused with an error that says so, the rest works, and a kill makes room', async ({ host }) => {
    const sandbox = await host.create({ limits: { pids: 64 } });
    onTestFinished(() => sandbox.remove());
    const other = await sandbox.spawn('cat');
    const hogs: Process[] = [];
    let error: unknown;
    for (let count = 0; count < 70 && !error; count++) {
      await sandbox.spawn('sleep 1000').then(
        (hog) => hogs.push(hog),
        (cause: unknown) => {
          error = cause;
        },
      );
    }
    expect(error).toBeInstanceOf(ProcessLimitError);
    // The first that needs the threads of the sandbox-agent.
    await sandbox.fs.writeFile('file', 'content');
    expect(await sandbox.fs.readFile('file')).toBe('content');
    other.stdin.end('still here');
    expect(await other.wait()).toMatchObject({ exitCode: 0, stdout: 'still here' });
    await hogs[0]?.kill('SIGKILL');
    await hogs[0]?.wait();
    expect(await sandbox.exec(['echo', 'on'])).toMatchObject({ stdout: 'on\n' });
  });

  test.for(Object.entries(trees))('%s ends with its time, and all of it', async ([, command], { host }) => {
    const sandbox = await host.create({ limits: { pids: 200 } });
    onTestFinished(() => sandbox.remove());
    expect(await sandbox.exec(command, { timeout: 500 })).toMatchObject({ timedOut: true, signal: 'SIGKILL' });
    expect(await sandbox.processes()).toEqual([]);
    expect(await sandbox.exec('echo on')).toMatchObject({ stdout: 'on\n' });
  });
});

test('200 commands at once go their way beside one that is stuck', async ({ shared: sandbox }) => {
  await using stuck = await sandbox.spawn('yes', { backpressure: true });
  await new Promise((resolve) => stuck.stdout.once('readable', resolve));
  const results = await Promise.all(Array.from({ length: 200 }, (_, index) => sandbox.exec(['echo', String(index)])));
  expect(results.map(({ stdout }) => stdout)).toEqual(results.map((_, index) => `${index}\n`));
});

describe('of commands that are over before the last of a crowd has started', () => {
  const crowd = Array.from({ length: 60 }, (_, index) => index);

  test('all that they printed comes, of both outputs', async ({ shared: sandbox }) => {
    const commands = crowd.map((index) => `printf '%060000d' ${index}; echo error ${index} >&2; exit ${index}`);
    const results = await Promise.all(commands.map((command) => sandbox.exec(command)));
    for (const [index, { stdout, stderr, exitCode }] of results.entries()) {
      expect(stdout).toBe(String(index).padStart(60_000, '0'));
      expect({ stderr, exitCode }).toEqual({ stderr: `error ${index}\n`, exitCode: index });
    }
  });

  test('what they have left running prints on, and can be read', async ({ shared: sandbox }) => {
    const results = await Promise.all(
      crowd.map(async (index) => {
        const process = await sandbox.spawn(`(until [ -e crowd ]; do sleep 0.1; done; echo late ${index}) & echo hi`);
        return { process, result: await process.wait() };
      }),
    );
    await sandbox.fs.writeFile('crowd', '');
    for (const [index, { process, result }] of results.entries()) {
      expect(result).toMatchObject({ stdout: 'hi\n', exitCode: 0 });
      const all = await sandbox.attach(process.id, { rest: true });
      expect((await all.wait()).stdout).toBe(`hi\nlate ${index}\n`);
    }
  });
});

describe('backpressure', () => {
  test('stops the process of a reader that stops, and nothing of its output is dropped', async ({
    shared: sandbox,
  }) => {
    // What it has written is in the file; it can't write more than what is under way to the reader.
    const command = 'for i in $(seq 1 400); do head -c 100000 /dev/zero; echo $i > at; done';
    await using process = await sandbox.spawn(command, { backpressure: true });
    await new Promise((resolve) => process.stdout.once('readable', resolve));
    const at = async () => Number(await sandbox.fs.readFile('at').catch(() => 0));
    let before = -1;
    await expect
      .poll(
        async () => {
          const now = await at();
          const stopped = now === before && now > 0;
          before = now;
          return stopped;
        },
        { interval: 300, timeout: 30_000 },
      )
      .toBe(true);
    expect(await at()).toBeLessThan(100);
    let read = 0;
    for await (const chunk of process.stdout) read += chunk.length;
    expect(read).toBe(40_000_000);
    expect(await process.wait()).toMatchObject({ exitCode: 0, stdoutBytes: 40_000_000 });
  });

  test('of one reader among several ends with that reader', async ({ shared: sandbox }) => {
    const process = await sandbox.spawn('head -c 40000000 /dev/zero');
    const held = await sandbox.attach(process.id, { backpressure: true });
    await new Promise((resolve) => held.stdout.once('readable', resolve));
    const ended = process.wait();
    held.stdout.destroy();
    expect(await ended).toMatchObject({ stdoutBytes: 40_000_000 });
  });
});
