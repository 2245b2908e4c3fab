import { constants } from 'node:fs';
import type { TreeChange } from '../../../src/protocol/checkpoint.ts';
import type { WireStream } from '../../../src/protocol/mux.ts';
import { nameOfBytes } from '../../../src/protocol/names.ts';
import type { Pace } from '../../../src/protocol/pace.ts';
import { encodeRecord } from '../../../src/protocol/records.ts';
import { RequestError } from '../../errors.ts';
import { calls, readUpTo } from '../calls.ts';
import { hasCode, kernelPath } from '../path.ts';
import { openRegularFile } from '../regular-file.ts';
import { isUnchanged, type KeptTree, refuseClosed } from './kept-tree.ts';
import { merged } from './merge.ts';
import { atPath, entryOf, type LiveEntry, type TreeEntry, type TreeRoot, walkTree } from './tree.ts';

/** A file up to this size is read before it is told of: then it can't change in between. */
const smallBytes = 128 * 1024;
const pieceBytes = 256 * 1024;

/** Sends what is other than it was at the checkpoint. */
export async function sendChanges(
  kept: KeptTree,
  root: TreeRoot,
  stream: WireStream,
  pace: Pace,
  signal: AbortSignal,
): Promise<void> {
  const out = new ChangeWriter(stream, signal);
  for await (const [path, before, now] of merged(kept.entries(), walkTree(root, pace))) {
    try {
      if (now && now.kind !== 'other') {
        refuseClosed(before, now, root);
        if (!isUnchanged(before, now) && !(await out.send(now)) && before) await out.write({ kind: 'removed', path });
      } else if (before && (!now || before.kind !== 'other')) {
        await out.write({ kind: 'removed', path });
      }
    } catch (error) {
      throw atPath(root.pathOf(path), error);
    }
  }
  await out.write({ kind: 'end' });
  await out.flush();
}

class ChangeWriter {
  readonly #stream: WireStream;
  readonly #signal: AbortSignal;
  /** What leaves together, that many small files do not become as many frames. */
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  constructor(stream: WireStream, signal: AbortSignal) {
    this.#stream = stream;
    this.#signal = signal;
  }

  /** @returns false: it is gone by now */
  async send(entry: LiveEntry): Promise<boolean> {
    try {
      if (entry.kind === 'file') await this.#sendFile(entry);
      else if (entry.kind === 'directory') await this.write({ kind: 'directory', ...attributesOf(entry) });
      else {
        const target = nameOfBytes(await calls.readlink(kernelPath(entry.location)));
        await this.write({ kind: 'symlink', ...attributesOf(entry), target });
      }
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  async write(change: TreeChange, content: Uint8Array[] = []): Promise<void> {
    const pieces = [encodeRecord(change), ...content];
    this.#pieces.push(...pieces);
    for (const { length } of pieces) this.#bytes += length;
    if (this.#bytes >= smallBytes) await this.flush();
  }

  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    await this.#stream.write(bytes, this.#signal);
  }

  async #sendFile({ path, location }: LiveEntry): Promise<void> {
    const [file, stats] = await openRegularFile(location, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size, ...entry } = entryOf(path, stats);
      if (size < smallBytes) {
        const content = await readUpTo(file, size);
        await this.write({ kind: 'file', ...attributesOf(entry), size: content.length }, [content]);
        return;
      }
      await this.write({ kind: 'file', ...attributesOf(entry), size });
      for (let missing = size; missing > 0; ) {
        const content = await readUpTo(file, Math.min(missing, pieceBytes));
        if (content.length === 0) throw new RequestError('file_changed', 'it became shorter while it was read');
        this.#pieces.push(content);
        await this.flush();
        missing -= content.length;
      }
    } finally {
      await calls.close(file);
    }
  }
}

function attributesOf({ path, mode, uid, gid, modifiedMs }: Omit<TreeEntry, 'size'>) {
  return { path, mode, uid, gid, modifiedMs };
}
