import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { test } from './command.ts';

test('says what it looked at, and makes nothing', async ({ berth }) => {
  const { exitCode, stdout, stderr } = await berth.run(['doctor', '--json']);
  expect(exitCode, stdout + stderr).toBe(0);
  const report = JSON.parse(stdout);
  const names = report.findings.map(({ name }: { name: string }) => name);
  expect(names).toEqual(
    expect.arrayContaining(['Node', 'container engine', 'base image', 'sandbox-agent', 'state directory']),
  );
  expect(await readdir(berth.stateDir)).toEqual([]);
});

test('without an engine gives exit code 3', async ({ berth }) => {
  const { exitCode, stdout } = await berth.run(['doctor'], { DOCKER_HOST: `unix://${berth.stateDir}/no.sock` });
  expect(exitCode).toBe(3);
  expect(stdout).toMatch(/container engine/);
});

test('says what sandboxes of an engine lack, and does not fail for it', async ({ berth }) => {
  const answers: Record<string, unknown> = {
    '/version': { Version: '20.10.24', ApiVersion: '1.41', Arch: 'amd64', KernelVersion: 'of another machine' },
    // As rootless Docker answers on cgroup v1.
    '/info': {
      MemoryLimit: false,
      CpuCfsPeriod: false,
      CpuCfsQuota: false,
      PidsLimit: false,
      CgroupDriver: 'none',
      CgroupVersion: '1',
      SecurityOptions: ['name=seccomp,profile=default', 'name=rootless'],
      Driver: 'overlay2',
    },
  };
  const engine = createServer(({ url = '' }, response) => response.end(JSON.stringify(answers[url] ?? {})));
  const socket = join(berth.stateDir, 'engine.sock');
  await once(engine.listen(socket), 'listening');
  onTestFinished(async () => {
    await once(engine.close(), 'close');
  });
  const { exitCode, stdout } = await berth.run(['doctor'], { DOCKER_HOST: `unix://${socket}` });
  expect(exitCode, stdout).toBe(0);
  expect(stdout).toContain('✓ container engine 20.10.24, rootless (API 1.41)');
  expect(stdout).toMatch(/^! limits +this engine holds no sandbox to limits of memory, cpus, pids: it is rootless/m);
});
