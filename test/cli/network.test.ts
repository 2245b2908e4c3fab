import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished } from 'vitest';
import { test } from './command.ts';

test('a policy is given to a new sandbox, shown, set anew, and holds for each command that is run in it', async ({
  berth,
}) => {
  const server = createServer((_, response) => void response.end('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const rule = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ask = async () => {
    const curl = ['curl', '-sS', '--noproxy', '', `http://${rule}/`];
    const { stdout, stderr } = await berth.run(['sandbox', 'exec', 'cli-network', '--', ...curl]);
    return `${stdout}${stderr}`;
  };
  const network = (...args: string[]) => berth.run(['sandbox', 'network', 'cli-network', ...args]);

  const made = await berth.run([
    'sandbox',
    'create',
    '--id',
    'cli-network',
    '--allow',
    rule,
    '--allow',
    '*.a.test',
    '--json',
  ]);
  expect(JSON.parse(made.stdout)).toMatchObject({ network: { allow: [rule, '*.a.test'] } });
  expect(await ask()).toBe('hello');
  expect(await network()).toMatchObject({ exitCode: 0, stdout: `allow ${rule}\nallow *.a.test` });

  expect(await network('none')).toMatchObject({ exitCode: 0, stdout: 'none' });
  expect(await ask()).toContain('onnect');
  const bad = await network('--allow', '*');
  expect(bad).toMatchObject({ exitCode: 2, stdout: '' });
  expect(bad.stderr).toMatch(/^berth: --allow \(number 1\): would allow every name/);
  const set = await network('--allow', rule, '--json');
  expect(JSON.parse(set.stdout)).toEqual({ id: 'cli-network', network: { allow: [rule] } });
  expect(await ask()).toBe('hello');

  await berth.run(['sandbox', 'stop', 'cli-network']);
  expect(await network()).toMatchObject({ exitCode: 0, stdout: `allow ${rule}` });
  expect((await network('open')).stderr).toContain('berth sandbox start cli-network');
  await berth.run(['sandbox', 'rm', 'cli-network']);
});
