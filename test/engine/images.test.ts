import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { expect, onTestFinished } from 'vitest';
import { ImagePlatformError } from '../../src/engine/errors.ts';
import { test } from '../support/sandbox-fixture.ts';

const docker = new Docker();

/** As `docker save` writes it, with one empty layer. `docker import --platform` takes the processor from newer engines on. */
async function imageFor(architecture: string, name: string): Promise<Readable> {
  const empty = pack();
  empty.finalize();
  const layer = await buffer(empty);
  const config = {
    architecture,
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(layer).digest('hex')}`] },
  };
  const image = pack();
  image.entry({ name: 'layer.tar' }, layer);
  image.entry({ name: 'config.json' }, JSON.stringify(config));
  image.entry(
    { name: 'manifest.json' },
    JSON.stringify([{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }]),
  );
  image.finalize();
  return Readable.from(image);
}

test('an image for another processor is refused, with both and the way to get the right one', async ({ host }) => {
  const image = 'berth-test-platform:1';
  const { Arch } = await docker.version();
  const other = Arch === 'arm64' ? 'amd64' : 'arm64';
  await buffer(await docker.loadImage(await imageFor(other, image)));
  onTestFinished(() => docker.getImage(image).remove({ force: true }));

  const error: unknown = await host.create({ id: 'other-platform', image }).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ImagePlatformError);
  expect(error).toMatchObject({ meta: { image, platform: `linux/${other}`, engine: `linux/${Arch}` } });
  expect(String(error)).toContain(`docker pull --platform linux/${Arch} ${image}`);
  expect((await host.list()).map(({ id }) => id)).not.toContain('other-platform');
});
