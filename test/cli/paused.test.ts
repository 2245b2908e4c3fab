import { expect } from 'vitest';
import { SandboxHost } from '../../src/sandbox/host.ts';
import { test } from './command.ts';

test('on a paused sandbox no command hangs: exec ends with Ctrl-C, the others say at once how it goes on', async ({
  berth,
}) => {
  await using host = await SandboxHost.open({ stateDir: berth.stateDir });
  await using sandbox = await host.create();
  const { id } = sandbox;
  const running = berth.run(['sandbox', 'exec', id, '--', 'sh', '-c', 'echo up; sleep 1000']);
  await new Promise((resolve) => running.stdout.once('data', resolve));
  await sandbox.pause();
  running.kill('SIGINT');
  const resume = `berth sandbox resume ${id}`;
  expect(await running).toMatchObject({ exitCode: 130, stderr: expect.stringContaining(resume) });
  const [exec, cp, ls] = await Promise.all([
    berth.run(['sandbox', 'exec', id, '--', 'true']),
    berth.run(['sandbox', 'cp', 'package.json', `${id}:/workspace`]),
    berth.run(['sandbox', 'ls']),
  ]);
  for (const { exitCode, stderr } of [exec, cp]) {
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(resume);
  }
  expect(ls.stdout).toMatch(new RegExp(`${id} +paused`));
});
