import { readFileSync } from 'node:fs';
import { RequestError } from './errors.ts';
import { setThreadEffectiveUser, setUndumpable } from './kernel.ts';

/** Who runs a command. */
export interface Identity {
  /** The name, or the number where the image has no name for it. */
  user: string;
  uid: number;
  gid: number;
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
  let gid: number | undefined = passwd ? Number(passwd[3]) : 0;
  if (group !== undefined) {
    const found = entries('/etc/group').find((fields) => fields[0] === group || fields[2] === group);
    gid = found ? Number(found[2]) : toId(group);
    if (gid === undefined) throw new RequestError('unknown_user', `group ${group} is not in /etc/group of the image`);
  }
  return { user: passwd?.[0] ?? user, uid, gid, home: passwd?.[5] || '/', shell: passwd?.[6] || '/bin/sh' };
}

function entries(path: string): string[][] {
  try {
    const lines = readFileSync(path, 'utf8').split('\n');
    return lines.map((line) => line.split(':')).filter((fields) => toId(fields[2] ?? '') !== undefined);
  } catch {
    // An image without these files has no names: numbers still work.
    return [];
  }
}

function toId(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

let restingUid = 0;

/**
 * From now on files are made, read and checked by the kernel with this user's rights. The real and saved ids stay
 * root's: no command may signal or trace the sandbox-agent, and it can take root back for a moment.
 */
export function restAs(identity: Identity): void {
  process.setegid?.(identity.gid);
  process.seteuid?.(identity.uid);
  setUndumpable();
  restingUid = identity.uid;
}

/** Runs `action`, which must not wait, as root: on this thread only, so that no file operation under way is touched. */
export function asRoot<Result>(action: () => Result): Result {
  if (restingUid === 0) return action();
  setThreadEffectiveUser(0);
  try {
    return action();
  } finally {
    setThreadEffectiveUser(restingUid);
  }
}
