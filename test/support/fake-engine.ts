import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { onTestFinished } from 'vitest';

/** An engine that answers as it is told, until the test is over. */
export async function fakeEngine(answer: RequestListener): Promise<Docker> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-engine-'));
  const server = createServer(answer);
  const socketPath = join(folder, 'engine.sock');
  await once(server.listen(socketPath), 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    await once(server.close(), 'close');
    await rm(folder, { recursive: true, force: true });
  });
  return new Docker({ socketPath, host: undefined });
}
