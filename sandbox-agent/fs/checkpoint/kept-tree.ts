import { constants } from 'node:fs';
import { nameOfBytes } from '../../../src/protocol/names.ts';
import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { randomHex } from '../../random.ts';
import { calls, writeAll } from '../calls.ts';
import { hasCode, kernelPath } from '../path.ts';
import { openRegularFile } from '../regular-file.ts';
import { LineWriter, linesOf } from './lines.ts';
import { merged } from './merge.ts';
import { closeAll, type PrivateFiles } from './private.ts';
import { atPath, entryOf, isSame, TreeDirectories, type TreeEntry, type TreeRoot, walkTree } from './tree.ts';

/** An entry as it was at the checkpoint. */
export interface KeptEntry extends TreeEntry {
  /** It changed while it was looked at, so that a further change need not show. */
  isUnsure?: true;
  /** Of a link, where the content is kept. */
  target?: string;
  /** Where its content begins, where that is kept. */
  at?: number;
}

/** What is there again. */
export interface Restored {
  path: string;
  was: TreeEntry;
}

/** The first line of the file of a checkpoint. */
interface Header {
  /** The directory, without links. */
  path: string;
  /** The file with the contents, one behind the other; left out: they are not kept. */
  content?: string;
}

const pieceBytes = 256 * 1024;

const nameOf = (id: string) => `tree-${id}`;

/** What is kept of a tree, open. */
export class KeptTree {
  readonly content: number | undefined;
  readonly #file: number;
  readonly #header: Header;

  private constructor(file: number, header: Header, content: number | undefined) {
    this.#file = file;
    this.#header = header;
    this.content = content;
  }

  /** The directory, without links. */
  get path(): string {
    return this.#header.path;
  }

  /** @throws {RequestError} `unknown_checkpoint` */
  static async open(files: PrivateFiles, id: string): Promise<KeptTree> {
    const file = files.open(nameOf(id));
    const header = file === undefined ? undefined : await headerOf(file);
    if (file === undefined || !header) throw new RequestError('unknown_checkpoint', `there is no checkpoint ${id}`);
    return new KeptTree(file, header, header.content === undefined ? undefined : files.open(header.content));
  }

  /** Keeps the tree as it is now, in place of what was kept under this id. */
  static async make(
    files: PrivateFiles,
    id: string,
    root: TreeRoot,
    copy: boolean,
    since: number,
    pace: Pace,
  ): Promise<void> {
    const number = randomHex(8);
    const part = `part-${number}`;
    const header: Header = { path: root.path, ...(copy && { content: `content-${number}` }) };
    let [file, content]: (number | undefined)[] = [];
    try {
      file = files.create(part);
      if (header.content !== undefined) content = files.create(header.content);
      const lines = new LineWriter(file);
      await lines.write(header);
      const contents = content === undefined ? undefined : new Contents(content, pace);
      for await (const { location, ...entry } of walkTree(root, pace)) {
        try {
          const kept = contents ? await contents.keep(entry, location) : entry;
          if (kept) await lines.write(kept.changedMs > since ? { ...kept, isUnsure: true } : kept);
        } catch (error) {
          throw atPath(root.pathOf(entry.path), error);
        }
      }
      await lines.flush();
      const old = await contentOf(files, id);
      files.rename(part, nameOf(id));
      if (old !== undefined) files.remove(old);
    } catch (error) {
      files.remove(part);
      if (header.content !== undefined) files.remove(header.content);
      throw error;
    } finally {
      closeAll(file, content);
    }
  }

  static async drop(files: PrivateFiles, id: string): Promise<void> {
    const content = await contentOf(files, id);
    files.remove(nameOf(id));
    if (content !== undefined) files.remove(content);
  }

  /**
   * Tells all checkpoints of a directory that these entries are again what they were: the kernel dates also what was only moved
   * away and back.
   */
  static async refresh(
    files: PrivateFiles,
    root: TreeRoot,
    restored: () => AsyncIterable<Restored>,
    pace: Pace,
  ): Promise<void> {
    for (const id of idsIn(files)) {
      const kept = await KeptTree.open(files, id);
      const tree = new TreeDirectories(root);
      const part = `part-${randomHex(8)}`;
      let file: number | undefined;
      try {
        if (kept.path !== root.path) continue;
        file = files.create(part);
        const lines = new LineWriter(file);
        await lines.write(kept.#header);
        for await (const [path, entry, now] of merged(kept.entries(), restored())) {
          if (!entry) continue;
          const isAgain = now && isUnchanged(entry, now.was);
          await lines.write(isAgain ? await withTimes(entry, await tree.to(path)) : entry);
          await pace.turn();
        }
        await lines.flush();
        files.rename(part, nameOf(id));
      } finally {
        if (file !== undefined) files.remove(part);
        closeAll(file);
        kept.close();
        await tree.close();
      }
    }
  }

  /** Removes what belongs to no checkpoint: a sandbox-agent that was killed has left it. */
  static async sweep(files: PrivateFiles): Promise<void> {
    const ids = idsIn(files);
    const used = new Set([...ids.map(nameOf), ...(await Promise.all(ids.map((id) => contentOf(files, id))))]);
    for (const name of files.names()) if (!used.has(name)) files.remove(name);
  }

  async *entries(): AsyncGenerator<KeptEntry, void> {
    let isHeader = true;
    for await (const line of linesOf<KeptEntry>(this.#file)) {
      if (!isHeader) yield line;
      isHeader = false;
    }
  }

  close(): void {
    closeAll(this.#file, this.content);
  }
}

/** Whether nothing was done to it since. */
export function isUnchanged(kept: KeptEntry | undefined, live: TreeEntry | undefined): boolean {
  if (!kept || !live) return kept === live;
  // A directory is compared by what no time says.
  return isSame(kept, live) && (kept.kind === 'directory' || !kept.isUnsure);
}

/** @throws {RequestError} what is in a directory can't be looked at, and could be before */
export function refuseClosed(kept: KeptEntry | undefined, live: TreeEntry, root: TreeRoot): void {
  if (live.closed && !kept?.closed) throw atPath(root.pathOf(live.path), new RequestError('EACCES', 'EACCES'));
}

function idsIn(files: PrivateFiles): string[] {
  const beginning = nameOf('');
  return files.names().flatMap((name) => (name.startsWith(beginning) ? name.slice(beginning.length) : []));
}

/** As it is dated now, unless something else is there. */
async function withTimes(entry: KeptEntry, location: string): Promise<KeptEntry> {
  const { modifiedMs, changedMs, ...now } = entryOf(entry.path, await calls.lstat(kernelPath(location)));
  return isSame({ ...entry, modifiedMs, changedMs }, { ...now, modifiedMs, changedMs })
    ? { ...entry, modifiedMs, changedMs }
    : entry;
}

async function headerOf(file: number): Promise<Header | undefined> {
  for await (const header of linesOf<Header>(file)) return header;
  return undefined;
}

async function contentOf(files: PrivateFiles, id: string): Promise<string | undefined> {
  const file = files.open(nameOf(id));
  try {
    return file === undefined ? undefined : (await headerOf(file))?.content;
  } finally {
    closeAll(file);
  }
}

/** Keeps the contents of files, one behind the other: a file for each would take ten times as long. */
class Contents {
  readonly #file: number;
  readonly #pace: Pace;
  #end = 0;

  constructor(file: number, pace: Pace) {
    this.#file = file;
    this.#pace = pace;
  }

  /** @returns `undefined` for what is gone by now */
  async keep(entry: TreeEntry, location: string): Promise<KeptEntry | undefined> {
    // It could not be made again.
    if (entry.closed) throw new RequestError('EACCES', 'EACCES');
    try {
      if (entry.kind === 'file') return await this.#keepFile(entry.path, location);
      if (entry.kind !== 'symlink') return entry;
      return { ...entry, target: nameOfBytes(await calls.readlink(kernelPath(location))) };
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async #keepFile(path: string, location: string): Promise<KeptEntry> {
    const [file, before] = await openRegularFile(location, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const at = this.#end;
      const buffer = Buffer.allocUnsafe(Math.min(before.size + 1, pieceBytes));
      for (;;) {
        const bytesRead = await calls.read(file, buffer, null);
        if (bytesRead === 0) break;
        await writeAll(this.#file, [buffer.subarray(0, bytesRead)]);
        this.#end += bytesRead;
        await this.#pace.turn();
      }
      // After its end was read: what was changed meanwhile is told by its time.
      return { ...entryOf(path, await calls.fstat(file)), size: this.#end - at, at };
    } finally {
      await calls.close(file);
    }
  }
}
