import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/**
 * Unpacks one version of an npm package into the folder `to`, which must not exist, after a check of its bytes.
 * It is got by npm itself, which knows this machine's registry, proxy and certificates.
 * @param integrity - as npm writes it: `sha512-` and base64
 */
export async function unpackNpmPackage(
  spec: string,
  integrity: string,
  to: string,
  signal?: AbortSignal,
): Promise<void> {
  // As in base-image.ts: it is not loaded before it is used.
  const { execa } = await import('execa');
  await mkdir(dirname(to), { recursive: true });
  const download = await mkdtemp(`${to}.download-`);
  const run = { ...(signal && { cancelSignal: signal }), stdin: 'ignore' } as const;
  try {
    await execa('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', download, spec], run);
    const [name] = await readdir(download);
    if (name === undefined) throw new Error(`npm pack ${spec} made no file`);
    const archive = join(download, name);
    const hash = createHash('sha512');
    await pipeline(createReadStream(archive), hash);
    const found = `sha512-${hash.digest('base64')}`;
    if (found !== integrity) throw new Error(`${spec} is not what it was: its integrity is ${found}, not ${integrity}`);
    const part = join(download, 'unpacked');
    await mkdir(part);
    // Every package has its files in one folder. As root, tar would give them the owners that the archive names.
    await execa('tar', ['-xzf', archive, '--strip-components=1', '--no-same-owner', '-C', part], run);
    await rename(part, to);
  } finally {
    await rm(download, { recursive: true, force: true });
  }
}
