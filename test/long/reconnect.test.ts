import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WireClosedError } from '../../src/sandbox/errors.ts';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { cutWire } from '../support/cutting-proxy.ts';
import { openHost } from '../support/sandbox-fixture.ts';
import { reasonToSkip, type SecondEngine, startEngine } from './engines/second-engine.ts';

describe.skipIf(reasonToSkip)(`an engine that is stopped and started (${reasonToSkip ?? 'with live-restore'})`, () => {
  let engine: SecondEngine;
  beforeAll(async () => {
    engine = await startEngine({ arguments: ['--live-restore'] });
  });
  afterAll(() => engine[Symbol.asyncDispose]());

  test.for(['unix', 'exec'] as const)(
    'leaves a command as it is, and its output, over the %s transport',
    async (transport) => {
      const stateDir = await mkdtemp(join(tmpdir(), 'berth-test-state-'));
      const host = await SandboxHost.openWith({ stateDir, docker: engine.address }, transport);
      try {
        const sandbox = await host.create();
        let lines = 0;
        let onLine = () => {};
        const running = sandbox.exec('for i in $(seq 40); do echo $i; sleep 0.25; done; cat', {
          stdin: (async function* () {
            yield 'first';
            await new Promise<void>((resolve) => {
              onLine = resolve;
            });
            await engine.stop();
            yield ' second';
            await engine.start();
            yield ' third';
          })(),
          onStdout: () => {
            lines++;
            if (lines === 3) onLine();
          },
        });
        const expected = `${Array.from({ length: 40 }, (_, index) => `${index + 1}\n`).join('')}first second third`;
        expect(await running).toMatchObject({ exitCode: 0, stdout: expected });
        expect((await sandbox.exec('echo on')).stdout).toBe('on\n');
      } finally {
        await Promise.all((await host.list()).map(({ id }) => host.remove(id)));
        await host.collect();
        await host.close();
        await rm(stateDir, { recursive: true, force: true });
      }
    },
  );
});

test('a transport that hangs is replaced, and a paused sandbox is not taken for one', async () => {
  await using opened = await openHost('unix');
  const { host, stateDir } = opened;
  const { id } = await host.create();
  await using proxy = await cutWire(stateDir, id, () => undefined);
  const sandbox = await host.connect(id);
  const hanging = sandbox.exec('sleep 5; echo done');
  await sandbox.exec('true');
  proxy.hang();
  expect((await hanging).stdout).toBe('done\n');
  expect(proxy.connections).toBe(2);

  const paused = sandbox.exec('sleep 1; echo later');
  await sandbox.exec('true');
  await sandbox.pause();
  await new Promise((resolve) => setTimeout(resolve, 60_000)); // longer than what hangs is given
  expect(proxy.connections).toBe(2);
  await sandbox.resume();
  expect((await paused).stdout).toBe('later\n');
  expect(proxy.connections).toBe(2);
});

test('a connection that can not be joined for a minute is given up with an error that says so; the next call makes a new one', async () => {
  await using opened = await openHost('unix');
  const { host, stateDir } = opened;
  const { id } = await host.create();
  await using proxy = await cutWire(stateDir, id, () => undefined);
  const sandbox = await host.connect(id);
  const command = 'until [ -e go ]; do sleep 0.1; done; rm go; echo over';
  const process = await sandbox.spawn(command, { key: 'once' });
  const waiting = process.wait().catch((error: unknown) => error);
  proxy.refuse(true);
  expect(await waiting).toBeInstanceOf(WireClosedError);
  proxy.refuse(false);
  await sandbox.fs.writeFile('go', '');
  // It went on, and is joined: a second one would wait for ever.
  expect((await sandbox.exec(command, { key: 'once' })).stdout).toBe('over\n');
});
