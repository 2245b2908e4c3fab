import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { asRoot } from '../identity.ts';
import { maxBusyMs, restMs } from './exit.ts';

/**
 * A tree is all that a command or a session has started, by the number of a supplementary group that its first process
 * got. Every process inherits its groups, and only CAP_SETGID, which no command has, can shed one: neither a cleared
 * environment nor a session of its own nor the death of all parents leads out of a tree. credentials(7)
 */
export type Tree = number;

const { first, count } = groupsForTrees();
const known = new Set<Tree>();
let alive: ReadonlyMap<Tree, unknown> = new Map();
let last = -1;

/** A number that is no other tree's, nor that of a process that a forgotten tree left. Until it is forgotten itself. */
export function newTree(): Tree {
  for (;;) {
    last = (last + 1) % count;
    // The numbers begin again: those that still live are passed over from here on.
    if (last === 0) alive = liveProcesses();
    const tree = first + last;
    if (known.has(tree) || alive.has(tree)) continue;
    known.add(tree);
    return tree;
  }
}

export function forgetTree(tree: Tree): void {
  known.delete(tree);
}

/** Whether a group is kept for trees: no user may be in it. */
export function isTree(group: number): boolean {
  return group >= first && group < first + count;
}

/**
 * In a user namespace of 65,536 ids, as of a rootless engine, there are no others than these. Elsewhere it is numbers that
 * no system gives to people or services, as files of a bind-mounted workspace may belong to their groups.
 */
function groupsForTrees(): { first: number; count: number } {
  const [, , mapped = '0'] = readFileSync('/proc/self/gid_map', 'latin1').trim().split(/\s+/);
  return Number(mapped) >= 2 ** 31 ? { first: 2 ** 30, count: 2 ** 30 - 2 ** 16 } : { first: 45_000, count: 15_000 };
}

/** The processes of every tree that are alive. */
export function liveProcesses(): Map<Tree, number[]> {
  const result = new Map<Tree, number[]>();
  for (const { pid, trees } of allLive()) {
    for (const tree of trees) {
      const pids = result.get(tree);
      if (pids) pids.push(pid);
      else result.set(tree, [pid]);
    }
  }
  return result;
}

interface Live {
  pid: number;
  /** Of its process group. */
  group: number;
  /** One letter, as in proc_pid_status(5). */
  state: string;
  trees: Tree[];
}

/**
 * @param seen - processes to pass over; all that are there are added to it
 * @returns `undefined` for one that ended before it could be looked at
 */
function* look(seen = new Set<number>()): Generator<Live | undefined> {
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid || seen.has(pid)) continue;
    seen.add(pid);
    yield lookAt(pid);
  }
}

function allLive(): Live[] {
  return [...look()].filter((live) => live !== undefined);
}

const fields = {
  state: /^State:\s*(.)/m,
  threads: /^Threads:\s*(\d+)/m,
  // The last number is that of our own namespace.
  group: /^NSpgid:.*?(\d+)$/m,
  groups: /^Groups:\s*(.*)$/m,
};

function lookAt(pid: number): Live | undefined {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return undefined; // it ended meanwhile
  }
  const field = (name: keyof typeof fields) => fields[name].exec(status)?.[1] ?? '';
  const state = field('state');
  // Of a zombie with more than one thread only the first is dead.
  if (/[ZX]/.test(state) && Number(field('threads')) <= 1) return undefined;
  const trees = field('groups').split(' ').map(Number).filter(isTree);
  return { pid, group: Number(field('group')), state, trees };
}

/**
 * Whether a process of the tree is at work or waits for its turn, and whether one of those may pass on what others wrote: it
 * reads a pipe, as one behind `>(…)` does, or has hardly had a turn in which it could have begun to.
 */
export function workOf(tree: Tree): { isAny: boolean; isPassingOn: boolean } {
  const atWork = allLive().filter(({ state, trees }) => trees.includes(tree) && /[RD]/.test(state));
  return { isAny: atWork.length > 0, isPassingOn: atWork.some(({ pid }) => readsPipe(pid) || isStarved(pid)) };
}

function readsPipe(pid: number): boolean {
  const look = () => readlinkSync(`/proc/${pid}/fd/0`).startsWith('pipe:');
  try {
    return look();
  } catch {
    try {
      return asRoot(look); // one of root
    } catch {
      return false; // it ended meanwhile, or reads nothing
    }
  }
}

/** It has had less than 20 to 30 ms of a CPU since its fork. */
function isStarved(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // After the name, which may hold anything: from the state on. proc_pid_stat(5)
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]) <= 2; // in hundredths of a second, of the user and the system
  } catch {
    return false; // it ended meanwhile
  }
}

/** Sends one signal to every process of a tree. @returns how many there were */
export function signalTree(tree: Tree, signal: number): number {
  const pids = liveProcesses().get(tree) ?? [];
  signalAll(pids, signal);
  return pids.length;
}

export function signalAll(pids: readonly number[], signal: number): void {
  // Parents before children, as their numbers have it: a shell whose child is killed first may still end with a code.
  const ordered = [...pids].sort((one, other) => one - other);
  asRoot(() => {
    for (const pid of ordered) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
  });
}

const killRounds = 1_000;
const stopRounds = 20;
/** What ended before it could be looked at may have been of the tree, and have forked: then it is looked for this often. */
const missRounds = 5;

/**
 * Kills a tree until nothing of it is alive. What is stopped cannot fork: all of it is stopped before the first is killed,
 * as each place that becomes free would be taken by a fork of those that are left. SIGKILL also reaches what is stopped;
 * what hangs in the kernel dies when it comes out, and is waited for 10 s.
 */
export async function killTree(tree: Tree): Promise<void> {
  for (let round = 0; round < killRounds; round++) {
    const pids = (await stopTree(tree)) ?? stopAll(tree);
    if (pids.length === 0) return;
    signalAll(pids, constants.signals.SIGKILL);
    await wait(round < 5 ? 1 : 10);
  }
}

/**
 * Each is stopped as soon as it is seen, with its process group: of those, which are all of one tree, the kernel stops all
 * at once. A fork that is under way when its parent is told to stop does not take place.
 * @returns what is alive; `undefined` when there are always others
 */
async function stopTree(tree: Tree): Promise<number[] | undefined> {
  const seen = new Set<number>();
  const pids: number[] = [];
  const groups = new Set<number>();
  let misses = 0;
  for (let round = 0; round < stopRounds; round++) {
    let isAnyNew = false;
    let isAnyGone = false;
    let since = performance.now();
    for (const live of look(seen)) {
      if (performance.now() - since > maxBusyMs) {
        await wait(restMs);
        since = performance.now();
      }
      if (!live) isAnyGone = true;
      if (!live?.trees.includes(tree)) continue;
      const { pid, group } = live;
      isAnyNew = true;
      pids.push(pid);
      signalAll([group > 1 && !groups.has(group) ? -group : pid], constants.signals.SIGSTOP);
      groups.add(group);
    }
    misses = isAnyNew ? 0 : misses + 1;
    if (!isAnyNew && (!isAnyGone || misses === missRounds)) return pids;
  }
  return undefined;
}

/**
 * For what forks faster than it can be looked at, each time into a session of its own: the kernel stops all that there is
 * in one step. What is of other trees goes on at once, but for what was stopped before.
 */
function stopAll(tree: Tree): number[] {
  const stopped = new Set(allLive().flatMap(({ pid, state }) => (/[Tt]/.test(state) ? [pid] : [])));
  signalAll([-1], constants.signals.SIGSTOP);
  const all = allLive();
  const isOfTree = ({ trees }: Live) => trees.includes(tree);
  const others = all.filter((live) => !isOfTree(live) && !stopped.has(live.pid));
  signalAll(
    others.map(({ pid }) => pid),
    constants.signals.SIGCONT,
  );
  return all.filter(isOfTree).map(({ pid }) => pid);
}
