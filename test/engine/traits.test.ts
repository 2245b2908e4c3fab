import type Docker from 'dockerode';
import { expect, test } from 'vitest';
import { hasRuntime, runtimePath } from '../../src/engine/docker/runtime.ts';
import { readTraits } from '../../src/engine/docker/traits.ts';
import { fakeEngine } from '../support/fake-engine.ts';

/** An engine that gives these answers. */
function engineOf(answers: Record<string, unknown>): Promise<Docker> {
  return fakeEngine(({ url = '' }, response) => response.end(JSON.stringify(answers[url] ?? {})));
}

test('of Podman’s runtimes counts that of its service, by name or by path, and its own word about itself', async () => {
  const podman = (DefaultRuntime: string) =>
    engineOf({
      '/version': { Components: [{ Name: 'Podman Engine' }] },
      // As 4.3 answers: with what it has heard of, whatever there is, and without a word about being rootless.
      '/info': {
        DefaultRuntime,
        Runtimes: { crun: { path: '/usr/bin/crun' }, kata: { path: '/usr/bin/kata-runtime' } },
      },
      '/v4.0.0/libpod/info': { host: { security: { rootless: true }, cgroupControllers: [] } },
    });
  const traits = await readTraits(await podman('crun'));
  expect(traits).toMatchObject({ isRootless: true, ulimits: [], unenforced: { memory: {}, cpus: {}, pids: {} } });
  expect(['crun', 'kata', 'io.containerd.kata.v2'].filter((name) => hasRuntime(traits, name))).toEqual(['crun']);
  expect(runtimePath(traits, undefined)).toBe('/usr/bin/crun');
  expect(runtimePath(await readTraits(await podman('/opt/runsc')), undefined)).toBe('/opt/runsc');
});

test('Docker is rootless, or remaps users, where it says so', async () => {
  const withOptions = async (...SecurityOptions: string[]) =>
    readTraits(await engineOf({ '/info': { SecurityOptions } }));
  expect(await withOptions('name=seccomp,profile=default')).toMatchObject({ isRootless: false, remapsUsers: false });
  expect(await withOptions('name=rootless')).toMatchObject({ isRootless: true, remapsUsers: false });
  expect(await withOptions('name=userns')).toMatchObject({ isRootless: false, remapsUsers: true });
});
