import { constants } from 'node:fs';
import type { TreeChange } from '../../../src/protocol/checkpoint.ts';
import type { WireStream } from '../../../src/protocol/mux.ts';
import { nameOfBytes } from '../../../src/protocol/names.ts';
import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { calls, readUpTo } from '../calls.ts';
import { hasCode, kernelPath } from '../path.ts';
import { RecordWriter } from '../records.ts';
import { openRegularFile } from '../regular-file.ts';
import { isUnchanged, type KeptTree, refuseClosed } from './kept-tree.ts';
import { merged } from './merge.ts';
import { atPath, entryOf, type LiveEntry, type TreeEntry, type TreeRoot, walkTree } from './tree.ts';

/** A file up to this size is read before it is told of: then it can't change in between. */
const smallBytes = 128 * 1024;
const pieceBytes = 256 * 1024;
/** What leaves together, that many small files do not become as many frames. */
const batchBytes = 128 * 1024;

/** Sends what is other than it was at the checkpoint. */
export async function sendChanges(
  kept: KeptTree,
  root: TreeRoot,
  stream: WireStream,
  pace: Pace,
  signal: AbortSignal,
): Promise<void> {
  const out = new RecordWriter(stream, signal, batchBytes);
  for await (const [path, before, now] of merged(kept.entries(), walkTree(root, pace))) {
    try {
      if (now && now.kind !== 'other') {
        refuseClosed(before, now, root);
        if (!isUnchanged(before, now) && !(await send(now, out)) && before)
          await out.write({ kind: 'removed', path } satisfies TreeChange);
      } else if (before && (!now || before.kind !== 'other')) {
        await out.write({ kind: 'removed', path } satisfies TreeChange);
      }
    } catch (error) {
      throw atPath(root.pathOf(path), error);
    }
  }
  await out.write({ kind: 'end' } satisfies TreeChange);
  await out.flush();
}

/** @returns false: it is gone by now */
async function send(entry: LiveEntry, out: RecordWriter): Promise<boolean> {
  try {
    if (entry.kind === 'file') await sendFile(entry, out);
    else if (entry.kind === 'directory') {
      await out.write({ kind: 'directory', ...attributesOf(entry) } satisfies TreeChange);
    } else {
      const target = nameOfBytes(await calls.readlink(kernelPath(entry.location)));
      await out.write({ kind: 'symlink', ...attributesOf(entry), target } satisfies TreeChange);
    }
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

async function sendFile({ path, location }: LiveEntry, out: RecordWriter): Promise<void> {
  const [file, stats] = await openRegularFile(location, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size, ...entry } = entryOf(path, stats);
    if (size < smallBytes) {
      const content = await readUpTo(file, size);
      await out.write({ kind: 'file', ...attributesOf(entry), size: content.length } satisfies TreeChange);
      await out.writeBytes(content);
      return;
    }
    await out.write({ kind: 'file', ...attributesOf(entry), size } satisfies TreeChange);
    for (let missing = size; missing > 0; ) {
      const content = await readUpTo(file, Math.min(missing, pieceBytes));
      if (content.length === 0) throw new RequestError('file_changed', 'it became shorter while it was read');
      await out.writeBytes(content);
      missing -= content.length;
    }
  } finally {
    await calls.close(file);
  }
}

function attributesOf({ path, mode, uid, gid, modifiedMs }: Omit<TreeEntry, 'size'>) {
  return { path, mode, uid, gid, modifiedMs };
}
