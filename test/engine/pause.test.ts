import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { expect, onTestFinished, test } from 'vitest';
import { pauseContainer } from '../../src/engine/docker/pause.ts';

const unable = 'Cannot pause container c: OCI runtime pause failed: unable to freeze: unknown';

/** A container of an engine that refuses to pause it with these messages, one for each time that it is asked. */
async function refusing(messages: string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-pause-'));
  let asked = 0;
  const server = createServer((_, response) => {
    const message = messages[asked++];
    response.statusCode = message === undefined ? 204 : 500;
    response.end(message === undefined ? '' : JSON.stringify({ message }));
  });
  const socketPath = join(folder, 'engine.sock');
  await once(server.listen(socketPath), 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    await once(server.close(), 'close');
    await rm(folder, { recursive: true, force: true });
  });
  return { container: new Docker({ socketPath, host: undefined }).getContainer('c'), asked: () => asked };
}

test('a container that was too busy to freeze is paused all the same', async () => {
  const { container, asked } = await refusing([unable, unable]);
  await pauseContainer(container);
  expect(asked()).toBe(3);
});

test('one that never freezes, or can not be paused for another reason, says so', async () => {
  const busy = await refusing(Array<string>(10).fill(unable));
  await expect(pauseContainer(busy.container)).rejects.toThrow('unable to freeze');
  expect(busy.asked()).toBe(5);
  const stopped = await refusing(['Container c is not running']);
  await expect(pauseContainer(stopped.container)).rejects.toThrow('is not running');
  expect(stopped.asked()).toBe(1);
});
