import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { marker } from '../environment.ts';
import { asRoot } from '../identity.ts';

/** What a tree is made of: processes with such a marker, and what descends from, or is in a group or session of, `leaders`. */
export interface Tree {
  leaders: ReadonlySet<number>;
  hasMarker: (value: string) => boolean;
}

interface Entry {
  pid: number;
  parent: number;
  group: number;
  session: number;
  marker: string | undefined;
}

/** Every process of the sandbox but this one, zombies left out: they are dead already. */
function processTable(): Entry[] {
  const result: Entry[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      // The name in parentheses may hold spaces and parentheses itself: proc_pid_stat(5).
      const [state, parent, group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z' || state === 'X') continue;
      result.push({
        pid,
        parent: Number(parent),
        group: Number(group),
        session: Number(session),
        marker: readMarker(pid),
      });
    } catch {
      // It ended meanwhile.
    }
  }
  return result;
}

/**
 * The kernel shows an environment to whoever has the same ids as the process, or CAP_SYS_PTRACE: root without it sees
 * only root's. So it is read with the ids of the commands' user first, then as root.
 */
function readMarker(pid: number): string | undefined {
  const environment = readEnvironment(pid) ?? asRoot(() => readEnvironment(pid));
  if (environment === undefined) return undefined;
  const start = `\0${environment}`.indexOf(`\0${marker}=`);
  if (start === -1) return undefined;
  const from = start + marker.length + 1;
  const end = environment.indexOf('\0', from);
  return environment.slice(from, end === -1 ? undefined : end);
}

function readEnvironment(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return undefined;
  }
}

/** The processes of a tree that are alive. */
export function findTree(tree: Tree): number[] {
  const table = processTable();
  const found = new Set<number>();
  for (const entry of table) {
    // A process that carries another command's marker is that one's, though it sits in a group with a number that was
    // ours once: the kernel gives numbers again.
    const isOurs =
      entry.marker === undefined
        ? tree.leaders.has(entry.pid) || tree.leaders.has(entry.group) || tree.leaders.has(entry.session)
        : tree.hasMarker(entry.marker);
    if (isOurs) found.add(entry.pid);
  }
  // A child that cleared its environment and left the group is still a child.
  for (let grew = true; grew; ) {
    grew = false;
    for (const entry of table) {
      if (found.has(entry.pid) || !found.has(entry.parent)) continue;
      if (entry.marker !== undefined && !tree.hasMarker(entry.marker)) continue;
      found.add(entry.pid);
      grew = true;
    }
  }
  return [...found];
}

/** Sends one signal to every process of a tree. @returns how many there were */
export function signalTree(tree: Tree, signal: number): number {
  const pids = findTree(tree);
  asRoot(() => {
    for (const pid of pids) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
  });
  return pids.length;
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
