import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { reasonToSkip, type SecondEngine, startEngine } from './second-engine.ts';

async function hasRemapUser(): Promise<boolean> {
  return (await execa('id', ['dockremap'], { reject: false })).exitCode === 0;
}

const name = `an engine with userns-remap${reasonToSkip === undefined ? '' : `: ${reasonToSkip}`}`;
describe.skipIf(reasonToSkip !== undefined)(name, () => {
  let engine: SecondEngine;
  let opened: HostOnEngine;
  let hadUser: boolean;
  beforeAll(async () => {
    hadUser = await hasRemapUser();
    engine = await startEngine({ arguments: ['--userns-remap=default'] });
    opened = await openHostOn(engine);
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
    // The engine has made it, with its ranges of ids.
    if (!hadUser && (await hasRemapUser())) await execa('userdel', ['dockremap']);
  });

  testSandboxes(
    () => opened.host,
    (id) => opened.wireOf(id),
    { wire: 'unix' },
  );

  test('root in the sandbox is nobody outside', async () => {
    await using sandbox = await opened.host.create();
    const { stdout } = await sandbox.exec('cat /proc/self/uid_map', { user: 'root' });
    expect(stdout.trim().split(/\s+/)[1]).not.toBe('0');
  });
});
