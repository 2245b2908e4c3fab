import { closeSync, constants, ftruncateSync, openSync, readFileSync, readlinkSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path/posix';
import { bytesOfName } from '../../src/protocol/names.ts';
import { randomHex } from '../random.ts';

/** The name of something that is not whole yet, or about to go; beside what it will be. */
export function partName(): string {
  return `.berth-${randomHex(8)}`;
}

export function isPartName(name: string): boolean {
  return /^\.berth-[0-9a-f]{16}$/.test(name);
}

const maxBytes = 1024 * 1024;

/** What is in the making, in a file that outlives this process: one that is killed can't take its parts with it. */
class Parts {
  #file: number | undefined;
  #bytes = 0;
  readonly #paths = new Set<string>();
  #left: string[] = [];

  /** What an earlier process has left is in the file until `removeLeft`. */
  open(path: string): void {
    this.#left = readLines(path);
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  }

  /** With the rights of the sandbox's user, and before anything else runs. The engine's side looks for the empty file. */
  removeLeft(): void {
    for (const path of this.#left) {
      if (!isPartName(basename(path)) || !dirname(path).startsWith('/')) continue;
      try {
        rmSync(bytesOfName(path), { recursive: true, force: true });
      } catch {
        // It is no longer this user's to remove.
      }
    }
    this.#left = [];
    this.#writeAll();
  }

  begin(path: string): void {
    this.#paths.add(path);
    this.#write([path]);
    if (this.#bytes > maxBytes) this.#writeAll();
  }

  end(path: string): void {
    this.#paths.delete(path);
    if (this.#paths.size === 0) this.#writeAll();
  }

  #writeAll(): void {
    if (this.#file === undefined) return;
    ftruncateSync(this.#file);
    this.#bytes = 0;
    this.#write([...this.#paths]);
  }

  #write(paths: string[]): void {
    if (this.#file === undefined || paths.length === 0) return;
    const lines = Buffer.from(paths.map((path) => `${JSON.stringify(path)}\n`).join(''));
    try {
      writeSync(this.#file, lines, 0, lines.length, this.#bytes);
      this.#bytes += lines.length;
    } catch {
      // The disk is full, say: then a kill at this moment would leave a part.
    }
  }
}

export const parts = new Parts();

/** Runs `make` with the path of a part in this directory. Who is killed meanwhile removes it at the next start. */
export async function withPart<Result>(directory: string, make: (part: string) => Promise<Result>): Promise<Result> {
  const name = partName();
  const noted = `${lasting(directory)}/${name}`;
  parts.begin(noted);
  try {
    return await make(`${directory === '/' ? '' : directory}/${name}`);
  } finally {
    parts.end(noted);
  }
}

/** A descriptor means nothing to the next process. */
function lasting(directory: string): string {
  return directory.startsWith('/proc/self/fd/') ? readlinkSync(directory) : directory;
}

function readLines(path: string): string[] {
  try {
    const file = openSync(path, 'r');
    try {
      return readFileSync(file, 'utf8')
        .split('\n')
        .flatMap((line) => parsed(line) ?? []);
    } finally {
      closeSync(file);
    }
  } catch {
    return [];
  }
}

function parsed(line: string): string | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined; // the last one was cut off
  }
}
