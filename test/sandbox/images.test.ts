import { chown, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect } from 'vitest';
import { ContainerStartError } from '../../src/engine/errors.ts';
import { fetchBusybox, importImage } from '../support/images.ts';
import { test } from '../support/sandbox-fixture.ts';

const docker = new Docker();

const images = {
  busybox: { shell: true, config: ['ENTRYPOINT ["false"]'], passwd: undefined },
  scratch: { shell: false, config: [], passwd: undefined },
  distroless: {
    shell: false,
    config: ['USER nonroot', 'WORKDIR /home/nonroot', 'ENV PATH=/', 'ENTRYPOINT ["/busybox"]'],
    passwd: 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n',
  },
  places: { shell: true, config: ['USER 1234', 'WORKDIR /not/there', 'VOLUME /workspace'], passwd: undefined },
  others: { shell: true, config: ['USER 1234'], passwd: 'x:x:1234:1234::/:/bin/sh\n' },
  nobody: { shell: true, config: ['USER who-is-that'], passwd: undefined },
} as const;
const nameOf = (image: keyof typeof images) => `berth-test-${image}:${process.pid}`;

let folder: string;

/** Each is one static program, and what an image may have besides. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-test-images-'));
  const busybox = await fetchBusybox(folder);
  for (const [name, { shell, config, passwd }] of Object.entries(images)) {
    const root = join(folder, name);
    const program = shell ? 'bin/busybox' : 'busybox';
    await mkdir(join(root, shell ? 'bin' : ''), { recursive: true });
    await cp(busybox, join(root, program));
    if (shell) for (const applet of ['sh', 'id', 'stat', 'touch']) await symlink('busybox', join(root, 'bin', applet));
    if (passwd) {
      await mkdir(join(root, 'etc'));
      await writeFile(join(root, 'etc/passwd'), passwd);
      if (name === 'others') await chown(join(root, 'etc'), 1234, 1234);
    }
    await importImage(root, nameOf(name as keyof typeof images), config);
  }
});

afterAll(async () => {
  for (const name of Object.keys(images))
    await docker.getImage(nameOf(name as keyof typeof images)).remove({ force: true });
  await rm(folder, { recursive: true, force: true });
});

test('busybox, without PATH and with an entry point that fails: a shell until that is gone, an array needs none', async ({
  host,
}) => {
  await using sandbox = await host.create({ image: nameOf('busybox') });
  expect((await sandbox.exec('echo $0; pwd; id -u')).stdout).toBe('/bin/sh\n/workspace\n0\n');
  expect((await sandbox.exec('echo in', { login: true, umask: 0o027 })).stdout).toBe('in\n');
  expect((await sandbox.exec(['busybox', 'env'])).stdout).toMatch(/^PATH=.*:\/bin$/m);
  expect((await sandbox.exec(['busybox', 'head', '-n', '1', '/etc/hosts'])).stdout).toBe('127.0.0.1\tlocalhost\n');
  await sandbox.exec(['/bin/busybox', 'rm', '/bin/sh']);
  expect(await sandbox.exec('true')).toMatchObject({ exitCode: 127 });
  expect((await sandbox.exec(['/bin/busybox', 'echo', 'without a shell'])).stdout).toBe('without a shell\n');
});

test('nothing but one static program: commands, files and a terminal', async ({ host }) => {
  await using sandbox = await host.create({ image: nameOf('scratch') });
  expect((await sandbox.exec(['/busybox', 'id', '-u'])).stdout).toBe('0\n');
  expect(await sandbox.exec('true')).toMatchObject({ exitCode: 127 });
  await sandbox.fs.writeFile('dir/file', 'content');
  expect((await sandbox.exec(['/busybox', 'cat', 'dir/file'])).stdout).toBe('content');
  await using terminal = await sandbox.pty({ command: ['/busybox', 'tty'], cols: 80, rows: 24 });
  expect(await terminal.wait()).toMatchObject({ exitCode: 0 });
});

test('no shell, and a user by name: commands are his, and so are the files', async ({ host }) => {
  await using sandbox = await host.create({ image: nameOf('distroless') });
  expect((await sandbox.exec(['busybox', 'sh', '-c', 'echo $(id -u):$(id -g) $HOME $USER'])).stdout).toBe(
    '65532:65532 /home/nonroot nonroot\n',
  );
  await sandbox.fs.writeFile('file', '');
  expect(await sandbox.fs.stat('file')).toMatchObject({ uid: 65_532, gid: 65_532 });
});

test('an /etc of another user: localhost has its name', async ({ host }) => {
  await using sandbox = await host.create({ image: nameOf('others') });
  expect((await sandbox.exec(['busybox', 'stat', '-c', '%u', '/etc'])).stdout).toBe('1234\n');
  expect((await sandbox.exec(['busybox', 'head', '-n', '1', '/etc/hosts'])).stdout).toBe('127.0.0.1\tlocalhost\n');
});

test('a volume at the workspace, a user without a name, a directory that is not there', async ({ host }) => {
  const sandbox = await host.create({ image: nameOf('places') });
  expect((await sandbox.exec('pwd; id -u; touch file; stat -c %u file')).stdout).toBe('/workspace\n1234\n1234\n');
  expect((await sandbox.exec('id -u', { user: '7' })).stdout).toBe('7\n');
  const { Mounts } = await docker.getContainer(`berth-${sandbox.id}`).inspect();
  const volume = Mounts.find(({ Destination }) => Destination === '/workspace')?.Name ?? '';
  expect((await docker.getVolume(volume).inspect()).Name).toBe(volume);
  await sandbox.remove();
  await expect(docker.getVolume(volume).inspect()).rejects.toMatchObject({ statusCode: 404 });
});

test('a user that the image does not know is named before anything runs, and nothing is left', async ({ host }) => {
  const error: unknown = await host.create({ id: 'no-user', image: nameOf('nobody') }).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ContainerStartError);
  expect(String(error)).toContain('who-is-that');
  expect((await host.list()).map(({ id }) => id)).not.toContain('no-user');
});
