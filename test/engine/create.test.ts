import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { DockerEngine } from '../../src/engine/docker/docker.ts';
import type { ContainerSpec } from '../../src/engine/engine.ts';
import { ContainerExistsError } from '../../src/engine/errors.ts';

test('says whose a container is that takes the name, also while it is being made', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-test-create-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const engine = await DockerEngine.open({ labels: { 'berth.host': 'test' } });
  const image = await engine.defaultImage();
  const spec = (round: number, rival: number): ContainerSpec => ({
    sandboxId: `test-race-${process.pid}-${round}`,
    image,
    labels: { 'berth.test': `${rival}` },
    env: [],
    cwd: '/',
    limits: { memory: 128 * 1024 * 1024, cpus: 1, pids: 16 },
    required: [],
    publicKey: '',
    wireDirectory: directory,
  });
  for (let round = 0; round < 10; round++) {
    const rivals = await Promise.allSettled([0, 1, 2].map((rival) => engine.create(spec(round, rival))));
    const made = rivals.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    await Promise.all(made.map(({ id }) => engine.remove(id)));
    expect(made).toHaveLength(1);
    for (const one of rivals) {
      if (one.status === 'fulfilled') continue;
      expect(one.reason).toBeInstanceOf(ContainerExistsError);
      expect(one.reason.meta.labels).toMatchObject({ 'berth.test': made[0]?.labels['berth.test'] });
    }
  }
});
