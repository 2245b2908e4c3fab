import { readdir } from 'node:fs/promises';
import { expect } from 'vitest';
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
