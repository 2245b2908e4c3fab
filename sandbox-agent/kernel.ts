import { dlopen } from 'node:ffi';
import { constants } from 'node:os';

// What Node has no function for. All of it is libc's, in this process already.
const libc = dlopen(null, {
  syscall: { arguments: ['i64', 'i32', 'i32', 'i32'], return: 'i64' },
  prctl: { arguments: ['i32', 'i64', 'i64', 'i64', 'i64'], return: 'i32' },
  waitpid: { arguments: ['i32', 'pointer', 'i32'], return: 'i32' },
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
}).functions;

const setresuid = { x64: 117n, arm64: 147n }[process.arch as 'x64' | 'arm64'];
const wnohang = 1;
const oCloexec = 0o2000000;
const pr = { setDumpable: 4n, setSecurebits: 28n } as const;
const secbitNoroot = 1n;

/**
 * Sets the effective user id of the calling thread alone. libc's `seteuid` sets that of all threads, one after the
 * other, with a signal to each: a hundred times slower, and file operations under way on them would change sides.
 */
export function setThreadEffectiveUser(uid: number): void {
  if (setresuid === undefined) throw new Error(`Berth does not know the system calls of ${process.arch}.`);
  if (Number(libc.syscall(setresuid, -1, uid, -1)) !== 0) throw new Error(`setresuid(-1, ${uid}, -1) failed`);
}

/** Whether a program that is started as root from now on gets root's capabilities: capabilities(7), SECBIT_NOROOT. */
export function setRootHasCapabilities(value: boolean): void {
  if (prctl(pr.setSecurebits, value ? 0n : secbitNoroot) !== 0) throw new Error('prctl(PR_SET_SECUREBITS) failed');
}

/** Hides this process's memory, environment and descriptors from every other process without CAP_SYS_PTRACE. */
export function setUndumpable(): void {
  if (prctl(pr.setDumpable, 0n) !== 0) throw new Error('prctl(PR_SET_DUMPABLE) failed');
}

function prctl(option: bigint, value: bigint): number {
  return libc.prctl(Number(option), value, 0n, 0n, 0n);
}

/** Takes the exit of a child that ended; `false` when it has not, or is none. */
export function reap(pid: number): boolean {
  return libc.waitpid(pid, null, wnohang) === pid;
}

/**
 * A pipe of the kernel. What Node makes for `stdio: 'pipe'` is a socket: opening /dev/stdout then fails with ENXIO.
 */
export function makePipe(): { readEnd: number; writeEnd: number } {
  const ends = new Int32Array(2);
  if (libc.pipe2(new Uint8Array(ends.buffer), oCloexec) !== 0) {
    throw Object.assign(new Error('no descriptors are left'), { code: 'EMFILE' });
  }
  return { readEnd: ends[0] ?? -1, writeEnd: ends[1] ?? -1 };
}

/** The number of a signal by its name, as in `SIGTERM`; `undefined` when Linux has none of this name. */
export function signalNumber(name: string): number | undefined {
  return Object.hasOwn(constants.signals, name) ? constants.signals[name as NodeJS.Signals] : undefined;
}
