import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';
import { getSystemErrorMap } from 'node:util';
import { CopyLimitError, FileError } from '../errors.ts';
import { partBeside } from './part-beside.ts';
import { entryBytes } from './unpack-archive.ts';

type Pieces = readonly Uint8Array[];
type Read = (used: Pieces) => Promise<Pieces | null>;

interface DownloadOptions {
  /** Permissions of the file; set-user-id bits are not kept. */
  mode: number;
  /** The most that it may take of the disk, 4 KiB for itself included. Default: no limit */
  maxBytes?: number | undefined;
}

/**
 * Makes a file of this machine of what `read` gives: whole, or what was there stays. It grows in a new file beside
 * `target`. A link is replaced, and not what it leads to.
 * @param read - gives what comes next, `null` at the end; `used` is what it gave before, and may be used again
 * @throws {CopyLimitError} it is larger than `maxBytes`
 * @throws {FileError} `EISDIR`, `ENOTSUP`: there is something else than a file at `target`
 */
export async function downloadFile(
  read: Read,
  target: string,
  { mode, maxBytes = Number.POSITIVE_INFINITY }: DownloadOptions,
): Promise<void> {
  try {
    await refuseOther(target);
    await replace(target, read, mode, maxBytes);
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error;
    // The file beside it is none that the caller knows of.
    const { code = 'EIO', errno = 0 } = error as NodeJS.ErrnoException;
    const detail = getSystemErrorMap().get(errno)?.[1];
    throw new FileError({ code, path: target, operation: 'downloadTo', ...(detail && { detail }) }, { cause: error });
  }
}

async function replace(target: string, read: Read, mode: number, maxBytes: number): Promise<void> {
  const part = partBeside(target);
  const file = await open(part, 'wx', 0o600);
  try {
    try {
      await writeRead(file, read, maxBytes);
      await file.chmod(mode & 0o777);
    } finally {
      await file.close();
    }
    await rename(part, target);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

async function refuseOther(target: string): Promise<void> {
  const found = await lstat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  const isDirectory = target.endsWith('/') || found?.isDirectory();
  if (!isDirectory && (!found || found.isFile() || found.isSymbolicLink())) return;
  const [code, detail] = isDirectory ? ['EISDIR', 'it is a directory'] : ['ENOTSUP', 'it is a device, pipe or socket'];
  throw new FileError({ code, path: target, operation: 'downloadTo', detail });
}

/** What has come meanwhile is written together. */
async function writeRead(file: FileHandle, read: Read, maxBytes: number): Promise<void> {
  let bytes = entryBytes;
  if (bytes > maxBytes) throw new CopyLimitError({ maxBytes });
  for (let pieces = await read([]); pieces !== null; pieces = await read(pieces)) {
    bytes += pieces.reduce((sum, { length }) => sum + length, 0);
    if (bytes > maxBytes) throw new CopyLimitError({ maxBytes });
    await writeAll(file, pieces);
  }
}

/** Writes all of it, from where the last write ended: near a limit a write takes fewer bytes than it is given. */
async function writeAll(file: FileHandle, pieces: Pieces): Promise<void> {
  const { bytesWritten } = await file.writev(pieces);
  let skip = bytesWritten;
  for (const piece of pieces) {
    for (let at = skip; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
    skip = Math.max(0, skip - piece.length);
  }
}
