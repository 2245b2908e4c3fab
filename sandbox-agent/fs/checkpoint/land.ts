import { constants } from 'node:fs';
import { type TreeChange, treeChange, treeOrder } from '../../../src/protocol/checkpoint.ts';
import { limits } from '../../../src/protocol/limits.ts';
import { parser } from '../../../src/protocol/messages.ts';
import type { WireStream } from '../../../src/protocol/mux.ts';
import { nameOfBytes } from '../../../src/protocol/names.ts';
import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { calls, readUpTo } from '../calls.ts';
import { isPartName } from '../part.ts';
import { kernelPath } from '../path.ts';
import { openRegularFile } from '../regular-file.ts';
import { isUnchanged, type KeptTree, refuseClosed } from './kept-tree.ts';
import { LineWriter, linesOf } from './lines.ts';
import { merged } from './merge.ts';
import type { Planner } from './plan.ts';
import { type Stage, stagedName } from './stage.ts';
import { atPath, type LiveEntry, parentOf, type TreeRoot, walkTree } from './tree.ts';

type Change = Exclude<TreeChange, { kind: 'end' }>;
type Arriving = Exclude<Change, { kind: 'removed' }>;
/** A change that has come, and the number of what is staged for it. */
type Received = Change & { number: number };

const newline = 0x0a;
const pieceBytes = 256 * 1024;
const parseChange = parser(treeChange);

/** Stages what comes on the stream, and notes it in the file. */
export async function receive(
  stream: WireStream,
  root: TreeRoot,
  stage: Stage,
  file: number,
  pace: Pace,
): Promise<void> {
  const source = new ChangeReader(stream);
  const lines = new LineWriter(file);
  let number = 0;
  let last = '';
  for (let change = await source.next(); change.kind !== 'end'; change = await source.next()) {
    const place = treeOrder(change.path);
    if (place <= last || change.path.split('/').some(isPartName)) throw invalid(`${change.path} is not its turn`);
    last = place;
    number += 1;
    try {
      if (change.kind === 'file') await stage.makeFile(number, change, source.content(change.size, pace));
      else if (change.kind === 'directory') stage.makeDirectory(number);
      else if (change.kind === 'symlink') await stage.makeLink(number, change.target);
    } catch (error) {
      throw atPath(root.pathOf(change.path), error);
    }
    await lines.write({ ...change, number } satisfies Received);
    await pace.turn();
  }
  await source.expectEnd();
  await lines.flush();
}

/**
 * Plans to bring what was received into the tree, and tells each path that is in the way: it changed here since the checkpoint,
 * and is not what it is to become.
 */
export async function planLanding(
  kept: KeptTree,
  root: TreeRoot,
  received: number,
  stage: Stage,
  planner: Planner,
  pace: Pace,
  onConflict: (path: string) => void,
): Promise<void> {
  const changes = linesOf<Received>(received);
  for await (const [path, before, now, change] of merged(kept.entries(), walkTree(root, pace), changes)) {
    const above = await planner.at(path);
    if (above.outcome === 'conflict') continue;
    const conflict = () => {
      onConflict(path);
      planner.conflict(path);
    };
    if (!change) {
      // New here, or not known there, in a directory that is to go.
      if (now && above.outcome === 'goes') conflict();
      else if (now?.kind === 'directory') planner.stay(now);
      continue;
    }
    if (now) refuseClosed(before, now, root);
    const isOurs = isUnchanged(before, now);
    if (change.kind === 'removed') {
      if (now && isOurs) await planner.remove(now);
      else if (now) conflict();
    } else if (above.path !== parentOf(path) || above.outcome === 'goes' || (before && !now)) {
      conflict(); // it, or its directory, is gone here
    } else if (now?.kind === 'directory' && change.kind === 'directory') {
      const { mode, uid, gid } = change;
      if (isOurs) planner.stay(now, { mode, uid, gid });
      else if (haveSameMode(now, change)) planner.stay(now);
      else conflict();
    } else if (isOurs) {
      await planner.add(path, change.number, change.kind === 'directory' ? change : undefined, now);
    } else if (!now || !(await isEqual(now, change, stage.location(stagedName(change.number)), pace))) {
      conflict();
    }
  }
  await planner.finish();
}

/** Whether both sides have made the same of it. */
async function isEqual(now: LiveEntry, change: Arriving, staged: string, pace: Pace): Promise<boolean> {
  if (now.kind === 'symlink' && change.kind === 'symlink') {
    return nameOfBytes(await calls.readlink(kernelPath(now.location))) === change.target;
  }
  if (now.kind !== 'file' || change.kind !== 'file') return false;
  return haveSameMode(now, change) && now.size === change.size && (await haveSameContent(now.location, staged, pace));
}

/** The bits above the permissions are not everybody's to set: what has landed already may be without them. */
function haveSameMode(one: { mode: number }, other: { mode: number }): boolean {
  return (one.mode & 0o777) === (other.mode & 0o777);
}

async function haveSameContent(one: string, other: string, pace: Pace): Promise<boolean> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
  const files: number[] = [];
  try {
    for (const path of [one, other]) files.push((await openRegularFile(path, flags))[0]);
    const [first = -1, second = -1] = files;
    for (;;) {
      const piece = await readUpTo(first, pieceBytes);
      if (!piece.equals(await readUpTo(second, pieceBytes))) return false;
      if (piece.length < pieceBytes) return true;
      await pace.turn();
    }
  } finally {
    for (const file of files) await calls.close(file);
  }
}

/** Takes the changes, and what is behind them, from a stream. */
class ChangeReader {
  readonly #stream: WireStream;
  #rest: Uint8Array = new Uint8Array();

  constructor(stream: WireStream) {
    this.#stream = stream;
  }

  async next(): Promise<TreeChange> {
    const line: Uint8Array[] = [];
    let bytes = 0;
    for (;;) {
      const end = this.#rest.indexOf(newline);
      line.push(this.#take(end === -1 ? this.#rest.length : end));
      bytes += line.at(-1)?.length ?? 0;
      if (bytes > limits.record) throw invalid('a line is too long');
      if (end !== -1) break;
      await this.#fill();
    }
    this.#take(1);
    try {
      return parseChange(Buffer.concat(line));
    } catch (error) {
      throw invalid(error instanceof Error ? error.message : String(error));
    }
  }

  async *content(size: number, pace: Pace): AsyncGenerator<Uint8Array, void> {
    for (let missing = size; missing > 0; ) {
      if (this.#rest.length === 0) await this.#fill();
      const piece = this.#take(Math.min(missing, this.#rest.length));
      missing -= piece.length;
      yield piece;
      await pace.turn();
    }
  }

  async expectEnd(): Promise<void> {
    if (this.#rest.length > 0 || (await this.#stream.read()) !== null)
      throw invalid('there is something behind the end');
  }

  #take(bytes: number): Uint8Array {
    const taken = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    return taken;
  }

  async #fill(): Promise<void> {
    const chunk = await this.#stream.read();
    if (chunk === null) throw invalid('they break off');
    this.#rest = chunk;
  }
}

function invalid(reason: string): RequestError {
  return new RequestError('invalid_changes', `these are no changes of a checkpoint: ${reason}`);
}
