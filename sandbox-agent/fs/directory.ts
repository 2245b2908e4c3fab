import { mkdirSync } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { kernelPath, type Path } from './path.ts';

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
  return (await opendir(kernelPath(path) as string, options)) as unknown as Directory;
}

/**
 * Makes a directory, on this thread: what the umask would take away on another one is not sure, as it changes while a
 * command is started. Files need no such care, they get their mode once they are open.
 * @returns with `recursive`, the first one that was missing
 */
export function makeDirectory(path: Path, options: { recursive?: boolean; mode?: number } = {}): string | undefined {
  return mkdirSync(kernelPath(path), options);
}
