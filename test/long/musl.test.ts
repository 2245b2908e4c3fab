import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { afterAll, beforeAll, expect } from 'vitest';
import { fetchBusybox, importImage } from '../support/images.ts';
import { test } from '../support/sandbox-fixture.ts';
import { install, reasonToSkip } from './engines/second-engine.ts';

const image = `berth-test-musl:${process.pid}`;
let folder: string;

const program = `
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
  struct passwd *me = getpwuid(getuid());
  printf("%s in %s, preload %s\\n", me ? me->pw_name : "?", getcwd(0, 0), getenv("LD_PRELOAD") ? "set" : "none");
  return isatty(0) ? 7 : 0;
}
`;

/** As Alpine is: the only libc is musl, the shell is busybox, and programs are linked with that libc as they start. */
beforeAll(async () => {
  if (reasonToSkip) return;
  await install({ gcc: 'gcc', 'musl-gcc': 'musl-tools' });
  folder = await mkdtemp(join(tmpdir(), 'berth-test-musl-'));
  const root = join(folder, 'root');
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(join(root, 'lib'));
  await mkdir(join(root, 'etc'));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n');
  await cp(await fetchBusybox(folder), join(root, 'bin/busybox'));
  await symlink('busybox', join(root, 'bin/sh'));
  const loader = (await readdir('/lib')).find((name) => name.startsWith('ld-musl-')) ?? '';
  await cp(join('/lib', loader), join(root, 'lib', basename(loader)), { dereference: true });
  await writeFile(join(folder, 'program.c'), program);
  await execa('musl-gcc', ['-o', join(root, 'bin/program'), join(folder, 'program.c')]);
  await importImage(root, image, ['USER node']);
}, 300_000);

afterAll(async () => {
  if (reasonToSkip) return;
  await new Docker().getImage(image).remove({ force: true });
  await rm(folder, { recursive: true, force: true });
});

test.skipIf(reasonToSkip)(
  `programs of an image whose libc is musl run as they do without the sandbox-agent${reasonToSkip ? ` (${reasonToSkip})` : ''}`,
  async ({ host }) => {
    await using sandbox = await host.create({ image });
    expect(await sandbox.exec('program')).toMatchObject({ stdout: 'node in /workspace, preload none\n', exitCode: 0 });
    expect(await sandbox.exec(['program'], { user: 'root', cwd: '/etc' })).toMatchObject({
      stdout: 'root in /etc, preload none\n',
      exitCode: 0,
    });
    await using terminal = await sandbox.pty({ command: ['program'], cols: 80, rows: 24 });
    expect(await terminal.wait()).toMatchObject({ exitCode: 7 });
    await sandbox.fs.writeFile('script', '#!/bin/sh\nexec program\n');
    await sandbox.fs.chmod('script', 0o755);
    expect((await sandbox.exec('./script | busybox cat')).stdout).toBe('node in /workspace, preload none\n');
    expect((await sandbox.fs.stat('script')).uid).toBe(1000);
  },
);
