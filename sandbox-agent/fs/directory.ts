import { promises as fs, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path/posix';
import { hasCode, kernelPath, type Path } from './path.ts';

/** An entry of a directory; its type is that of the entry itself, links not followed. */
export interface DirectoryEntry {
  readonly name: Buffer;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}

export interface Directory extends AsyncIterable<DirectoryEntry> {
  read(): Promise<DirectoryEntry | null>;
  close(): Promise<void>;
}

/** Reads a directory bit by bit, at any size; reading it to the end with `for await` closes it. */
export async function openDirectory(path: Path): Promise<Directory> {
  // The types of Node leave out that `encoding` may be `buffer`, and that names are buffers then.
  const options = { encoding: 'buffer' as BufferEncoding, bufferSize: 256 };
  return (await fs.opendir(kernelPath(path) as string, options)) as unknown as Directory;
}

/**
 * Makes a directory, on this thread: what the umask would take away on another one is not sure, as it changes while a
 * command is started. Files need no such care, they get their mode once they are open.
 */
export function makeDirectory(path: Path, options: { mode?: number } = {}): void {
  mkdirSync(kernelPath(path), options);
}

/**
 * As `makeDirectory`, with the parents that are missing; a directory that is there is fine. That of Node never ends where
 * the kernel says ENOENT of a name in a directory that is there, as in /proc.
 * @returns the first one that was missing
 */
export function makeDirectories(path: string): string | undefined {
  let first: string | undefined;
  try {
    makeDirectory(path);
    return path;
  } catch (error) {
    if (isDirectory(path)) return undefined;
    if (!hasCode(error, 'ENOENT') || dirname(path) === path) throw error;
    first = makeDirectories(dirname(path));
  }
  try {
    makeDirectory(path);
  } catch (error) {
    if (!isDirectory(path)) throw error; // else somebody has made it meanwhile
  }
  return first ?? path;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(kernelPath(path)).isDirectory();
  } catch {
    return false;
  }
}
