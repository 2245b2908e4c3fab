import type { FsChange } from '../../src/protocol/fs.ts';

// Of ten thousand changes in a second none is lost, also when the reader takes a moment.
const maxChanges = 20_000;
const maxCharacters = 4 * 1024 * 1024;

/** What was held of one name, at the place where it happened last. */
type Pending = { kind: 'change' | 'remove'; directory: boolean } | Created | Renamed;
interface Created {
  kind: 'create';
  directory: boolean;
  /** Another one may have had the name before. */
  mayReplace: boolean;
}
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

  /** @param mayReplace - it was moved there: the kernel does not say whether the name was another one's */
  create(path: string, directory: boolean, mayReplace = false): void {
    const before = this.#pending.get(path);
    // What was removed is there again: in place of it, a directory for a file for instance.
    if (before?.kind === 'remove' && before.directory === directory) this.#put(path, { kind: 'change', directory });
    else if (before?.kind === 'remove') this.#put(path, { kind: 'create', directory, mayReplace: true });
    else if (before?.kind !== 'create') {
      if (before?.kind === 'rename') this.#settle();
      this.#put(path, { kind: 'create', directory, mayReplace });
    }
  }

  change(path: string, directory: boolean): void {
    const before = this.#pending.get(path);
    if (before?.kind === 'rename') before.changed = true;
    else if (before?.kind !== 'create') this.#put(path, { kind: 'change', directory });
  }

  remove(path: string, directory: boolean): void {
    const before = this.#pending.get(path);
    if (before?.kind === 'rename') this.#settle();
    this.#drop(path);
    if (before?.kind !== 'create' || before.mayReplace) this.#put(path, { kind: 'remove', directory });
  }

  rename(from: string, to: string, directory: boolean): void {
    const before = this.#pending.get(from);
    // The names of what is in a directory are others from here on, and were these until here. And what had one of the two
    // names before, and is gone or has another one by now, would be told of no more.
    if (directory || isSecond(before) || this.#pending.get(to)?.kind === 'rename') this.#settle();
    const { kind } = this.#pending.get(from) ?? {};
    this.#drop(from);
    if (kind === 'create') this.create(to, directory, true);
    else this.#put(to, { kind: 'rename', from, directory, changed: kind === 'change' });
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

/** Something else may have had its name earlier. */
function isSecond(pending: Pending | undefined): boolean {
  return pending?.kind === 'rename' || (pending?.kind === 'create' && pending.mayReplace);
}
