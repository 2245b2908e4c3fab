import { expect } from 'vitest';
import { RuntimeNotFoundError } from '../../src/engine/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

test('a runtime that the engine does not have is refused, with those that it has', async ({ host }) => {
  const making = host.create({ runtime: 'no-such-runtime' });
  await expect(making).rejects.toBeInstanceOf(RuntimeNotFoundError);
  await expect(making).rejects.toMatchObject({ meta: { known: expect.arrayContaining(['runc']) } });
  // A shim is not among those: its name goes to the engine, which refuses it at once or at the start.
  await expect(host.create({ runtime: 'io.containerd.kata.v2' })).rejects.toMatchObject({
    code: expect.stringMatching(/^(runtime_not_found|container_start)$/),
    message: expect.stringContaining('io.containerd.kata.v2'),
  });
  await expect(host.create({ runtime: 'run c' })).rejects.toMatchObject({ code: 'invalid_options' });
  expect(await host.list()).toEqual([]);
  await using sandbox = await host.create({ runtime: 'runc' });
  expect((await sandbox.exec('echo up')).stdout).toBe('up\n');
});
