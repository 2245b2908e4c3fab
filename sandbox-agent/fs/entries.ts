import type { Stats } from 'node:fs';
import type {
  FsChmod,
  FsEntry,
  FsMkdir,
  FsReaddir,
  FsReadlink,
  FsRealpath,
  FsRename,
  FsStat,
  FsStats,
  FsSymlink,
  FsTruncate,
} from '../../src/protocol/fs.ts';
import { limits } from '../../src/protocol/limits.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import { Pace } from '../../src/protocol/pace.ts';
import { RequestError } from '../errors.ts';
import { calls } from './calls.ts';
import { makeDirectories, makeDirectory, openDirectory } from './directory.ts';
import { child, hasCode, kernelPath, type Path } from './path.ts';
import { RecordWriter } from './records.ts';

export async function stat({ path, follow }: FsStat): Promise<FsStats> {
  return follow ? wireStats(await calls.stat(kernelPath(path))) : linkStats(kernelPath(path));
}

export async function readdir(request: FsReaddir, stream: WireStream, signal: AbortSignal): Promise<void> {
  try {
    const records = new RecordWriter(stream, signal);
    const pace = new Pace(signal);
    for await (const { name } of await openDirectory(request.path)) {
      const entry = await entryOf(request, name);
      if (entry) await records.write(entry);
      await pace.turn();
    }
    await records.flush();
    stream.end();
  } catch (error) {
    stream.reset();
    throw error;
  }
}

async function entryOf({ path, withStats }: FsReaddir, name: Buffer): Promise<FsEntry | undefined> {
  if (!withStats) return { name: nameOfBytes(name) };
  try {
    return { name: nameOfBytes(name), stats: await linkStats(child(path, name)) };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined; // removed since the directory was read
    throw error;
  }
}

/** `mode` is that of the last directory; the process's umask would take bits away from it. */
export async function mkdir({ path, recursive, mode }: FsMkdir): Promise<void> {
  let made = true;
  if (recursive) made = makeDirectories(path) !== undefined;
  else makeDirectory(path);
  if (made && mode !== undefined) await calls.chmod(kernelPath(path), mode);
}

export async function rename({ from, to }: FsRename): Promise<void> {
  await calls.rename(kernelPath(from), kernelPath(to));
}

export async function symlink({ target, path }: FsSymlink): Promise<void> {
  await calls.symlink(kernelPath(target), kernelPath(path));
}

export async function readlink({ path }: FsReadlink): Promise<{ target: string }> {
  return { target: nameOfBytes(await calls.readlink(kernelPath(path))) };
}

export async function realpath({ path }: FsRealpath): Promise<{ target: string }> {
  const target = await calls.realpath(kernelPath(path));
  if (target.length > limits.path) throw new RequestError('ENAMETOOLONG', 'ENAMETOOLONG: without links it is too long');
  return { target: nameOfBytes(target) };
}

export async function chmod({ path, mode }: FsChmod): Promise<void> {
  await calls.chmod(kernelPath(path), mode);
}

export async function truncate({ path, size }: FsTruncate): Promise<void> {
  await calls.truncate(kernelPath(path), size);
}

async function linkStats(path: Path): Promise<FsStats> {
  const stats = wireStats(await calls.lstat(path));
  if (stats.kind !== 'symlink') return stats;
  try {
    return { ...stats, linkTarget: nameOfBytes(await calls.readlink(path)) };
  } catch (error) {
    // Links of /proc may be looked at by all and read by few; and another thing may be there by now.
    if (hasCode(error, 'EACCES', 'EPERM', 'EINVAL')) return stats;
    throw error;
  }
}

function wireStats(stats: Stats): FsStats {
  return {
    kind: kindOf(stats),
    // A file without content can be as large as 2^63 - 1, which no number of the wire is.
    size: Math.min(stats.size, Number.MAX_SAFE_INTEGER),
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    accessedMs: stats.atimeMs,
    modifiedMs: stats.mtimeMs,
    changedMs: stats.ctimeMs,
  };
}

export function kindOf(stats: Stats): FsStats['kind'] {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  return stats.isSymbolicLink() ? 'symlink' : 'other';
}
