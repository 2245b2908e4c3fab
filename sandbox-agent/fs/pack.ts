import { constants, promises as fs, type Stats } from 'node:fs';
import { basename } from 'node:path/posix';
import type { FsPack } from '../../src/protocol/fs.ts';
import type { WireStream } from '../../src/protocol/mux.ts';
import { nameOfBytes } from '../../src/protocol/names.ts';
import { type TarEntry, tarBlockBytes, tarHeader, tarPadding } from '../../src/protocol/tar-header.ts';
import { RequestError } from '../errors.ts';
import { calls, readUpTo } from './calls.ts';
import { openDirectory } from './directory.ts';
import { child, hasCode, kernelPath, type Path } from './path.ts';
import { openRegularFile } from './regular-file.ts';

/** A file up to this size is read before its header is written: then it can't change in between. */
const smallBytes = 128 * 1024;
const pieceBytes = 256 * 1024;

/**
 * Holds files, directories and links; sockets, FIFOs and devices are left out. When `path` is a link, what it points
 * to is packed under its name.
 */
export async function pack({ path }: FsPack, stream: WireStream, signal: AbortSignal): Promise<void> {
  try {
    await new Packer(stream, signal).packTree(path);
    await stream.write(Buffer.alloc(2 * tarBlockBytes), signal);
    stream.end();
  } catch (error) {
    stream.reset();
    throw error;
  }
}

class Packer {
  readonly #stream: WireStream;
  readonly #signal: AbortSignal;

  constructor(stream: WireStream, signal: AbortSignal) {
    this.#stream = stream;
    this.#signal = signal;
  }

  async packTree(path: string): Promise<void> {
    const stats = await fs.stat(kernelPath(path));
    const isNamed = !/(^|\/)\.{0,2}\/*$/.test(path);
    const name = basename(isNamed ? path : nameOfBytes(await fs.realpath(kernelPath(path), 'buffer')));
    if (stats.isDirectory()) await this.#packDirectory(path, name, stats);
    else if (stats.isFile()) await this.#packFile(path, name, 0);
    else throw new RequestError('ENOTSUP', `ENOTSUP: ${path} is no file or directory`);
  }

  async #packDirectory(path: Path, name: string, stats: Stats): Promise<void> {
    // The root has no name that could be relative.
    if (name !== '') await this.#write(tarHeader(entryOf(stats, 'directory', name)));
    for await (const entry of await openDirectory(path)) {
      const inside = child(path, entry.name);
      try {
        await this.#packEntry(inside, `${name === '' ? '' : `${name}/`}${nameOfBytes(entry.name)}`);
      } catch (error) {
        // Removed since the directory was read.
        if (!hasCode(error, 'ENOENT')) throw error;
      }
    }
  }

  async #packEntry(path: Path, name: string): Promise<void> {
    const stats = await calls.lstat(path);
    if (stats.isDirectory()) await this.#packDirectory(path, name, stats);
    else if (stats.isFile()) await this.#packFile(path, name, constants.O_NOFOLLOW);
    else if (stats.isSymbolicLink()) {
      await this.#write(
        tarHeader({
          ...entryOf(stats, 'symlink', name),
          size: 0,
          linkTarget: nameOfBytes(await calls.readlink(path)),
        }),
      );
    }
  }

  async #packFile(path: Path, name: string, flags: number): Promise<void> {
    const [file, stats] = await openRegularFile(path, constants.O_RDONLY | flags);
    try {
      if (stats.size < smallBytes) await this.#packSmallFile(file, entryOf(stats, 'file', name));
      else await this.#packLargeFile(file, entryOf(stats, 'file', name));
    } finally {
      await calls.close(file);
    }
  }

  async #packSmallFile(file: number, entry: TarEntry): Promise<void> {
    const content = await readUpTo(file, entry.size);
    await this.#write(tarHeader({ ...entry, size: content.length }), content, tarPadding(content.length));
  }

  /** What is added meanwhile is left out. What is taken away is an error: no bytes of ours go in its place. */
  async #packLargeFile(file: number, entry: TarEntry): Promise<void> {
    await this.#write(tarHeader(entry));
    for (let missing = entry.size; missing > 0; ) {
      const content = await readUpTo(file, Math.min(missing, pieceBytes));
      if (content.length === 0) {
        throw new RequestError('file_changed', `${entry.name} became shorter while it was read. Try again.`);
      }
      await this.#write(content);
      missing -= content.length;
    }
    await this.#write(tarPadding(entry.size));
  }

  async #write(...pieces: Buffer[]): Promise<void> {
    // In one piece, that a tree of small files does not become a frame for each header.
    const bytes = pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
    await this.#stream.write(bytes, this.#signal);
  }
}

function entryOf(stats: Stats, kind: TarEntry['kind'], name: string): TarEntry {
  return {
    name,
    kind,
    size: kind === 'file' ? stats.size : 0,
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    modifiedMs: stats.mtimeMs,
    linkTarget: '',
  };
}
