import { constants, promises as fs, type Stats } from 'node:fs';
import type { FsCopy } from '../../src/protocol/fs.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { calls, writeAll } from './calls.ts';
import { makeDirectory, openDirectory } from './directory.ts';
import { withPart } from './part.ts';
import { child, codeOf, kernelPath, type Path, split } from './path.ts';
import { openRegularFile } from './regular-file.ts';
import { rm } from './remove.ts';

const pieceBytes = 256 * 1024;

/**
 * Copies under another name beside `to` and renames at the end, so that `to` is as it was, or all of the copy. It
 * replaces what rename(2) replaces: a file, a link, an empty directory.
 */
export async function copy({ from, to }: FsCopy, signal: AbortSignal): Promise<void> {
  const stats = await fs.lstat(kernelPath(from));
  const target = split(to);
  if (stats.isDirectory()) await refuseInside(from, target.parent);
  await withPart(target.parent, async (part) => {
    try {
      if (!(await copyEntry(kernelPath(from), kernelPath(part), stats, new Pace(signal)))) {
        throw new RequestError('ENOTSUP', `ENOTSUP: ${from} is no file, directory or link`);
      }
      await fs.rename(kernelPath(part), child(target.parent, target.name));
    } catch (error) {
      await removePart(part, error);
      throw error;
    }
  });
}

async function removePart(part: string, reason: unknown): Promise<void> {
  // With a signal of its own: also when the host is gone, nothing is left behind.
  const { signal } = new AbortController();
  try {
    await rm({ type: 'fs.rm', requestId: 0, path: part, recursive: true, force: true }, signal);
  } catch {
    // A copied directory that may not be written, for instance.
    const text = reason instanceof Error ? reason.message : String(reason);
    throw new RequestError(codeOf(reason) ?? 'EIO', `${text}; a part of the copy was left at ${part}`);
  }
}

/** By what the paths mean, not by how they are written: a link on the way would hide it. */
async function refuseInside(from: string, parent: string): Promise<void> {
  const real = async (path: string) => nameOfBytes(await fs.realpath(kernelPath(path), 'buffer'));
  const [source, directory] = await Promise.all([real(from), real(parent)]);
  if (`${directory}/`.startsWith(source === '/' ? '/' : `${source}/`)) {
    throw new RequestError('EINVAL', `EINVAL: ${from} can't be copied into itself`);
  }
}

/** @returns false for what is no file, directory or link: it is left out */
async function copyEntry(from: Path, to: Path, stats: Stats, pace: Pace): Promise<boolean> {
  await pace.turn();
  if (stats.isDirectory()) await copyDirectory(from, to, stats, pace);
  else if (stats.isSymbolicLink()) await fs.symlink(await fs.readlink(from, { encoding: 'buffer' }), to);
  else if (stats.isFile()) await copyFile(from, to, pace);
  else return false;
  return true;
}

async function copyDirectory(from: Path, to: Path, stats: Stats, pace: Pace): Promise<void> {
  makeDirectory(to, { mode: 0o700 });
  for await (const { name } of await openDirectory(from)) {
    const entry = child(from, name);
    try {
      await copyEntry(entry, child(to, name), await fs.lstat(entry), pace);
    } catch (error) {
      // Removed since the directory was read. Were it the copy that is gone, the rename at the end would say so.
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  }
  // At the end: it may be one that nothing can be put into.
  await fs.chmod(to, stats.mode & 0o7777);
}

/** In pieces: `fs.copyFile` would hold one of the few threads until a file of any size is through. */
async function copyFile(from: Path, to: Path, pace: Pace): Promise<void> {
  const [source, stats] = await openRegularFile(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const target = await calls.open(to, 'wx', 0o600);
    try {
      const buffer = Buffer.allocUnsafe(Math.min(stats.size + 1, pieceBytes));
      for (;;) {
        const bytesRead = await calls.read(source, buffer, null);
        if (bytesRead === 0) break;
        await writeAll(target, [buffer.subarray(0, bytesRead)]);
        await pace.turn();
      }
      await calls.fchmod(target, stats.mode & 0o7777);
    } finally {
      await calls.close(target);
    }
  } finally {
    await calls.close(source);
  }
}
