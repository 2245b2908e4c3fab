import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { asRoot } from '../identity.ts';

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
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    for (const tree of treesOf(pid)) {
      const pids = result.get(tree);
      if (pids) pids.push(pid);
      else result.set(tree, [pid]);
    }
  }
  return result;
}

function treesOf(pid: number): Tree[] {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return []; // it ended meanwhile
  }
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  // Of a zombie with more than one thread only the first is dead.
  if (/^[ZX]/.test(field('State')) && Number(field('Threads')) <= 1) return [];
  return field('Groups').split(' ').map(Number).filter(isTree);
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

/**
 * Kills a tree until nothing of it is alive. Several rounds: between look and kill a process may have forked.
 * SIGKILL also reaches what is stopped; what hangs in the kernel dies when it comes out, and is waited for 10 s.
 */
export async function killTree(tree: Tree): Promise<void> {
  const kill = 9;
  for (let round = 0; round < killRounds && signalTree(tree, kill) > 0; round++) await wait(round < 5 ? 1 : 10);
}
