import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { setThreadUser, tryOpen } from '../kernel.ts';

// cgroup v2 first, then v1; both count the processes that were killed for want of memory in a line `oom_kill N`.
const counters = ['/sys/fs/cgroup/memory.events', '/sys/fs/cgroup/memory/memory.oom_control'];
const buffer = Buffer.alloc(1_024);
let counter: number | undefined | null = null;

/** How often the kernel killed a process of the sandbox for want of memory; 0 where the kernel does not say. */
export function outOfMemoryKills(): number {
  if (counter === null) counter = openFirst(counters, 'r');
  return Number(/^oom_kill (\d+)$/m.exec(readStart(counter))?.[1] ?? 0);
}

/** The kernel tells nobody who is outside of its cgroup in time; to look costs some microseconds. */
const lookMs = 100;

/** Resolves with the number of such kills when it is more than `after`, at the latest after `waitMs`. */
export async function killsBeyond(after: number, waitMs: number, signal: AbortSignal): Promise<number> {
  for (const since = performance.now(); ; ) {
    const kills = outOfMemoryKills();
    const leftMs = since + waitMs - performance.now();
    if (kills > after || leftMs <= 0) return kills;
    await wait(Math.min(lookMs, leftMs), undefined, { signal });
  }
}

// The kernel kills the process with the most memory, to which it adds these thousandths of the limit:
// proc_pid_oom_score_adj(5). Opened at the start, as root: at rest the sandbox-agent may not open it.
const ownScore = openFirst(['/proc/self/oom_score_adj'], 'r+');
const restingScore = Number(readStart(ownScore));
const highestScore = 1_000;
/** How often a score is tried to be raised, as the command's user and as root. */
const maxRounds = 10;
/**
 * With its whole text the sandbox-agent is more than half of the smallest sandbox, and counts as that much: together it
 * must stay below the highest score.
 */
const startingScore = Math.min(restingScore + 300, highestScore);

/**
 * Calls `start` so that the kernel kills the process which it starts, and all that comes of it, before the
 * sandbox-agent. That has the whole text of Node for its memory, so would be the first to go, and the sandbox with it.
 * To be called with the ids of the command: the file of its score is theirs.
 *
 * A child begins with its parent's score, and may have children before its own is raised: a part of the way will do for
 * those. So ours goes up meanwhile, but less than that of the commands that run, as the start itself may take the last
 * memory.
 */
export function startKilledFirst(start: () => number): number {
  if (ownScore === undefined) return start();
  let pid: number;
  try {
    writeSync(ownScore, String(startingScore), 0);
    pid = start();
  } finally {
    writeSync(ownScore, String(restingScore), 0);
  }
  raiseScore(pid);
  return pid;
}

/**
 * Of a process and the children that it has: those to come begin with its score. On a busy machine a shell has some
 * before its start is over here, and the kernel would kill the shell in place of them.
 */
function raiseScore(pid: number): void {
  try {
    raise(`/proc/${pid}/oom_score_adj`);
    // Each has a space behind it: not one of which only the first digits were read.
    for (const [child] of readChildren(pid).matchAll(/\d+(?= )/g)) raiseScore(Number(child));
  } catch {
    // It has ended.
  }
}

function readChildren(pid: number): string {
  const file = tryOpen(`/proc/${pid}/task/${pid}/children`, constants.O_RDONLY);
  if (file < 0) return '';
  try {
    return readStart(file);
  } finally {
    closeSync(file);
  }
}

/**
 * A program's files in /proc are root's as long as its memory may not be looked at: always when it may be executed but not
 * read, and every program for a moment of its start, in which we may be back from starting it already. So their owner may
 * change between two attempts, and more than once.
 */
function raise(path: string): void {
  for (let round = 1; ; round++) {
    if (writesScore(path) || asThreadRoot(() => writesScore(path))) return;
    if (round === maxRounds) throw new Error(`${path} can't be written`);
  }
}

/** @returns whether it is there, and these ids may */
function writesScore(path: string): boolean {
  const file = tryOpen(path, constants.O_WRONLY);
  if (file < 0) return false;
  try {
    writeSync(file, String(highestScore));
    return true;
  } finally {
    closeSync(file);
  }
}

function asThreadRoot<Result>(work: () => Result): Result {
  const user = process.geteuid?.() ?? 0;
  setThreadUser(-1, 0, -1);
  try {
    return work();
  } finally {
    setThreadUser(-1, user, -1);
  }
}

function openFirst(paths: string[], flags: string): number | undefined {
  for (const path of paths) {
    try {
      return openSync(path, flags);
    } catch {
      // The next one.
    }
  }
  return undefined;
}

function readStart(file: number | undefined): string {
  if (file === undefined) return '';
  try {
    return buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.length, 0));
  } catch {
    return '';
  }
}
