import { constants, promises as fs, type Stats } from 'node:fs';
import { dirname } from 'node:path/posix';
import type { FsWrite } from '../../src/protocol/fs.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import { RequestError } from '../errors.ts';
import { calls, writeAll } from './calls.ts';
import { makeDirectories } from './directory.ts';
import { withPart } from './part.ts';
import { codeOf, hasCode, kernelPath } from './path.ts';
import { openRegularFile } from './regular-file.ts';

export async function writeFile(request: FsWrite, stream: WireStream): Promise<void> {
  try {
    await (request.how === 'append' ? append(request, stream) : replace(request, stream));
  } catch (error) {
    stream.cancel();
    throw error;
  }
}

/**
 * Without fsync: who is killed, host, process or sandbox-agent, loses nothing by that; only a machine that loses its
 * power does, and its sandboxes with it. It would cost each small write some milliseconds.
 */
async function replace(request: FsWrite, stream: WireStream): Promise<void> {
  const [path, old] = await afterLinks(request.path);
  if (old?.isDirectory() || path.endsWith('/')) throw new RequestError('EISDIR', `EISDIR: ${path} is a directory`);
  // As root a name like /dev/null could be taken from all that runs.
  if (old?.isCharacterDevice() || old?.isBlockDevice())
    throw new RequestError('ENOTSUP', `ENOTSUP: ${path} is a device`);
  const parents = old ? undefined : makeDirectories(dirname(path));
  await withPart(dirname(path), async (part) => {
    try {
      const file = await createPart(part, path);
      try {
        await writeStream(file, stream);
        await calls.fchmod(file, request.mode ?? (old ? old.mode & 0o7777 : 0o644));
      } finally {
        await calls.close(file);
      }
      await calls.rename(kernelPath(part), kernelPath(path));
    } catch (error) {
      await fs.rm(kernelPath(part), { force: true });
      await removeParents(parents, path);
      throw error;
    }
  });
}

async function append(request: FsWrite, stream: WireStream): Promise<void> {
  const made = (await existing(request.path)) === undefined;
  const [file, stats] = await openRegularFile(
    request.path,
    constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT,
    request.mode ?? 0o644,
  );
  const before = stats.size;
  try {
    // Not left to open: the umask would take bits away.
    if (made) await calls.fchmod(file, request.mode ?? 0o644);
    await writeStream(file, stream);
  } catch (error) {
    const { size } = await calls.fstat(file);
    if (size === before || !(error instanceof Error)) throw error;
    throw new RequestError(codeOf(error) ?? 'EIO', `${request.path} was added to in part: ${error.message}`);
  } finally {
    await calls.close(file);
  }
}

/** What has come meanwhile is written together. */
async function writeStream(file: number, stream: WireStream): Promise<void> {
  for (let pieces = await stream.readAll(); pieces !== null; pieces = await stream.readAll()) {
    await writeAll(file, pieces);
    for (const piece of pieces) stream.recycle(piece);
  }
}

/**
 * The file that a path means when links at its end are followed, also where the last of them points to nothing yet; and
 * what is there. Targets are joined as they are: only the kernel knows what `..` means after a link.
 */
async function afterLinks(path: string): Promise<[path: string, old: Stats | undefined]> {
  const linksOfLinux = 40;
  for (let hops = 0; hops <= linksOfLinux; hops += 1) {
    const old = await existing(path, calls.lstat);
    if (!old?.isSymbolicLink()) return [path, old];
    const target = nameOfBytes(await calls.readlink(kernelPath(path)));
    path = target.startsWith('/') ? target : `${dirname(path)}/${target}`;
  }
  throw new RequestError('ELOOP', `ELOOP: too many links at ${path}`);
}

async function existing(path: string, stat = calls.stat): Promise<Stats | undefined> {
  try {
    return await stat(kernelPath(path));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** `wx` refuses what is there, a link too, so that a guessed name leads nowhere. */
async function createPart(part: string, path: string): Promise<number> {
  try {
    return await calls.open(kernelPath(part), 'wx', 0o600);
  } catch (error) {
    const code = codeOf(error);
    if (!(error instanceof Error) || code === undefined) throw error;
    // The caller never heard of the new file's name.
    throw new RequestError(code, error.message.replace(part, path));
  }
}

/** Takes back what was made of the parents of a file, as long as nobody else has put anything there. */
async function removeParents(first: string | undefined, path: string): Promise<void> {
  if (first === undefined) return;
  for (let directory = dirname(path); `${directory}/`.startsWith(`${first}/`); directory = dirname(directory)) {
    try {
      await fs.rmdir(kernelPath(directory));
    } catch {
      return;
    }
  }
}
