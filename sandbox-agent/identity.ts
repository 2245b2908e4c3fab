import { agentGroup } from '../src/protocol/socket.ts';
import { RequestError } from './errors.ts';
import { setRootHasCapabilities, setThreadGroup, setThreadGroups, setThreadUser, setUndumpable } from './kernel.ts';
import { readSmallFile } from './small-file.ts';

/** Who runs a command. */
export interface Identity {
  /** The name, or the number where the image has no name for it. */
  user: string;
  uid: number;
  gid: number;
  /** Further groups. */
  groups: number[];
  home: string;
  shell: string;
}

/**
 * Finds `name`, `uid`, `name:group` or `uid:gid` in the image's /etc/passwd and /etc/group, as the engine does. A
 * number needs no entry; its group is then 0.
 */
export function findIdentity(text: string): Identity {
  const [user = '', group] = text.split(':');
  const passwd = entries('/etc/passwd').find((fields) => fields[0] === user || fields[2] === user);
  const uid = passwd ? Number(passwd[2]) : toId(user);
  if (uid === undefined) throw new RequestError('unknown_user', `user ${user} is not in /etc/passwd of the image`);
  let gid = passwd ? toId(passwd[3] ?? '') : 0;
  if (group !== undefined) {
    const found = entries('/etc/group').find((fields) => fields[0] === group || fields[2] === group);
    gid = found ? Number(found[2]) : toId(group);
    if (gid === undefined) throw new RequestError('unknown_user', `group ${group} is not in /etc/group of the image`);
  }
  if (gid === undefined)
    throw new RequestError('unknown_user', `user ${user} has no group in /etc/passwd of the image`);
  const groups = passwd ? groupsOf(passwd[0] ?? '') : [];
  if ([uid, gid, ...groups].includes(agentGroup))
    throw new RequestError('EPERM', `no command may have id ${agentGroup}`);
  return { user: passwd?.[0] ?? user, uid, gid, groups, home: passwd?.[5] || '/', shell: passwd?.[6] || '/bin/sh' };
}

function groupsOf(user: string): number[] {
  const found = entries('/etc/group').filter((fields) => fields[3]?.split(',').includes(user));
  return found.map((fields) => Number(fields[2]));
}

function entries(path: string): string[][] {
  try {
    const lines = readSmallFile(path).split('\n');
    return lines.map((line) => line.split(':')).filter((fields) => toId(fields[2] ?? '') !== undefined);
  } catch {
    // An image without these files has no names: numbers still work.
    return [];
  }
}

/** The kernel has 32 bits for an id and drops what is above: a larger number could be that of another one. */
function toId(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

let resting: Pick<Identity, 'uid' | 'gid' | 'groups'> = { uid: 0, gid: agentGroup, groups: [] };

/**
 * From now on files are made, read and checked by the kernel with this user's rights. The real and saved ids stay
 * root's: no command may signal or trace the sandbox-agent, and it can take root back for a moment. Its group is no
 * longer looked at: a path that somebody outside gave must not lead to its socket.
 */
export function restAs({ uid, gid, groups }: Identity): void {
  process.setgroups?.(groups);
  process.setegid?.(gid);
  process.seteuid?.(uid);
  setUndumpable();
  resting = { uid, gid, groups };
}

/** Runs `action`, which must not wait, as root: on this thread only, so that no file operation under way is touched. */
export function asRoot<Result>(action: () => Result): Result {
  if (resting.uid === 0) return action();
  setThreadUser(-1, 0, -1);
  try {
    return action();
  } finally {
    setThreadUser(-1, resting.uid, -1);
  }
}

/**
 * Runs `action`, which must not wait, with exactly the ids of a command of this user, on this thread only: what it
 * starts has no other ids, and root's number without root's capabilities. The saved user id, which a program does not
 * get, stays root's: it is the way back, and keeps commands from tracing the sandbox-agent meanwhile.
 */
export function asCommand<Result>({ uid, gid, groups }: Identity, action: () => Result): Result {
  return asRoot(() => {
    try {
      if (!setRootHasCapabilities(false) && uid === 0) {
        const reason =
          'this kernel, as that of gVisor, can’t take root’s capabilities away: run commands as another user';
        throw new Error(reason);
      }
      setThreadGroups(groups);
      setThreadGroup(gid, gid, agentGroup);
      setThreadUser(uid, uid, 0);
      return action();
    } finally {
      setThreadUser(0, 0, 0);
      setThreadGroup(agentGroup, resting.gid, agentGroup);
      setThreadGroups(resting.groups);
      setRootHasCapabilities(true);
    }
  });
}
