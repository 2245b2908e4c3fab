import { expect } from 'vitest';
import { SandboxRequestError } from '../../src/sandbox/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

test('a command has no capabilities, also as root, and can gain none', async ({ shared: sandbox }) => {
  for (const user of ['berth', 'root']) {
    const { stdout } = await sandbox.exec('grep -E "^Cap(Inh|Prm|Eff|Amb)|NoNewPrivs" /proc/self/status', { user });
    expect(stdout.match(/0{16}$/gm)).toHaveLength(4);
    expect(stdout).toMatch(/NoNewPrivs:\t1/);
  }
});

test('a command can not read, trace, reach or end the sandbox-agent', async ({ shared: sandbox }) => {
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

test('a command sees loopback only, and nothing of the host in its environment', async ({ shared: sandbox }) => {
  expect((await sandbox.exec('ls /sys/class/net')).stdout).toBe('lo\n');
  expect((await sandbox.exec('env | grep -E "PUBLIC_KEY|BERTH_ENV|UV_"')).stdout).toBe('');
});

test('nothing that root writes to /etc/passwd brings a command into the group of the sandbox-agent', async ({
  sandbox,
}) => {
  // As the kernel takes 32 bits: the group of the sandbox-agent, and the one that it has already.
  for (const group of ['65432', '4295032728', '-1', '65432.0', 'none', '']) {
    await sandbox.exec('echo "someone:x:0:$GROUP::/:/bin/sh" >> /etc/passwd', { user: 'root', env: { GROUP: group } });
    const starting = sandbox.exec('ls /.berth/private', { user: 'someone' });
    await expect(starting, group).rejects.toBeInstanceOf(SandboxRequestError);
    await sandbox.exec('sed -i /^someone:/d /etc/passwd', { user: 'root' });
  }
});

test('what root puts in place of /etc/passwd does not hold the sandbox-agent up', async ({ sandbox }) => {
  for (const command of ['mkfifo /etc/passwd', 'ln -s /dev/zero /etc/passwd']) {
    await sandbox.exec(`rm /etc/passwd; ${command}`, { user: '0' });
    await expect(sandbox.exec('true', { user: 'nobody' }), command).rejects.toBeInstanceOf(SandboxRequestError);
    expect((await sandbox.exec('id -u', { user: '7' })).stdout, command).toBe('7\n');
  }
});

test('no path leads the file operations to the socket of the sandbox-agent', async ({ shared: { fs } }) => {
  await fs.symlink('/.berth/private', 'link');
  await expect(fs.readdir('link')).rejects.toMatchObject({ code: 'EACCES' });
  await expect(fs.rm('/.berth/private/wire/agent.sock')).rejects.toMatchObject({ code: 'EACCES' });
  await expect(fs.writeFile('/.berth/private/wire/file', '')).rejects.toMatchObject({ code: 'EACCES' });
});

test('file operations have all groups of the user, as commands do', async ({ sandbox }) => {
  await sandbox.exec('echo "team:x:4000:berth" >> /etc/group', { user: 'root' });
  await sandbox.exec('umask 027; echo shared > /tmp/file', { user: '0:4000' });
  await sandbox.stop();
  await sandbox.start();
  expect((await sandbox.exec('cat /tmp/file')).stdout).toBe('shared\n');
  expect(await sandbox.fs.readFile('/tmp/file')).toBe('shared\n');
});
