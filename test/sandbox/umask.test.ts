import { describe, expect } from 'vitest';
import { InvalidOptionsError } from '../../src/sandbox/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

describe('umask', () => {
  test('is that of one command, with the rights of any user, and of nobody else', async ({ shared: sandbox }) => {
    for (const user of ['root', 'nobody']) {
      const masks = await Promise.all(
        [undefined, 0o027, 0o777, 0].map((umask) =>
          sandbox.exec('umask', { user, ...(umask !== undefined && { umask }) }).then(({ stdout }) => stdout.trim()),
        ),
      );
      expect(masks).toEqual(['0022', '0027', '0777', '0000']);
    }
    await sandbox.exec('touch mine; mkdir ours', { umask: 0o027 });
    expect((await sandbox.exec('stat -c %a mine ours')).stdout).toBe('640\n750\n');
    expect(await sandbox.exec(['no-such-program'], { umask: 0o077 })).toMatchObject({ exitCode: 127 });
    expect((await sandbox.exec('umask')).stdout).toBe('0022\n');
  });

  test('does not reach operations on files that are under way while commands are started', async ({
    shared: sandbox,
  }) => {
    const { fs } = sandbox;
    const start = () => sandbox.exec(['true'], { umask: 0o777 });
    for (let round = 0; round < 100; round++) {
      // What leaves in one turn arrives together.
      await Promise.all([fs.mkdir(`mkdir-${round}`), start(), fs.writeFile(`write-${round}/file`, 'x'), start()]);
      const appended = fs.appendFile(`append-${round}`, 'x');
      await Promise.all([appended, start(), fs.copy(`write-${round}`, `copy-${round}`), start()]);
    }
    const { stdout } = await sandbox.exec('find *-* -type d -printf "d %m\\n" -o -printf "f %m\\n" | sort | uniq -c');
    expect(stdout.trim().split(/\s*\n\s*/)).toEqual(['300 d 755', '300 f 644']);
  });

  test('is refused when it is none', async ({ shared: sandbox }) => {
    for (const umask of [-1, 0o1000, 1.5, '027']) {
      // @ts-expect-error one is no number
      await expect(sandbox.exec('true', { umask })).rejects.toBeInstanceOf(InvalidOptionsError);
    }
  });
});

describe('login', () => {
  test('reads the profiles of the system and of the user', async ({ sandbox }) => {
    await sandbox.exec('echo "export SYSTEM=yes" > /etc/profile.d/test.sh', { user: 'root' });
    await sandbox.exec('echo "export OWN=yes" >> ~/.profile');
    const print = 'echo "$SYSTEM $OWN $GIVEN $PWD"; exit 3';
    const env = { GIVEN: 'too' };
    expect(await sandbox.exec(print, { env })).toMatchObject({ stdout: '  too /workspace\n', exitCode: 3 });
    expect(await sandbox.exec(print, { env, login: true })).toMatchObject({
      stdout: 'yes yes too /workspace\n',
      exitCode: 3,
    });
    await using process = await sandbox.spawn(print, { login: true });
    expect(await process.wait()).toMatchObject({ stdout: 'yes yes  /workspace\n' });
  });

  test('is refused for an array, which no shell runs', async ({ shared: sandbox }) => {
    await expect(sandbox.exec(['true'], { login: true })).rejects.toMatchObject({
      name: 'InvalidOptionsError',
      meta: { issues: [{ path: 'login' }] },
    });
  });
});
