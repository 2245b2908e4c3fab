import { type FSWatcher, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';

/** Editors write a file in several steps, and several files one after the other. */
const settleMs = 50;

/** Files that somebody edits. Their directories are watched, as most editors put a new file in the place of the old one. */
export class WatchedFiles implements Disposable {
  readonly #states = new Map<string, string>();
  readonly #directories = new Map<string, FSWatcher>();
  #settling: NodeJS.Timeout | undefined;
  #changed = false;
  #onChange = () => {};

  /** @param since - milliseconds since 1970: what was written to the file after it counts as a change */
  add(path: string, since: number): void {
    if (this.#states.has(path)) return;
    const { state, writtenAt } = lookAt(path);
    this.#states.set(path, writtenAt > since ? '' : state);
    if (writtenAt > since) this.#look();
    const directory = dirname(path);
    if (this.#directories.has(directory)) return;
    try {
      const watcher = watch(directory, () => this.#look());
      this.#directories.set(
        directory,
        watcher.on('error', () => watcher.close()),
      );
    } catch {
      // It is not there: then the file that wants to import from it has to change first.
    }
  }

  /** Resolves when a file is no longer as it was at the last time, or the signal aborts. */
  async change(signal: AbortSignal): Promise<void> {
    if (!this.#changed && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#onChange = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    this.#changed = false;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#settling);
    for (const watcher of this.#directories.values()) watcher.close();
  }

  #look(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      for (const [path, before] of this.#states) {
        const { state } = lookAt(path);
        if (state === before) continue;
        this.#states.set(path, state);
        this.#changed = true;
      }
      if (this.#changed) this.#onChange();
    }, settleMs);
  }
}

function lookAt(path: string): { state: string; writtenAt: number } {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats
    ? { state: `${stats.ino} ${stats.size} ${stats.mtimeMs}`, writtenAt: stats.mtimeMs }
    : { state: 'none', writtenAt: 0 };
}
