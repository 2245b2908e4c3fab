import { expect, test } from 'vitest';
import { Docker } from '../../src/engine/docker/client.ts';

test('an engine behind SSH is asked by SSH, which is loaded then', async () => {
  // Nothing listens at port 1.
  const docker = new Docker({ protocol: 'ssh', host: '127.0.0.1', port: 1, username: 'nobody' });
  await expect(docker.ping()).rejects.toMatchObject({ level: 'client-socket', code: 'ECONNREFUSED' });
});
