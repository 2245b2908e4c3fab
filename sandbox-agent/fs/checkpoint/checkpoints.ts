import { mkdirSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import {
  type FsChanges,
  type FsCheckpoint,
  type FsDropCheckpoint,
  type FsLand,
  type FsLanded,
  type FsRollback,
  namedConflicts,
} from '../../../src/protocol/checkpoint.ts';
import type { WireStream } from '../../../src/protocol/mux.ts';
import { Pace } from '../../../src/protocol/pace.ts';
import { RequestError } from '../../errors.ts';
import { randomHex } from '../../random.ts';
import { codeOf } from '../path.ts';
import { CarryingOut, ChangedMeanwhile } from './carry-out.ts';
import { sendChanges } from './changes.ts';
import { KeptTree, type Restored } from './kept-tree.ts';
import { planLanding, receive } from './land.ts';
import { type Places, Plan, Planner } from './plan.ts';
import { closeAll, PrivateFiles } from './private.ts';
import { broughtBack, planRollback } from './rollback.ts';
import { Stage } from './stage.ts';
import { atPath, TreeRoot } from './tree.ts';

/** The kernel dates what changes by its ticks, the longest of which are 10 ms: two changes within one look the same. */
const tickMs = 15;

type Outcome = Pick<FsLanded, 'conflicts' | 'paths'>;

/** The checkpoints of a sandbox. They are kept with its kept output: as long as the container. */
export class Checkpoints {
  readonly #files: PrivateFiles;
  /** What changes trees, or has to see one as a whole: one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  /** To be made before `restAs`. */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#files = new PrivateFiles(directory);
  }

  /** Undoes what a sandbox-agent that was killed had begun, and removes what it has left. To be called before all else. */
  async recover(): Promise<void> {
    for (const { plan, places } of Plan.begun(this.#files)) {
      try {
        await this.#undoLeft(plan, places);
      } catch (error) {
        console.error(`Changes of files in ${places.root} were cut off, and not all of them could be undone:`, error);
      } finally {
        plan.close();
      }
    }
    try {
      await KeptTree.sweep(this.#files);
    } catch (error) {
      console.error(error); // they only take room
    }
  }

  async make({ id, path, copy }: FsCheckpoint, signal: AbortSignal): Promise<void> {
    await this.#alone(async () => {
      const root = await openRoot(path, { links: true });
      try {
        const since = Date.now();
        await wait(tickMs, undefined, { signal });
        await KeptTree.make(this.#files, id, root, copy, since, new Pace(signal));
      } catch (error) {
        throw atPath(root.path, error);
      } finally {
        await root.close();
      }
    });
  }

  async sendChanges({ id }: FsChanges, stream: WireStream, signal: AbortSignal): Promise<void> {
    try {
      await this.#using(id, (kept, root) => sendChanges(kept, root, stream, new Pace(signal), signal));
      stream.end();
    } catch (error) {
      stream.reset();
      throw error;
    }
  }

  async land({ id }: FsLand, stream: WireStream, signal: AbortSignal): Promise<Outcome> {
    try {
      return await this.#using(id, (_kept, root) =>
        Stage.using(root, async (stage) => {
          const name = `received-${randomHex(8)}`;
          const received = this.#files.create(name);
          try {
            const pace = new Pace(signal);
            await receive(stream, root, stage, received, pace);
            // Opened now: what was undone meanwhile has made it anew.
            return await this.#alone(() =>
              this.#using(id, (kept) => this.#landReceived(kept, root, received, stage, pace)),
            );
          } finally {
            closeAll(received);
            this.#files.remove(name);
          }
        }),
      );
    } catch (error) {
      stream.cancel();
      throw error;
    }
  }

  async rollback({ id }: FsRollback, signal: AbortSignal): Promise<void> {
    const pace = new Pace(signal);
    await this.#alone(() =>
      this.#using(id, (kept, root) =>
        Stage.using(root, async (stage) => {
          await this.#withPlan(async (plan) => {
            await planRollback(kept, root, stage, new Planner(root, plan), pace);
            await this.#carryOut(plan, root, stage, pace);
            await this.#refresh(root, () => broughtBack(kept, plan), new Pace());
          });
        }),
      ),
    );
  }

  async drop({ id }: FsDropCheckpoint): Promise<void> {
    await KeptTree.drop(this.#files, id);
  }

  #landReceived(kept: KeptTree, root: TreeRoot, received: number, stage: Stage, pace: Pace): Promise<Outcome> {
    return this.#withPlan(async (plan) => {
      const paths: string[] = [];
      let conflicts = 0;
      const onConflict = (path: string) => {
        conflicts += 1;
        if (paths.length < namedConflicts) paths.push(path);
      };
      await planLanding(kept, root, received, stage, new Planner(root, plan), pace, onConflict);
      if (conflicts > 0) return { conflicts, paths };
      try {
        await this.#carryOut(plan, root, stage, pace);
      } catch (error) {
        if (error instanceof ChangedMeanwhile) return { conflicts: 1, paths: [error.path] };
        throw error;
      }
      return { conflicts: 0, paths };
    });
  }

  async #withPlan<Result>(work: (plan: Plan) => Promise<Result>): Promise<Result> {
    const plan = Plan.create(this.#files, randomHex(8));
    try {
      return await work(plan);
    } finally {
      plan.close();
      plan.remove();
    }
  }

  async #using<Result>(id: string, work: (kept: KeptTree, root: TreeRoot) => Promise<Result>): Promise<Result> {
    const kept = await KeptTree.open(this.#files, id);
    try {
      const root = await openRoot(kept.path, { links: false });
      try {
        return await work(kept, root);
      } catch (error) {
        throw atPath(root.path, error);
      } finally {
        await root.close();
      }
    } finally {
      kept.close();
    }
  }

  #alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** @throws what kept it from that, when nothing is done */
  async #carryOut(plan: Plan, root: TreeRoot, stage: Stage, pace: Pace): Promise<void> {
    plan.begin({ root: root.path, stage: stage.path });
    await using work = new CarryingOut(plan, root, stage);
    try {
      await work.do(pace);
      plan.end();
    } catch (error) {
      try {
        await this.#undo(work, plan, root);
      } catch {
        const left = await stage.leave();
        const text = error instanceof Error ? error.message : String(error);
        throw new RequestError(
          codeOf(error) ?? 'EIO',
          `${text}; not all of it could be undone: what was replaced is in ${left}`,
        );
      }
      throw error;
    }
  }

  /** The rights are those of the sandbox's user; nothing else runs yet. */
  async #undoLeft(plan: Plan, places: Places): Promise<void> {
    const root = await TreeRoot.open(places.root, { links: false });
    try {
      const stage = await Stage.open(places.stage);
      try {
        await using work = new CarryingOut(plan, root, stage);
        await this.#undo(work, plan, root);
      } catch (error) {
        await stage.leave();
        throw error;
      } finally {
        await stage.close();
      }
    } finally {
      await root.close();
    }
  }

  async #undo(work: CarryingOut, plan: Plan, root: TreeRoot): Promise<void> {
    const pace = new Pace();
    await work.undo(pace);
    await this.#refresh(root, () => plan.uprooted(), pace);
  }

  /** Without it what is there again would look changed: no reason to fail. */
  async #refresh(root: TreeRoot, restored: () => AsyncIterable<Restored>, pace: Pace): Promise<void> {
    try {
      await KeptTree.refresh(this.#files, root, restored, pace);
    } catch (error) {
      console.error(error);
    }
  }
}

async function openRoot(path: string, options: { links: boolean }): Promise<TreeRoot> {
  try {
    return await TreeRoot.open(path, options);
  } catch (error) {
    throw atPath(path, error);
  }
}
