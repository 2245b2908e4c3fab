import { lstat, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect } from 'vitest';
import { BerthError } from '../../src/errors.ts';
import { unpackArchive } from '../../src/sandbox/fs/unpack-archive.ts';
import { assertFor, type FuzzOptions } from './fuzz.ts';
import { lyingTar, tarOf } from './tars.ts';

/** Any archive becomes its target or an error of ours, and nothing else. */
export function fuzzTars(options: FuzzOptions): Promise<void> {
  return assertFor(
    fc.asyncProperty(lyingTar, fc.boolean(), async (entries, refuseLinks) => {
      const folder = await mkdtemp(join(tmpdir(), 'berth-test-tars-'));
      const parent = join(folder, 'parent');
      await mkdir(parent);
      await writeFile(join(folder, 'outside'), 'as it was');
      const target = join(parent, 'tree');
      try {
        const outcome = await unpackArchive(Readable.from([tarOf(entries)]), target, {
          maxBytes: 1024 * 1024,
          refuseLinks,
        }).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toBeInstanceOf(BerthError);
        expect(await readdir(parent)).toEqual(outcome instanceof Error ? [] : ['tree']);
        expect(await readdir(folder)).toEqual(['outside', 'parent']);
        expect(await readFile(join(folder, 'outside'), 'utf8')).toBe('as it was');
        for (const name of await readdir(parent, { recursive: true })) {
          if (name.includes('\ufffd')) continue; // it is no UTF-8, and this not its name
          const path = join(parent, name);
          expect((await lstat(path)).mode & 0o7000).toBe(0);
          const real = await realpath(path).catch(() => target); // a link to nothing, or to itself
          expect(`${real}/`.startsWith(`${await realpath(target)}/`)).toBe(true);
        }
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    }),
    options,
  );
}
