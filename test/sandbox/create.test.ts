import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect } from 'vitest';
import { ContainerStartError, LimitUnsupportedError } from '../../src/engine/errors.ts';
import type { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { openHost, test } from '../support/sandbox-fixture.ts';

/** Removes it, and says what it was; the volume that all sandboxes have is nobody's. */
async function leftOf(host: SandboxHost) {
  return (await host.collect()).removed.filter(({ kind }) => kind !== 'volume');
}

test('a creation that is given up leaves nothing, whether it waits for its turn or is under way', async () => {
  await using opened = await openHost();
  const { host } = opened;
  const abort = new AbortController();
  const finished: Sandbox[] = [];
  const all = Array.from({ length: 2 * availableParallelism() + 2 }, async (_, index) => {
    finished.push(await host.create({ id: `given-up-${index}`, signal: abort.signal }));
  });
  const results = Promise.allSettled(all);
  while ((await host.list()).length === 0);
  abort.abort('enough');
  // On a machine that is busy the first may be done before it is seen.
  const early = finished.length;
  const rejected = (await results).filter(({ status }) => status === 'rejected');
  expect(rejected).toEqual(
    Array(all.length - early).fill({
      status: 'rejected',
      reason: expect.objectContaining({ name: 'AbortError', cause: 'enough' }),
    }),
  );
  expect(early).toBeLessThan(all.length);
  for (const sandbox of finished) await sandbox.remove();
  expect(await host.list()).toEqual([]);
  expect(await leftOf(host)).toEqual([]);
  await expect(host.create({ signal: abort.signal })).rejects.toMatchObject({ name: 'AbortError' });
  // Its id is free.
  await (await host.create({ id: 'given-up-0' })).remove();
});

test('what a killed process was making is collected, and its id is free', async () => {
  await using opened = await openHost();
  const script = `
    import { SandboxHost } from '${join(import.meta.dirname, '../../src/sandbox/host.ts')}';
    const host = await SandboxHost.open({ stateDir: ${JSON.stringify(opened.stateDir)} });
    void host.create({ id: 'half' });
    while ((await host.list()).length === 0);
    process.kill(process.pid, 'SIGKILL');`;
  await execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { reject: false });
  expect(await leftOf(opened.host)).toEqual([{ kind: 'sandbox', name: 'half', reason: 'never finished' }]);
  expect(await opened.host.list()).toEqual([]);
  await (await opened.host.create({ id: 'half' })).remove();
});

test('a limit that the engine can not hold to is refused, and what has none is said', async ({ host, sandbox }) => {
  const { limits, unlimited } = await sandbox.info();
  expect(limits).toMatchObject({ memory: 2 * 1024 ** 3, pids: 1_024 });
  expect(unlimited).toEqual(['disk']);
  const disk = 64 * 1024 * 1024;
  const made = await host.create({ id: 'small-disk', limits: { disk } }).catch((cause: unknown) => cause);
  if (made instanceof Error) {
    expect(made).toBeInstanceOf(LimitUnsupportedError);
    expect(made).toMatchObject({ meta: { limit: 'disk', reason: expect.any(String) } });
    expect((await host.list()).map(({ id }) => id)).not.toContain('small-disk');
    return;
  }
  // An engine whose disk can be limited.
  await using limited = await host.connect('small-disk');
  expect(await limited.info()).toMatchObject({ limits: { disk }, unlimited: [] });
  expect((await limited.exec('head -c 100000000 /dev/zero > file')).exitCode).not.toBe(0);
});

test.for([undefined, 'exec'] as const)(
  'a sandbox-agent that ends at its start is told of as such, with what it printed (%s)',
  async (transport) => {
    await using opened = await openHost(transport);
    const error: unknown = await opened.host.create({ user: 'no-such-user' }).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ContainerStartError);
    expect(error).toMatchObject({ meta: { exitCode: 1, log: expect.stringContaining('no-such-user') } });
    expect(await opened.host.list()).toEqual([]);
  },
);
