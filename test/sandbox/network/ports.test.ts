import { once } from 'node:events';
import { expect } from 'vitest';
import type { PortChange, Process, Sandbox } from '../../../src/sandbox/index.ts';
import { test } from '../../support/sandbox-fixture.ts';

/** Starts a program of Node that listens at these places, and says when it does. */
async function listen(sandbox: Sandbox, ...places: [port: number, address: string][]): Promise<Process> {
  const code = `
    let open = 0;
    for (const [port, host] of ${JSON.stringify(places)})
      require('net').createServer().listen({ port, host }, () => ++open === ${places.length} && console.log('ready'));`;
  const server = await sandbox.spawn(['node', '-e', code]);
  await once(server.stdout, 'data');
  return server;
}

/** The changes that are told, as text; `next` waits for one. */
function record(sandbox: Sandbox) {
  const told: string[] = [];
  let wake = () => {};
  const stop = sandbox.observePorts(({ port, state }: PortChange) => {
    told.push(`${port} ${state}`);
    wake();
  });
  const next = async () => {
    while (told.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return told.shift();
  };
  return { stop, next, told };
}

test('ports that can be reached are listed, whatever the server is bound to, without those of the sandbox', async ({
  host,
}) => {
  await using sandbox = await host.create({ network: { allow: ['example.com:8443'] } });
  expect(await sandbox.ports()).toEqual([]);
  const places: [number, string][] = [
    [9001, '127.0.0.1'],
    [9002, '0.0.0.0'],
    [80, '::'],
    [9003, '127.0.0.9'],
  ];
  const server = await listen(sandbox, ...places);
  // A name of a rule is listened at from its first use on.
  const used = await sandbox.exec(['node', '-e', `net.connect(8443, 'example.com', () => process.exit(7))`]);
  expect(used.exitCode).toBe(7);
  expect(await sandbox.ports()).toEqual([
    { port: 80, address: '::' },
    { port: 9001, address: '127.0.0.1' },
    { port: 9002, address: '0.0.0.0' },
  ]);
  await server.kill();
  await server.wait();
  expect(await sandbox.ports()).toEqual([]);
});

test('a server at the port of the proxy is told of where there is no proxy', async ({ sandbox }) => {
  await listen(sandbox, [3128, '127.0.0.1']);
  expect(await sandbox.ports()).toEqual([{ port: 3128, address: '127.0.0.1' }]);
});

test('of more ports than can be told of, the lowest are', async ({ sandbox }) => {
  const code = `
    let open = 0;
    for (let port = 20_000; port < 21_500; port++)
      require('net').createServer().listen({ port, host: '127.0.0.1' }, () => ++open === 1500 && console.log('ready'));`;
  const server = await sandbox.spawn(['sh', '-c', `ulimit -n 4096; exec node -e "${code}"`]);
  await once(server.stdout, 'data');
  const ports = await sandbox.ports();
  expect([ports.length, ports[0]?.port, ports[1023]?.port]).toEqual([1_024, 20_000, 21_023]);
});

test('opens and closes are told, over a stop and a start, until nobody wants them any more', async ({ sandbox }) => {
  const first = await listen(sandbox, [9001, '127.0.0.1']);
  const [one, other] = [record(sandbox), record(sandbox)];
  const next = async () => {
    const [told, toldOther] = [await one.next(), await other.next()];
    expect(toldOther).toBe(told);
    return told;
  };
  expect(await next()).toBe('9001 open');
  await listen(sandbox, [9000, '0.0.0.0']);
  expect(await next()).toBe('9000 open');
  await first.kill();
  expect(await next()).toBe('9001 closed');
  await sandbox.stop();
  expect(await next()).toBe('9000 closed');
  await sandbox.start();
  await listen(sandbox, [9002, '::']);
  expect(await next()).toBe('9002 open');
  one.stop();
  await listen(sandbox, [9003, '127.0.0.1']);
  expect(await other.next()).toBe('9003 open');
  expect(one.told).toEqual([]);
  other.stop();
});
