import { release } from 'node:os';
import { expect, test } from 'vitest';
import { isRemote, pickTransport } from '../../../src/engine/transport/pick.ts';

test.runIf(process.platform === 'linux')('takes the socket only where the container is on this kernel', () => {
  const here = { isLocalSocket: true, kernelVersion: release() };
  expect(pickTransport(here)).toBe('unix');
  expect(pickTransport({ ...here, runtimePath: '/usr/bin/crun' })).toBe('unix');
  expect(pickTransport({ ...here, runtimePath: '/usr/bin/runsc' })).toBe('exec');
  expect(pickTransport({ ...here, runtimePath: 'io.containerd.kata.v2' })).toBe('exec');
  expect(pickTransport({ ...here, kernelVersion: '4.4.0' })).toBe('exec');
  expect(pickTransport({ ...here, isLocalSocket: false })).toBe('exec');
});

test('another machine is one that is not reached by a name of this one', () => {
  for (const host of ['localhost', '127.0.0.1', '127.0.1.1', '::1', '[::1]']) expect(isRemote(host)).toBe(false);
  for (const host of ['192.0.2.2', 'docker', '127.0.0.1.example', '::2']) expect(isRemote(host)).toBe(true);
});
