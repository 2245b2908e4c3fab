import { promises as fs } from 'node:fs';
import type { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { calls } from '../calls.ts';
import { makeDirectory } from '../directory.ts';
import { hasCode, kernelPath } from '../path.ts';
import { linesBackwards, linesOf } from './lines.ts';
import type { Arrival, Plan, Removal, Touched } from './plan.ts';
import { type Stage, setAttributes, stagedName } from './stage.ts';
import { atPath, entryOf, isSame, shortened, TreeDirectories, type TreeEntry, type TreeRoot } from './tree.ts';

const removedName = (number: number) => `removed-${number}`;
const replacedName = (number: number) => `replaced-${number}`;

/** What lets its owner put something into a directory. */
const writable = 0o300;

/** What is to be replaced or removed is another one than when that was planned. */
export class ChangedMeanwhile extends RequestError {
  /** In the tree. */
  readonly path: string;
  constructor(path: string, root: TreeRoot) {
    super('file_changed', `${root.pathOf(path)} changed meanwhile. Try again.`, shortened(root.pathOf(path)));
    this.path = path;
  }
}

/**
 * Carries out a plan, entry by entry: a directory that an image has brought can't be renamed. What goes is moved to the stage,
 * so that it can come back.
 */
export class CarryingOut implements AsyncDisposable {
  readonly #plan: Plan;
  readonly #root: TreeRoot;
  readonly #stage: Stage;
  readonly #tree: TreeDirectories;

  constructor(plan: Plan, root: TreeRoot, stage: Stage) {
    this.#plan = plan;
    this.#root = root;
    this.#stage = stage;
    this.#tree = new TreeDirectories(root);
  }

  /** @throws {ChangedMeanwhile} this, and what the kernel says, when a part of it is done */
  async do(pace: Pace): Promise<void> {
    const { removals, arrivals, touched } = this.#plan.files;
    for await (const { path, was } of linesOf<Touched>(touched)) {
      if (was && isShut(was))
        await this.#at(pace, path, async () => calls.fchmod(await this.#tree.enter(path), was.mode | writable));
    }
    // What is in a directory goes before it.
    for await (const removal of linesBackwards<Removal>(removals)) {
      await this.#at(pace, removal.was.path, () => this.#moveOut(removal));
    }
    for await (const arrival of linesOf<Arrival>(arrivals))
      await this.#at(pace, arrival.path, () => this.#moveIn(arrival));
    for await (const directory of linesOf<Touched>(touched))
      await this.#at(pace, directory.path, () => this.#finish(directory));
  }

  /**
   * Takes back what was done: how far that came shows in the stage. What fails does not keep the rest from it.
   * @throws the first failure
   */
  async undo(pace: Pace): Promise<void> {
    const { removals, arrivals, touched } = this.#plan.files;
    const failures: unknown[] = [];
    const attempt = async (path: string, work: () => Promise<void>) => {
      await this.#at(pace, path, work).catch((error: unknown) => failures.push(error));
    };
    for await (const arrival of linesBackwards<Arrival>(arrivals)) {
      await attempt(arrival.path, () => this.#takeBack(arrival));
    }
    for await (const removal of linesOf<Removal>(removals))
      await attempt(removal.was.path, () => this.#moveBack(removal));
    for await (const { path, was } of linesOf<Touched>(touched)) {
      if (was) await attempt(path, async () => setAttributes(await this.#tree.enter(path), was));
    }
    if (failures.length > 0) throw failures[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tree.close();
  }

  async #at(pace: Pace, path: string, work: () => Promise<void>): Promise<void> {
    await pace.turn();
    try {
      await work();
    } catch (error) {
      throw atPath(this.#root.pathOf(path), error);
    }
  }

  async #moveOut({ number, was }: Removal): Promise<void> {
    const location = await this.#tree.to(was.path);
    if (was.kind === 'directory') {
      await fs.rmdir(kernelPath(location)).catch((error: unknown) => {
        throw hasCode(error, 'ENOTEMPTY', 'EEXIST') ? new ChangedMeanwhile(was.path, this.#root) : error;
      });
    } else {
      await this.#expect(was, location, was.path);
      await calls.rename(kernelPath(location), this.#stage.location(removedName(number)));
    }
  }

  async #moveIn({ number, path, replaces }: Arrival): Promise<void> {
    const location = await this.#tree.to(path);
    await this.#expect(replaces, location, path);
    if (replaces) await calls.rename(kernelPath(location), this.#stage.location(replacedName(number)));
    await calls.rename(this.#stage.location(stagedName(number)), kernelPath(location));
  }

  async #finish({ path, was, wanted }: Touched): Promise<void> {
    if (wanted) await setAttributes(await this.#tree.enter(path), wanted, was && !isShut(was) ? was : undefined);
  }

  async #takeBack({ number, path, isDirectory, replaces }: Arrival): Promise<void> {
    const staged = this.#stage.location(stagedName(number));
    const isIn = (await entryAt(staged)) === undefined;
    if (isIn && isDirectory) {
      // What somebody else has put into it meanwhile stays.
      await ignoring(async () => fs.rmdir(kernelPath(await this.#tree.to(path))), 'ENOENT', 'ENOTDIR', 'ENOTEMPTY');
    } else if (isIn) {
      await ignoring(async () => calls.rename(kernelPath(await this.#tree.to(path)), staged), 'ENOENT', 'ENOTDIR');
    }
    if (replaces) await this.#bringBack(replacedName(number), path);
  }

  async #moveBack({ number, was }: Removal): Promise<void> {
    if (was.kind !== 'directory') return this.#bringBack(removedName(number), was.path);
    const location = await this.#tree.to(was.path);
    await ignoring(async () => makeDirectory(location, { mode: 0o700 }), 'EEXIST');
  }

  async #bringBack(name: string, path: string): Promise<void> {
    const location = this.#stage.location(name);
    if (await entryAt(location)) await calls.rename(location, kernelPath(await this.#tree.to(path)));
  }

  /** @param was - `undefined`: nothing may be there */
  async #expect(was: TreeEntry | undefined, location: string, path: string): Promise<void> {
    const now = await entryAt(location);
    if (was ? !now || !isSame(was, now) : now) throw new ChangedMeanwhile(path, this.#root);
  }
}

async function entryAt(location: string): Promise<TreeEntry | undefined> {
  try {
    return entryOf('', await calls.lstat(kernelPath(location)));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Nothing can be put into it, while its owner may change that. */
function isShut({ mode, uid }: TreeEntry): boolean {
  return (mode & writable) !== writable && uid === process.geteuid?.();
}

async function ignoring(work: () => Promise<void> | void, ...codes: string[]): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!hasCode(error, ...codes)) throw error;
  }
}
