import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RuntimeNotFoundError } from '../../../src/engine/errors.ts';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { install, reasonToSkip, type SecondEngine, startEngine } from './second-engine.ts';

const name = `gVisor${reasonToSkip === undefined ? '' : `: ${reasonToSkip}`}`;
describe.skipIf(reasonToSkip !== undefined)(name, () => {
  let engine: SecondEngine;
  let opened: HostOnEngine;
  beforeAll(async () => {
    await install({ runsc: 'runsc' });
    engine = await startEngine({
      // With a network of its own it does not start where a container has none.
      config: { runtimes: { runsc: { path: '/usr/bin/runsc', runtimeArgs: ['--network=none'] } } },
    });
    opened = await openHostOn(engine);
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  });

  testSandboxes(
    () => opened.host,
    (id) => opened.wireOf(id),
    { options: { runtime: 'runsc' }, wire: 'exec' },
  );

  test('the kernel is gVisor’s, and runc beside it has the socket', async () => {
    await using sandbox = await opened.host.create({ runtime: 'runsc' });
    expect((await sandbox.exec('uname -r')).stdout).toBe('4.4.0\n');
    await using other = await opened.host.create();
    expect(await opened.wireOf(other.id)).toBe('unix');
  });

  test('a command of root, which would have capabilities, is not run', async () => {
    await using sandbox = await opened.host.create({ runtime: 'runsc' });
    const { exitCode, stderr } = await sandbox.exec('echo ran', { user: 'root' });
    expect(exitCode).toBe(126);
    expect(stderr).toContain('run commands as another user');
  });

  test('a runtime that the engine does not have is named, with those that it has', async () => {
    const making = opened.host.create({ runtime: 'kata-runtime' });
    await expect(making).rejects.toBeInstanceOf(RuntimeNotFoundError);
    await expect(making).rejects.toMatchObject({ meta: { known: expect.arrayContaining(['runc', 'runsc']) } });
    expect(await opened.host.list()).toEqual([]);
  });
});
