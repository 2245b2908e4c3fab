import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { engineFindings } from '../../../src/cli/engine-findings.ts';
import { readTraits } from '../../../src/engine/docker/traits.ts';
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

  test('in a directory of the machine nobody has its ids, which is found before', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-test-bind-'));
    try {
      await chmod(folder, 0o777);
      await using sandbox = await opened.host.create({ workspace: { bind: folder } });
      expect((await sandbox.exec('touch made && id -un')).stdout).toBe('berth\n');
      expect((await stat(join(folder, 'made'))).uid).toBeGreaterThan(1_000);
    } finally {
      await rm(folder, { recursive: true });
    }
    const findings = engineFindings(await readTraits(engine.docker));
    expect(findings).toEqual([expect.objectContaining({ name: 'workspace', warning: true })]);
  });
});
