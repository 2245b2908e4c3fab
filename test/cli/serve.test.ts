import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, onTestFinished } from 'vitest';
import { type Cli, test } from './command.ts';

/** Starts a command that goes on until it is interrupted; resolves with the line that it prints. */
async function start(berth: Cli, args: string[]) {
  const run = berth.run(args);
  onTestFinished(() => void run.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: run.stdout }), 'line')) as [string];
  return { run, line }; // a promise of its own kind: bare, it would be awaited
}

async function sandboxWithServer(berth: Cli, id: string): Promise<void> {
  await berth.run(['sandbox', 'create', '--id', id]);
  const code = `http.createServer((request, answer) => answer.end('asked for ' + request.url)).listen(3000, () => console.log('ready'))`;
  await start(berth, ['sandbox', 'exec', id, '--', 'node', '-e', code]);
}

test('serve serves the ports of sandboxes until it is interrupted', async ({ berth }) => {
  await sandboxWithServer(berth, 'cli-serve');
  const { run, line } = await start(berth, ['serve', '--port', '0', '--json']);
  const { url, port, ...rest } = JSON.parse(line);
  expect([url, rest]).toEqual([`http://localhost:${port}/`, {}]);
  const path = `http://127.0.0.1:${port}/sandboxes/cli-serve/ports/3000/page`;
  expect(await (await fetch(path)).text()).toBe('asked for /page');
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toContain(`http://3000-cli-serve.localhost:${port}/`);
  const taken = await berth.run(['serve', '--port', `${port}`]);
  expect(taken).toMatchObject({
    exitCode: 2,
    stdout: '',
    stderr: expect.stringMatching(/taken: choose another one with --port/),
  });
  run.kill('SIGTERM');
  expect(await run).toMatchObject({ exitCode: 143, stderr: '' });

  const ports = await berth.run(['sandbox', 'ports', 'cli-serve']);
  expect(ports.stdout).toBe('PORT  ADDRESS\n3000  ::');
  expect(JSON.parse((await berth.run(['sandbox', 'ports', 'cli-serve', '--json'])).stdout)).toEqual([
    { port: 3000, address: '::' },
  ]);
  await berth.run(['sandbox', 'rm', 'cli-serve']);
});

test('serve lets nobody in without a token where others than this machine reach it', async ({ berth }) => {
  const { run, line } = await start(berth, ['serve', '--host', '0.0.0.0', '--port', '0']);
  const [, base = '', token = ''] = /^(http:\/\/localhost:\d+\/)\?berth_token=([\w-]{32})$/.exec(line) ?? [];
  expect((await fetch(base)).status).toBe(401);
  expect((await fetch(base, { headers: { 'x-berth-token': token } })).status).toBe(200);
  run.kill('SIGINT');
  expect(await run).toMatchObject({ exitCode: 130 });
  for (const wrong of [
    ['--token', 'short'],
    ['--port', '70000'],
    ['--port', '1.5'],
    ['--host', 'no such host'],
  ]) {
    const { exitCode, stderr } = await berth.run(['serve', ...wrong]);
    expect([wrong, exitCode, stderr.split('\n').length]).toEqual([wrong, 2, 1]);
  }
});

test('sandbox expose reaches a server until it is interrupted', async ({ berth }) => {
  await sandboxWithServer(berth, 'cli-expose');
  const open = await start(berth, ['sandbox', 'expose', 'cli-expose', '3000']);
  expect(await (await fetch(`${open.line}page`)).text()).toBe('asked for /page');
  const closed = await start(berth, ['sandbox', 'expose', 'cli-expose', '3000', '--token', '--json']);
  const { url, token } = JSON.parse(closed.line);
  expect((await fetch(url)).status).toBe(401);
  expect(await (await fetch(`${url}/page?berth_token=${token}`)).text()).toBe('asked for /page');
  for (const { run } of [open, closed]) {
    run.kill('SIGINT');
    expect(await run).toMatchObject({ exitCode: 130, stderr: '' });
  }
  expect(await berth.run(['sandbox', 'expose', 'cli-expose', '0'])).toMatchObject({ exitCode: 2, stdout: '' });
  expect(await berth.run(['sandbox', 'expose', 'cli-none', '80'])).toMatchObject({ exitCode: 2, stdout: '' });
  await berth.run(['sandbox', 'rm', 'cli-expose']);
});
