import { fchownSync, promises as fs } from 'node:fs';
import { dirname } from 'node:path/posix';
import { asRoot } from '../../identity.ts';
import { randomHex } from '../../random.ts';
import { calls, writeAll } from '../calls.ts';
import { makeDirectory } from '../directory.ts';
import { withPart } from '../part.ts';
import { hasCode, kernelPath } from '../path.ts';
import { rm } from '../remove.ts';
import { TreeRoot } from './tree.ts';

export const stagedName = (number: number) => `new-${number}`;

/** What a file or directory is given. */
export interface Attributes {
  mode: number;
  uid: number;
  gid: number;
  /** Left out: it stays as it is. */
  modifiedMs?: number;
}

/**
 * A directory in that of a checkpoint, on its file system: what is to come into the tree is made here, what goes out of it is
 * moved here, so that either is one rename. No walk sees it, and it goes at the end.
 */
export class Stage {
  readonly #root: TreeRoot;
  readonly path: string;
  isLeft = false;

  private constructor(root: TreeRoot) {
    this.#root = root;
    this.path = root.path;
  }

  static async using<Result>(root: TreeRoot, work: (stage: Stage) => Promise<Result>): Promise<Result> {
    return withPart(root.path, async (path) => {
      makeDirectory(path, { mode: 0o700 });
      let stage: Stage | undefined;
      try {
        stage = await Stage.open(path);
        return await work(stage);
      } finally {
        await stage?.close();
        if (!stage?.isLeft) await removeStage(path);
      }
    });
  }

  /** One that an earlier sandbox-agent has left. */
  static async open(path: string): Promise<Stage> {
    return new Stage(await TreeRoot.open(path, { links: false }));
  }

  location(name: string): string {
    return `${this.#root.location}/${name}`;
  }

  async makeFile(number: number, attributes: Attributes, content: AsyncIterable<Uint8Array>): Promise<void> {
    const file = await calls.open(this.location(stagedName(number)), 'wx', 0o600);
    try {
      for await (const piece of content) await writeAll(file, [piece]);
      await calls.fchmod(file, attributes.mode);
      await setTime(file, attributes);
      this.#chown(file, attributes);
    } finally {
      await calls.close(file);
    }
  }

  /** Its attributes come when all is in it: it may be one that nothing can be put into. */
  makeDirectory(number: number): void {
    makeDirectory(this.location(stagedName(number)), { mode: 0o700 });
  }

  async makeLink(number: number, target: string): Promise<void> {
    await fs.symlink(kernelPath(target), this.location(stagedName(number)));
  }

  /** Leaves it where people see it, as it has what is nowhere else. @returns its path */
  async leave(): Promise<string> {
    this.isLeft = true;
    const path = `${dirname(this.path)}/berth-left-${randomHex(8)}`;
    await calls.rename(kernelPath(this.path), kernelPath(path));
    return path;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  /** What is made here has the owner of the directory. */
  #chown(file: number, attributes: Attributes): void {
    const { uid, gid } = this.#root.entry;
    if (uid !== attributes.uid || gid !== attributes.gid) chown(file, attributes);
  }
}

/** Whatever becomes of it, the work is done, or has failed with an error of its own; a walk does not see it. */
async function removeStage(path: string): Promise<void> {
  // With a signal of its own: also when the host is gone, nothing is left behind.
  const { signal } = new AbortController();
  try {
    await rm({ type: 'fs.rm', requestId: 0, path, recursive: true, force: true }, signal);
  } catch (error) {
    console.error(error);
  }
}

/**
 * Of an open directory, whoever it belongs to.
 * @param now - left out: unknown. What it has already is not set
 */
export async function setAttributes(file: number, wanted: Attributes, now?: Attributes): Promise<void> {
  if (now && hasAll(now, wanted)) return;
  const stats = await calls.fstat(file);
  const own = { uid: process.geteuid?.() ?? 0, gid: stats.gid };
  // Only who owns it may do this, root neither: it has no capability for that here.
  if (stats.uid !== own.uid) chown(file, own);
  await calls.fchmod(file, wanted.mode);
  await setTime(file, wanted);
  if (own.uid !== wanted.uid || own.gid !== wanted.gid) chown(file, wanted);
}

function hasAll(now: Attributes, { mode, uid, gid, modifiedMs }: Attributes): boolean {
  const isTimeOther = modifiedMs !== undefined && modifiedMs !== now.modifiedMs;
  return now.mode === mode && now.uid === uid && now.gid === gid && !isTimeOther;
}

/** Beyond that no file system knows a time. */
const maxTimeMs = 2 ** 40 * 1_000;

/** Node takes a negative number for the present, and a date has no fractions of a millisecond. */
async function setTime(file: number, { modifiedMs }: Pick<Attributes, 'modifiedMs'>): Promise<void> {
  if (modifiedMs === undefined || Math.abs(modifiedMs) >= maxTimeMs) return;
  const time = modifiedMs < 0 ? new Date(modifiedMs) : modifiedMs / 1_000;
  await calls.futimes(file, time, time);
}

/** Where the owner is none that this file system, or this user namespace, knows it stays who made it. */
function chown(file: number, { uid, gid }: Pick<Attributes, 'uid' | 'gid'>): void {
  try {
    asRoot(() => fchownSync(file, uid, gid));
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'EINVAL', 'ENOTSUP')) throw error;
  }
}
