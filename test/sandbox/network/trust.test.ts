import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OpenedHost, openHost } from '../../support/sandbox-fixture.ts';

let opened: OpenedHost;
beforeAll(async () => {
  opened = await openHost();
});
afterAll(() => opened[Symbol.asyncDispose]());

const network = { allow: [{ host: 'api.test', methods: ['GET'] }] };

test.each([
  ['a link to itself', 'ln -sfn cert.pem /etc/ssl/cert.pem'],
  ['a FIFO', 'rm -f /etc/ssl/cert.pem; mkfifo /etc/ssl/cert.pem'],
  [
    'a directory',
    'rm -f /etc/berth/authority.pem; mkdir -p /etc/berth/authority.pem/x; touch /etc/ssl/certs/ca-certificates.crt',
  ],
  ['a link to elsewhere', 'rm -r /etc/berth; ln -s /tmp /etc/berth'],
  ['nothing', 'rm -r /etc/berth /etc/ssl /etc/profile.d'],
])('commands go on where root has put %s in the place of certificates', async (_what, command) => {
  await using sandbox = await opened.host.create({ network });
  expect((await sandbox.exec(command, { user: 'root' })).stderr).toBe('');
  expect((await sandbox.exec('echo on; ls /tmp')).stdout).toBe('on\n');
  await sandbox.setNetwork('none');
  await sandbox.setNetwork(network);
  expect((await sandbox.exec('echo on; ls /tmp')).stdout).toBe('on\n');
  await sandbox.remove();
});
