import { describe, expect } from 'vitest';
import { OutputGoneError, SandboxRequestError } from '../../src/sandbox/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

const MiB = 1024 * 1024;

describe('what is kept', () => {
  test('is the beginning and the newest of a large output; a reader in between is told', async ({ sandbox }) => {
    const process = await sandbox.spawn('seq 1 12000000'); // about 100 MiB
    const result = await process.wait();
    expect(result).toMatchObject({ exitCode: 0, truncated: true });

    const [listed] = await sandbox.processes({ all: true });
    const [from, to] = listed?.stdout.gaps[0] ?? [0, 0];
    expect(listed?.stdout).toEqual({ bytes: result.stdoutBytes, gaps: [[from, to]] });
    expect(from).toBe(32 * MiB);
    expect(result.stdoutBytes - to).toBeGreaterThan(28 * MiB);

    const start = await sandbox.attach(process.id);
    let read = 0;
    const reading = (async () => {
      for await (const chunk of start.stdout) read += chunk.length;
    })();
    const error: OutputGoneError = await reading.then(
      () => undefined,
      (cause) => cause,
    );
    expect(error).toBeInstanceOf(OutputGoneError);
    expect(error.meta).toEqual({ processId: process.id, output: 'stdout', from });
    expect(read).toBe(from);
    const rest = await (await sandbox.attach(process.id, { stdout: to, maxOutput: 100 })).wait();
    expect(rest.stdout.endsWith('11999999\n12000000\n')).toBe(true);
  });

  test('drops the oldest of very many that have ended, and their keys', async ({ sandbox }) => {
    const first = await sandbox.spawn('echo first');
    await first.wait();
    const left = await sandbox.spawn('sleep 1000 >/dev/null 2>&1 & echo left');
    await left.wait();
    for (let round = 0; round < 12; round++) {
      await Promise.all(Array.from({ length: 100 }, () => sandbox.exec(['true'])));
    }
    await expect(sandbox.attach(first.id)).rejects.toBeInstanceOf(SandboxRequestError);
    // What has left something running is listed, however old it is.
    expect(await sandbox.processes()).toMatchObject([{ id: left.id, state: 'ended', end: { exitCode: 0 } }]);
    expect((await sandbox.processes({ all: true })).length).toBeLessThan(1_200);
  });

  test('of all processes together is 1 GiB and what is just written: the oldest goes first', async ({ sandbox }) => {
    // What ended, and has 64 MiB each; then what runs, which keeps the least of each.
    const size = 80 * MiB;
    const first = await sandbox.exec(['head', '-c', String(size), '/dev/zero'], { maxOutput: 0 });
    expect(first.stdoutBytes).toBe(size);
    for (let count = 0; count < 20; count++)
      await sandbox.exec(['head', '-c', String(size), '/dev/zero'], { maxOutput: 0 });
    const kept = async () => {
      const listed = await sandbox.processes({ all: true });
      const bytes = listed.map(
        ({ stdout }) => stdout.bytes - stdout.gaps.reduce((sum, [from, to]) => sum + to - from, 0),
      );
      return { listed, sum: bytes.reduce((sum, one) => sum + one, 0) };
    };
    const ended = await kept();
    expect(ended.sum).toBeLessThanOrEqual(1024 * MiB);
    expect(ended.listed.length).toBeLessThan(21);
    expect(ended.listed.at(-1)?.stdout.bytes).toBe(size);
    const running = [];
    for (let count = 0; count < 20; count++) {
      const process = await sandbox.spawn(`head -c ${size} /dev/zero; exec sleep 1000`, { detached: true });
      process.stdout.destroy();
      running.push(process);
    }
    await expect
      .poll(
        async () =>
          (await kept()).listed.filter(({ state, stdout }) => state === 'running' && stdout.bytes === size).length,
        {
          timeout: 300_000,
          interval: 1_000,
        },
      )
      .toBe(20);
    const all = await kept();
    expect(all.sum).toBeLessThanOrEqual(1024 * MiB + 20 * 12 * MiB);
    for (const process of running) expect(all.listed.some(({ id }) => id === process.id)).toBe(true);
    expect(await sandbox.exec('echo on')).toMatchObject({ stdout: 'on\n' });
  });
});
