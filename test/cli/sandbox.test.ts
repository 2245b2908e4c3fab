import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { openDocker, test } from './command.ts';

test('makes, lists, uses and removes a sandbox', async ({ berth }) => {
  const created = await berth.run(['sandbox', 'create', '--id', 'cli-one', '--label', 'for=test', '--json']);
  expect(JSON.parse(created.stdout)).toMatchObject({ id: 'cli-one', state: 'running', labels: { for: 'test' } });

  const listed = await berth.run(['sandbox', 'ls', '--label', 'for=test', '--json']);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ id: 'cli-one' }]);

  const ran = await berth.run(['sandbox', 'exec', 'cli-one', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
  expect(ran).toMatchObject({ exitCode: 7, stdout: 'out', stderr: 'err' });

  const signalled = await berth.run(['sandbox', 'exec', 'cli-one', '--', 'bash', '-c', 'kill -35 $$']);
  expect(signalled.exitCode).toBe(128 + 35);

  const removed = await berth.run(['sandbox', 'rm', 'cli-one', '--json']);
  expect(JSON.parse(removed.stdout)).toEqual({ removed: ['cli-one'], failed: [] });
  expect(JSON.parse((await berth.run(['sandbox', 'ls', '--json'])).stdout)).toEqual([]);
});

test('stops, starts, pauses and resumes sandboxes, and says what one uses', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-life']);
  const state = async () => JSON.parse((await berth.run(['sandbox', 'ls', '--json'])).stdout)[0].state;
  await berth.run(['sandbox', 'exec', 'cli-life', '--', 'touch', 'file']);
  expect(await berth.run(['sandbox', 'stop', 'cli-life'])).toMatchObject({ exitCode: 0, stdout: 'cli-life' });
  expect(await state()).toBe('exited');
  const ended = await berth.run(['sandbox', 'exec', 'cli-life', '--', 'true']);
  expect(ended.stderr).toContain('berth sandbox start cli-life');
  expect(ended.exitCode).toBe(1);
  const started = await berth.run(['sandbox', 'start', 'cli-life', '--json']);
  expect(JSON.parse(started.stdout)).toEqual({ started: ['cli-life'], failed: [] });
  expect(await berth.run(['sandbox', 'exec', 'cli-life', '--', 'ls'])).toMatchObject({ stdout: 'file' });

  const { exitCode, stdout } = await berth.run(['sandbox', 'stats', 'cli-life', '--disk']);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(
    /^ID .*\ncli-life +running +\d+% of \d+% +\S+ +[\d.]+ MiB of 2 GiB +\d+ of 1024 +[\d.]+ \w+ +/,
  );
  const json = JSON.parse((await berth.run(['sandbox', 'stats', 'cli-life', '--json'])).stdout);
  expect(json).toMatchObject({ id: 'cli-life', state: 'running', memory: { limit: 2 * 1024 ** 3 } });

  expect((await berth.run(['sandbox', 'pause', 'cli-life'])).exitCode).toBe(0);
  expect(await state()).toBe('paused');
  expect((await berth.run(['sandbox', 'stats', 'cli-life'])).stdout).toMatch(/cli-life +paused/);
  const some = await berth.run(['sandbox', 'resume', 'cli-none', 'cli-life']);
  expect(some).toMatchObject({ exitCode: 1, stdout: 'cli-life' });
  expect(some.stderr).toMatch(/^berth: There is no sandbox cli-none\./);
  expect(await state()).toBe('running');
  const taken = await berth.run(['sandbox', 'create', '--id', 'cli-life']);
  expect(taken.stderr).toContain('berth sandbox exec cli-life -- COMMAND');
  await berth.run(['sandbox', 'rm', 'cli-life']);
});

test('lists processes, and prints what is kept of their output', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-logs']);
  const exec = (command: string) => berth.run(['sandbox', 'exec', 'cli-logs', '--', 'sh', '-c', command]);
  await exec('echo out; echo err >&2; exit 3');
  await exec('echo "left €"');
  const [first, second] = JSON.parse((await berth.run(['sandbox', 'ps', 'cli-logs', '--all', '--json'])).stdout);
  expect(first).toMatchObject({ state: 'ended', end: { exitCode: 3 }, pids: [] });
  const shown = (await berth.run(['sandbox', 'ps', 'cli-logs', '--all'])).stdout.split('\n');
  expect(shown).toHaveLength(3);
  expect(shown[1]).toMatch(/^p_\w+ +ended: 3 +.* +8 B +sh -c echo out; echo err >&2; exit 3$/);

  await berth.run(['sandbox', 'stop', 'cli-logs']);
  await berth.run(['sandbox', 'start', 'cli-logs']);
  const one = await berth.run(['sandbox', 'logs', 'cli-logs', first.id, '--follow']);
  expect(one).toMatchObject({ exitCode: 0, stdout: 'out', stderr: 'err' });
  const all = await berth.run(['sandbox', 'logs', 'cli-logs']);
  expect(all.stdout).toMatch(/^==> p_\w+ sh -c echo out.* <==\nout\n==> p_\w+ .* <==\nleft €$/);
  const lines = (await berth.run(['sandbox', 'logs', 'cli-logs', second.id, '--json'])).stdout.split('\n');
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { process: second.id, output: 'stdout', text: 'left €\n' },
    { process: second.id, state: 'ended', end: { exitCode: 0 } },
  ]);
  expect(await berth.run(['sandbox', 'logs', 'cli-logs', '--follow'])).toMatchObject({ exitCode: 2 });
  expect(await berth.run(['sandbox', 'logs', 'cli-logs', 'p_none'])).toMatchObject({ exitCode: 1 });
  await berth.run(['sandbox', 'rm', 'cli-logs']);
});

test('makes one sandbox for a key, and refuses the key with other options', async ({ berth }) => {
  const ask = (...options: string[]) => berth.run(['sandbox', 'create', '--key', 'k', '--pids', '50', ...options]);
  const first = await ask();
  expect(await ask()).toMatchObject({ exitCode: 0, stdout: first.stdout });
  const other = await ask('--idle-timeout', '60000');
  expect(other).toMatchObject({ exitCode: 2, stdout: '' });
  expect(other.stderr).toMatch(/^berth: The key "k" gives sandbox .* idleTimeout\..* berth sandbox rm k-/);
  await berth.run(['sandbox', 'rm', first.stdout]);
});

test('a command that takes too long gives 124, and what it said until then', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-slow']);
  const { exitCode, stdout } = await berth.run([
    'sandbox',
    'exec',
    'cli-slow',
    '--timeout',
    '1500',
    '--json',
    '--',
    'sh',
    '-c',
    'echo so far; sleep 1000',
  ]);
  expect(exitCode).toBe(124);
  expect(JSON.parse(stdout)).toMatchObject({ timedOut: true, stdout: 'so far\n' });
  await berth.run(['sandbox', 'rm', 'cli-slow']);
});

test('copies files and directories in and out', async ({ berth }) => {
  const source = join(berth.stateDir, 'note.txt');
  await writeFile(source, 'hello\n');
  await berth.run(['sandbox', 'create', '--id', 'cli-copy']);
  const copied = await berth.run(['sandbox', 'cp', source, 'cli-copy:notes/', '--json']);
  expect(copied.exitCode, copied.stderr).toBe(0);
  const path: string = JSON.parse(copied.stdout).copied;
  const back = join(berth.stateDir, 'back.txt');
  const out = await berth.run(['sandbox', 'cp', path, back]);
  expect(out.exitCode, out.stderr).toBe(0);
  expect(await readFile(back, 'utf8')).toBe('hello\n');
  await berth.run(['sandbox', 'rm', 'cli-copy']);
});

test('a sandbox that is not there is one line and exit code 2', async ({ berth }) => {
  const { exitCode, stderr } = await berth.run(['sandbox', 'exec', 'no-such-sandbox', '--', 'true']);
  expect(stderr).toMatch(/no-such-sandbox/);
  expect(stderr.split('\n')).toHaveLength(1);
  expect(exitCode).toBe(2);
});

test('gc says what it would remove and removes nothing that is in use', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-kept']);
  const { stdout } = await berth.run(['gc', '--dry-run', '--json']);
  expect(JSON.parse(stdout)).toMatchObject({ dryRun: true });
  expect((await berth.run(['gc'])).exitCode).toBe(0);
  expect(await berth.containers()).toEqual(['berth-cli-kept']);
  await berth.run(['sandbox', 'rm', 'cli-kept']);
});

test('rm tells of ids that are not there, and removes the others', async ({ berth }) => {
  const unknown = await berth.run(['sandbox', 'rm', 'cli-none']);
  expect(unknown).toMatchObject({ exitCode: 1, stdout: '' });
  expect(unknown.stderr).toMatch(/^berth: There is no sandbox cli-none\./);

  await berth.run(['sandbox', 'create', '--id', 'cli-there']);
  const { exitCode, stdout, stderr } = await berth.run(['sandbox', 'rm', 'cli-no', 'cli-there', 'cli-nor', '--json']);
  expect(JSON.parse(stdout)).toEqual({ removed: ['cli-there'], failed: ['cli-no', 'cli-nor'] });
  expect(stderr.split('\n')).toHaveLength(2);
  expect(exitCode).toBe(1);
  expect(await berth.containers()).toEqual([]);
});

test('Ctrl-C ends the copy of a directory into a sandbox, and leaves none of it there', async ({ berth }) => {
  const from = join(berth.stateDir, 'large');
  await mkdir(from);
  await writeFile(join(from, 'file'), '');
  await truncate(join(from, 'file'), 64 * 1024 ** 3); // takes no room here, and longer than anybody waits
  await berth.run(['sandbox', 'create', '--id', 'cli-upload']);
  const copying = berth.run(['sandbox', 'cp', from, 'cli-upload:.']);
  const files = 'until find . -type f | grep -q .; do :; done';
  expect((await berth.run(['sandbox', 'exec', 'cli-upload', '--', 'sh', '-c', files])).exitCode).toBe(0);
  copying.kill('SIGINT');
  expect(await copying).toMatchObject({ exitCode: 130, stdout: '', stderr: '' });
  const left = await berth.run(['sandbox', 'exec', 'cli-upload', '--', 'ls', '-A']);
  expect(left).toMatchObject({ exitCode: 0, stdout: '' });
  await berth.run(['sandbox', 'rm', 'cli-upload']);
});

test('copies no more out of a sandbox than it may', async ({ berth }) => {
  await berth.run(['sandbox', 'create', '--id', 'cli-huge']);
  // A hole takes no room in the sandbox; read, it is 1 TiB.
  const make = 'mkdir tree && truncate -s 1T tree/file && mkdir small && echo hello > small/file';
  await berth.run(['sandbox', 'exec', 'cli-huge', '--', 'sh', '-c', make]);
  const to = join(berth.stateDir, 'to');
  await mkdir(to);
  for (const [from, ...options] of [['tree'], ['small', '--max-size', '8000'], ['small/file', '--max-size', '5']]) {
    const { exitCode, stderr } = await berth.run(['sandbox', 'cp', `cli-huge:${from}`, to, ...options]);
    expect(stderr).toMatch(/^berth: The copy takes more than \d+ bytes\. --max-size BYTES allows more/);
    expect(exitCode).toBe(1);
    expect(await readdir(to)).toEqual([]);
  }
  const small = await berth.run(['sandbox', 'cp', 'cli-huge:small', to, '--max-size', '9000']);
  expect(small, small.stderr).toMatchObject({ exitCode: 0 });
  expect(await readFile(join(to, 'small/file'), 'utf8')).toBe('hello\n');
  await berth.run(['sandbox', 'rm', 'cli-huge']);
});

test('Ctrl-C ends a copy also when the sandbox does not answer any more', async ({ berth }) => {
  const from = join(berth.stateDir, 'large');
  await writeFile(from, '');
  await truncate(from, 64 * 1024 ** 3);
  await berth.run(['sandbox', 'create', '--id', 'cli-frozen']);
  const copying = berth.run(['sandbox', 'cp', from, 'cli-frozen:file']);
  const files = 'until find . -type f -size +1M | grep -q .; do :; done';
  await berth.run(['sandbox', 'exec', 'cli-frozen', '--', 'sh', '-c', files]);
  await (await openDocker()).getContainer('berth-cli-frozen').pause();
  copying.kill('SIGINT');
  const { exitCode, stderr } = await copying;
  expect(stderr).toMatch(/^berth: the sandbox does not answer/);
  expect(exitCode).toBe(130);
  await berth.run(['sandbox', 'rm', 'cli-frozen']);
});
