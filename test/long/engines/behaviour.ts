import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { SandboxHost } from '../../../src/sandbox/host.ts';
import type { CreateOptions } from '../../../src/sandbox/options.ts';

/** What a sandbox does on every engine, `wire` being how it must be reached there. */
export function testSandboxes(
  host: () => SandboxHost,
  wireOf: (sandboxId: string) => Promise<string | undefined>,
  { options = {}, wire, canPause = true }: { options?: CreateOptions; wire: 'unix' | 'exec'; canPause?: boolean },
): void {
  test('runs commands, with input, output and exit codes, as the user of the image', async () => {
    await using sandbox = await host().create(options);
    expect(await wireOf(sandbox.id)).toBe(wire);
    expect(await sandbox.exec('cat; echo problem >&2; exit 3', { stdin: 'input' })).toMatchObject({
      stdout: 'input',
      stderr: 'problem\n',
      exitCode: 3,
    });
    expect((await sandbox.exec(['id', '-un'])).stdout).toBe('berth\n');
    const bytes = Buffer.alloc(3_000_000, 'a stream of input ');
    const counted = await sandbox.exec('wc -c', { stdin: Readable.from([bytes]) });
    expect(counted.stdout.trim()).toBe(`${bytes.length}`);
    expect((await sandbox.exec(['no-such-program'])).exitCode).toBe(127);
  });

  test('ends a tree of processes at a timeout, also a child with a session of its own', async () => {
    await using sandbox = await host().create(options);
    const result = await sandbox.exec('setsid sleep 1000 & sleep 1000', { timeout: 300 });
    expect(result).toMatchObject({ timedOut: true });
    expect(await sandbox.processes()).toEqual([]);
  });

  test('writes and reads files, and copies directories both ways', async () => {
    await using sandbox = await host().create(options);
    const folder = await mkdtemp(join(tmpdir(), 'berth-test-copy-'));
    try {
      const bytes = Buffer.alloc(2_000_000, 'some content ');
      await sandbox.fs.writeFile('file', bytes);
      expect(bytes.equals(await sandbox.fs.readFileBuffer('file'))).toBe(true);
      await writeFile(join(folder, 'sent'), 'from the host');
      await sandbox.fs.upload(folder, 'copied');
      expect(await sandbox.fs.readFile('copied/sent')).toBe('from the host');
      await sandbox.fs.upload(sandbox.fs.download('copied'), 'again');
      expect(await sandbox.fs.readFile('again/copied/sent')).toBe('from the host');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('lets programs reach what its policy allows, and has them trust the host that puts a secret in', async () => {
    const seen: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      response.end('reached');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const place = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const secrets = [{ name: 'TOKEN', value: 'not-in-the-sandbox', hosts: [place] }];
      await using sandbox = await host().create({
        ...options,
        network: { allow: [place, 'allowed.test:443'], secrets },
      });
      const ask = `curl -sS --noproxy '' -H "Authorization: Bearer $TOKEN" http://${place}/`;
      expect(await sandbox.exec(ask)).toMatchObject({ stdout: 'reached', stderr: '' });
      expect(seen).toEqual(['Bearer not-in-the-sandbox']);
      expect((await sandbox.exec(`curl -sS http://refused.test/`)).stdout).toContain('no rule allows refused.test:80');
      expect((await sandbox.exec('getent hosts allowed.test; getent hosts refused.test')).stdout).toMatch(
        /^127\.64\.\S+ +allowed\.test\n$/,
      );
      expect(
        (await sandbox.exec('grep -lr "Berth: the host" /etc/ssl/certs/ca-certificates.crt "$SSL_CERT_FILE"')).stdout,
      ).toBe('/etc/ssl/certs/ca-certificates.crt\n/etc/berth/certificates.pem\n');
    } finally {
      server.close();
    }
  });

  test('tells of the ports at which servers listen, and exposes them', async () => {
    await using sandbox = await host().create(options);
    const opened = new Promise<number>((resolve) => {
      sandbox.observePorts(({ port, state }) => state === 'open' && resolve(port));
    });
    await sandbox.spawn(['node', '-e', `http.createServer((_, answer) => answer.end('here')).listen(8080)`]);
    expect(await opened).toBe(8080);
    await using exposed = await sandbox.expose(8080);
    expect(await (await fetch(exposed.url)).text()).toBe('here');
  });

  test('has terminals', async () => {
    await using sandbox = await host().create(options);
    await using terminal = await sandbox.pty({ cols: 91, rows: 33, command: 'stty size; tty -s && read line; exit 7' });
    const screen = terminal.output.toArray();
    await terminal.write('go\r');
    expect(await terminal.wait()).toMatchObject({ exitCode: 7 });
    expect(Buffer.concat(await screen).toString()).toContain('33 91');
  });

  test('ends with a session what was started in it, and nothing else', async () => {
    await using sandbox = await host().create(options);
    const session = await sandbox.session({ env: { WHOSE: 'mine' }, cwd: '/tmp' });
    expect((await session.exec('echo $WHOSE in $PWD')).stdout).toBe('mine in /tmp\n');
    await session.exec('setsid sleep 1001 >/dev/null 2>&1 &');
    const other = await sandbox.spawn('sleep 1002');
    expect(await sandbox.processes()).toHaveLength(2);
    await session.close();
    expect((await sandbox.processes()).map(({ id }) => id)).toEqual([other.id]);
  });

  test('starts a command once for a key, and gives its output again from any byte on', async () => {
    await using sandbox = await host().create(options);
    const line = 'echo once >> starts; printf 0123456789; sleep 0.5';
    const [first, second] = await Promise.all([
      sandbox.exec(line, { key: 'only' }),
      sandbox.exec(line, { key: 'only' }),
    ]);
    expect([first.stdout, second.stdout]).toEqual(['0123456789', '0123456789']);
    expect(await sandbox.fs.readFile('starts')).toBe('once\n');
    const process_ = await sandbox.spawn('printf 0123456789');
    await process_.wait();
    const again = await sandbox.attach(process_.id, { stdout: 4 });
    expect(Buffer.concat(await again.stdout.toArray()).toString()).toBe('456789');
  });

  test('finds files and what is in them, and tells of changes', async () => {
    await using sandbox = await host().create(options);
    await sandbox.fs.writeFile('src/deep/one.ts', 'a needle');
    await sandbox.fs.writeFile('src/two.md', 'hay');
    expect((await sandbox.fs.glob('**/*.ts')).paths).toEqual(['src/deep/one.ts']);
    expect((await sandbox.fs.grep('needle')).matches).toMatchObject([{ path: 'src/deep/one.ts', line: 1 }]);
    await using changes = sandbox.fs.watch('src', { recursive: true });
    await changes.ready;
    await sandbox.exec('echo more >> src/deep/one.ts; mv src/two.md src/deep/');
    for await (const change of changes) {
      if (change.type !== 'rename') continue;
      expect(change).toMatchObject({ from: '/workspace/src/two.md', path: '/workspace/src/deep/two.md' });
      break;
    }
  });

  test.skipIf(canPause)('has no forks, whose files would have to stand still, and says so', async () => {
    await using parent = await host().create(options);
    await expect(host().fork(parent, { keys: ['first'], options })).rejects.toMatchObject({
      code: 'engine_error',
      message: expect.stringMatching(/pause/),
    });
    expect((await parent.exec('echo goes on')).stdout).toBe('goes on\n');
    expect((await host().list()).map(({ id }) => id)).toEqual([parent.id]);
  });

  test.skipIf(!canPause)('has forks with its files, and leaves no image', async () => {
    await using parent = await host().create({ ...options, env: { OF_PARENT: 'x' }, labels: { of: 'parent' } });
    await parent.exec('mkdir sub && echo one > sub/file && chmod 640 sub/file && ln sub/file hard && rm ~/.profile');
    const [first] = await host().fork(parent, { keys: ['first'], options });
    await first?.exec('echo two > second');
    const [second] = await host().fork(first ?? parent, { keys: ['second'], options });
    if (!first || !second) throw new Error('there is one a key');
    // Debian's gVisor refuses what `stat` and `ls` of its coreutils ask for.
    expect((await second.exec("find sub/file ~/.profile -printf '%m %u %n\\n'; cat hard second")).stdout).toBe(
      '640 berth 2\none\ntwo\n',
    );
    expect((await second.exec('env')).stdout).not.toContain('OF_PARENT');
    expect(await second.info()).toMatchObject({ image: (await parent.info()).image, labels: {}, key: 'second' });
    expect(await parent.fs.readFile('sub/file')).toBe('one\n');
    await first.remove();
    await second.remove();
    expect((await host().collect({ dryRun: true })).removed.filter(({ kind }) => kind === 'image')).toEqual([]);
  });

  test('stops, starts with its files, and says what state it is in', async () => {
    await using sandbox = await host().create(options);
    await sandbox.fs.writeFile('kept', 'still here');
    await sandbox.stop();
    expect(await sandbox.info()).toMatchObject({ state: 'exited', end: { reason: 'stopped' } });
    await sandbox.start();
    expect(await sandbox.fs.readFile('kept')).toBe('still here');
    expect(await sandbox.info()).toMatchObject({ state: 'running' });
  });

  test('an end by others is told to a command that runs', async () => {
    await using sandbox = await host().create(options);
    let removal: Promise<void> | undefined;
    const running = sandbox.exec('echo up; exec sleep 1000', {
      onStdout: () => {
        removal = host().remove(sandbox.id);
      },
    });
    await expect(running).rejects.toMatchObject({ code: 'sandbox_died' });
    await removal;
  });
}
