import type { Engine } from '../engine/engine.ts';
import { instanceLabel, keepLabel, runLabel } from './options.ts';
import { called } from './pool.ts';
import { hostLabel, parentLabel, sandboxLabel } from './sandbox.ts';
import type { StateDir } from './state-dir.ts';

/** Something that `host.collect()` removed. */
export interface Collected {
  /**
   * `files`: what the state directory has of a sandbox. `container`, `volume`: what the sandbox-agent is put into sandboxes
   * with, and what a sandbox kept beside its container. `image`: what forks were made of.
   */
  kind: 'sandbox' | 'files' | 'container' | 'volume' | 'image';
  /** The sandbox's id, or the engine's name. */
  name: string;
  /** Why nobody wants it. */
  reason:
    | 'never finished'
    | 'its pool has no process'
    | 'its run has no process'
    | 'its agent instance has no process'
    | 'its sandbox is gone'
    | 'unused';
}

/** What `host.collect()` did. */
export interface CollectReport {
  /** With `dryRun`: what would be. */
  removed: Collected[];
  /** Nothing was removed, as asked for. */
  dryRun: boolean;
}

export async function collect(
  engine: Engine,
  state: StateDir,
  { dryRun }: { dryRun: boolean },
): Promise<CollectReport> {
  const removed: Collected[] = [];
  const containers = await engine.find({ [hostLabel]: state.hostId });
  const sandboxes = new Map(containers.flatMap((one) => [[one.labels[sandboxLabel] ?? '', one]] as const));
  sandboxes.delete('');
  for (const [name, container] of sandboxes) {
    const owner = await state.owner(name);
    if (owner?.isAlive) continue;
    const sandbox = await called(state, container);
    const work = workOf(sandbox?.labels ?? {});
    if (owner?.finished && !work) continue;
    // A sandbox that nobody wrote down lost its record, as when the state directory was restored: it may be wanted. One that
    // was never started is what the engine made for a process that was killed.
    if (!owner && !work && container.state !== 'created') continue;
    const withoutWork = sandbox ? 'never finished' : 'its pool has no process';
    const reason = work ? (`its ${work} has no process` as const) : withoutWork;
    removed.push({ kind: 'sandbox', name, reason });
    if (dryRun) continue;
    await engine.remove(container.id);
    await state.forgetDead(name);
  }
  for (const name of await state.known()) {
    if (sandboxes.has(name) || (await state.owner(name))?.isAlive) continue;
    removed.push({ kind: 'files', name, reason: 'its sandbox is gone' });
    if (!dryRun) await state.forgetDead(name);
  }
  const isInUse = (labels: Readonly<Record<string, string>>) => state.hasForksMade(labels[parentLabel] ?? '');
  for (const { kind, name } of await engine.sweep(state.hostId, { dryRun, isInUse })) {
    removed.push({ kind, name, reason: kind === 'container' ? 'never finished' : 'unused' });
  }
  if (!dryRun) await state.sweepProcesses();
  return { removed, dryRun };
}

/** Which work it goes with; `undefined`: with none. */
function workOf(labels: Readonly<Record<string, string>>): 'run' | 'agent instance' | undefined {
  if (labels[keepLabel] !== undefined) return undefined;
  if (labels[runLabel] !== undefined) return 'run';
  return labels[instanceLabel] === undefined ? undefined : 'agent instance';
}
