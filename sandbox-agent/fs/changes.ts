import type { FsChange } from '../../src/protocol/fs.ts';

// Of ten thousand changes in a second none is lost, also when the reader takes a moment.
const maxChanges = 20_000;
const maxCharacters = 4 * 1024 * 1024;

/** What was held of one name, at the place where it happened last. */
type Pending = { kind: 'create' | 'change' | 'remove'; directory: boolean } | Renamed;
interface Renamed {
  kind: 'rename';
  from: string;
  directory: boolean;
  changed: boolean;
}

/**
 * Changes that nobody has taken yet, many of one name as one. When they are too many they are given up, which is a change,
 * too: who reads slowly costs no memory.
 */
export class Changes {
  #pending = new Map<string, Pending>();
  #characters = 0;
  /** What can't be joined with what comes. */
  #done: FsChange[] = [];

  get isEmpty(): boolean {
    return this.#pending.size === 0 && this.#done.length === 0;
  }

  create(path: string, directory: boolean): void {
    const before = this.#pending.get(path);
    // What was removed is there again: in place of it, a directory for a file for instance.
    if (before?.kind === 'remove')
      this.#put(path, { kind: before.directory === directory ? 'change' : 'create', directory });
    else if (before === undefined || before.kind === 'change') this.#put(path, { kind: 'create', directory });
  }

  change(path: string, directory: boolean): void {
    const before = this.#pending.get(path);
    if (before?.kind === 'rename') before.changed = true;
    else if (before?.kind !== 'create') this.#put(path, { kind: 'change', directory });
  }

  remove(path: string, directory: boolean): void {
    const before = this.#pending.get(path);
    this.#drop(path);
    if (before?.kind === 'rename') this.remove(before.from, directory);
    else if (before?.kind !== 'create') this.#put(path, { kind: 'remove', directory });
  }

  rename(from: string, to: string, directory: boolean): void {
    // The names of what is in it are others from here on, and were these until here.
    if (directory) this.#settle();
    const before = this.#pending.get(from);
    this.#drop(from);
    if (before?.kind === 'create') this.create(to, directory);
    else if (before?.kind === 'rename' && before.from === to) {
      this.#drop(to);
      this.change(to, directory);
    } else {
      const origin = before?.kind === 'rename' ? before.from : from;
      const changed = before?.kind === 'change' || (before?.kind === 'rename' && before.changed);
      this.#put(to, { kind: 'rename', from: origin, directory, changed });
    }
    if (directory) this.#settle();
  }

  overflow(): void {
    this.#pending.clear();
    this.#done = [{ type: 'overflow' }];
    this.#characters = 0;
  }

  take(): FsChange[] {
    this.#settle();
    const taken = this.#done;
    this.#done = [];
    this.#characters = 0;
    return taken;
  }

  #put(path: string, pending: Pending): void {
    this.#drop(path);
    this.#pending.set(path, pending);
    this.#characters += path.length;
    if (this.#pending.size + this.#done.length > maxChanges || this.#characters > maxCharacters) this.overflow();
  }

  #drop(path: string): void {
    if (this.#pending.delete(path)) this.#characters -= path.length;
  }

  #settle(): void {
    for (const [path, pending] of this.#pending) {
      const { kind, directory } = pending;
      if (kind !== 'rename') this.#done.push({ type: kind, path, directory });
      else {
        this.#done.push({ type: 'rename', from: pending.from, path, directory });
        if (pending.changed) this.#done.push({ type: 'change', path, directory });
      }
    }
    this.#pending.clear();
  }
}
