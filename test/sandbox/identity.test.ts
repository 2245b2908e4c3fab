import { expect } from 'vitest';
import { test } from '../support/sandbox-fixture.ts';

test('a command has no capabilities, also as root, and can gain none', async ({ sandbox }) => {
  for (const user of ['berth', 'root']) {
    const { stdout } = await sandbox.exec('grep -E "^Cap(Inh|Prm|Eff|Amb)|NoNewPrivs" /proc/self/status', { user });
    expect(stdout.match(/0{16}$/gm)).toHaveLength(4);
    expect(stdout).toMatch(/NoNewPrivs:\t1/);
  }
});

test('a command can not read, trace, reach or end the sandbox-agent', async ({ sandbox }) => {
  for (const user of ['berth', 'root']) {
    for (const command of [
      'cat /proc/1/environ',
      'readlink /proc/1/fd/*',
      'head -c 1 /proc/1/mem',
      'ls /.berth/private',
      'echo x > /.berth/agent.cjs',
    ]) {
      expect(await sandbox.exec(command, { user }), `${user}: ${command}`).toMatchObject({ stdout: '' });
      expect((await sandbox.exec(command, { user })).exitCode, `${user}: ${command}`).not.toBe(0);
    }
    await sandbox.exec('kill -KILL 1; kill -TERM 1; kill -USR1 1; kill -STOP 1', { user });
  }
  expect((await sandbox.exec('echo lives')).stdout).toBe('lives\n');
});

test('a command sees loopback only, and nothing of the host in its environment', async ({ sandbox }) => {
  expect((await sandbox.exec('ls /sys/class/net')).stdout).toBe('lo\n');
  expect((await sandbox.exec('env | grep -E "PUBLIC_KEY|BERTH_ENV|UV_"')).stdout).toBe('');
});
