import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { calls } from '../calls.ts';
import { isUnchanged, type KeptEntry, type KeptTree, type Restored, refuseClosed } from './kept-tree.ts';
import { linesOf } from './lines.ts';
import { merged } from './merge.ts';
import type { Arrival, Plan, Planner } from './plan.ts';
import type { Stage } from './stage.ts';
import { atPath, type TreeRoot, walkTree } from './tree.ts';

const pieceBytes = 256 * 1024;

/** Plans to make the tree as it was, and stages what has to come for that. */
export async function planRollback(
  kept: KeptTree,
  root: TreeRoot,
  stage: Stage,
  planner: Planner,
  pace: Pace,
): Promise<void> {
  const { content } = kept;
  if (content === undefined)
    throw new RequestError('no_content', 'the checkpoint was made without the content of files');
  let number = 0;
  for await (const [path, before, now] of merged(kept.entries(), walkTree(root, pace))) {
    await planner.at(path);
    if (now) refuseClosed(before, now, root);
    if (!before || before.kind === 'other') {
      // What is no file, directory or link can't be made again.
      if (now && now.kind !== before?.kind) await planner.remove(now);
    } else if (now?.kind === 'directory' && before.kind === 'directory') {
      const isTimeOther = before.modifiedMs !== now.modifiedMs;
      planner.stay(now, isTimeOther || !isUnchanged(before, now) ? before : undefined);
    } else if (!isUnchanged(before, now)) {
      number += 1;
      try {
        await bring(stage, number, before, content, pace);
      } catch (error) {
        throw atPath(root.pathOf(path), error);
      }
      await planner.add(path, number, before.kind === 'directory' ? before : undefined, now);
    }
  }
  await planner.finish();
}

/** What such a plan brings back, as it was at the checkpoint. */
export async function* broughtBack(kept: KeptTree, { files }: Plan): AsyncGenerator<Restored, void> {
  for await (const [path, was, arrival] of merged(kept.entries(), linesOf<Arrival>(files.arrivals))) {
    if (was && arrival && !arrival.isDirectory) yield { path, was };
  }
}

async function bring(stage: Stage, number: number, entry: KeptEntry, content: number, pace: Pace): Promise<void> {
  if (entry.kind === 'directory') stage.makeDirectory(number);
  else if (entry.kind === 'symlink') await stage.makeLink(number, entry.target ?? '');
  else await stage.makeFile(number, entry, piecesOf(content, entry, pace));
}

async function* piecesOf(file: number, { at = 0, size }: KeptEntry, pace: Pace): AsyncGenerator<Uint8Array, void> {
  const buffer = Buffer.allocUnsafe(Math.min(size, pieceBytes));
  for (let done = 0; done < size; ) {
    const bytesRead = await calls.read(file, buffer.subarray(0, Math.min(buffer.length, size - done)), at + done);
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
    await pace.turn();
  }
}
