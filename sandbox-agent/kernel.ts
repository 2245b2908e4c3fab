import { dlopen, getRawPointer } from 'node:ffi';
import { closeSync, constants as fsConstants, openSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { bytesOfName, nameBytes } from '../src/protocol/names.ts';
import type { TerminalSize } from '../src/protocol/values.ts';

// What Node has no function for. All of it is libc's, in this process already.
const libc = dlopen(null, {
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64'], return: 'i64' },
  prctl: { arguments: ['i32', 'i64', 'i64', 'i64', 'i64'], return: 'i32' },
  waitpid: { arguments: ['i32', 'buffer', 'i32'], return: 'i32' },
  setpriority: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  inotify_init1: { arguments: ['i32'], return: 'i32' },
  inotify_add_watch: { arguments: ['i32', 'buffer', 'i32'], return: 'i32' },
  inotify_rm_watch: { arguments: ['i32', 'i32'], return: 'i32' },
  ioctl: { arguments: ['i32', 'i64', 'buffer'], return: 'i32' },
  open: { arguments: ['buffer', 'i32'], return: 'i32' },
  fcntl: { arguments: ['i32', 'i32', 'i64'], return: 'i32' },
  malloc_trim: { arguments: ['i64'], return: 'i32' },
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  setsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'i32'], return: 'i32' },
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
  posix_spawn: { arguments: ['buffer', 'buffer', 'buffer', 'buffer', 'buffer', 'buffer'], return: 'i32' },
  posix_spawn_file_actions_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_destroy: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_adddup2: { arguments: ['buffer', 'i32', 'i32'], return: 'i32' },
  posix_spawn_file_actions_addopen: { arguments: ['buffer', 'i32', 'buffer', 'i32', 'i32'], return: 'i32' },
  posix_spawn_file_actions_addchdir_np: { arguments: ['buffer', 'buffer'], return: 'i32' },
  posix_spawnattr_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawnattr_setflags: { arguments: ['buffer', 'i32'], return: 'i32' },
  posix_spawnattr_setsigdefault: { arguments: ['buffer', 'buffer'], return: 'i32' },
}).functions;

const systemCalls = {
  x64: { setgroups: 116n, setresuid: 117n, setresgid: 119n },
  arm64: { setgroups: 159n, setresuid: 147n, setresgid: 149n },
}[process.arch as 'x64' | 'arm64'];
if (systemCalls === undefined) throw new Error(`Berth does not know the system calls of ${process.arch}.`);
const { setgroups, setresuid, setresgid } = systemCalls;

const wnohang = 1;
const oCloexec = 0o2000000;
const pr = { setDumpable: 4n, setSecurebits: 28n } as const;
const secbitNoroot = 1n;

/**
 * Sets ids of the calling thread alone; -1 leaves one as it is. libc's functions of these names set those of all
 * threads, one after the other, with a signal to each: a hundred times slower, and file operations under way on them
 * would change sides.
 */
export function setThreadUser(real: number, effective: number, saved: number): void {
  systemCall('setresuid', setresuid, real, effective, saved);
}

/** As `setThreadUser`. */
export function setThreadGroup(real: number, effective: number, saved: number): void {
  systemCall('setresgid', setresgid, real, effective, saved);
}

/** Held here while the kernel reads it: the collector does not see an address. */
let groupList: Uint32Array<ArrayBuffer>;

/** As `setThreadUser`: the further groups. */
export function setThreadGroups(groups: readonly number[]): void {
  groupList = Uint32Array.from(groups);
  systemCall('setgroups', setgroups, groups.length, getRawPointer(groupList.buffer), 0);
}

function systemCall(name: string, number: bigint, ...values: (number | bigint)[]): void {
  const result = libc.syscall(number, ...values.map(BigInt));
  if (Number(result) !== 0) throw new Error(`${name}(${values.join(', ')}) failed`);
}

/**
 * Whether a program that is started as root from now on gets root's capabilities: capabilities(7), SECBIT_NOROOT.
 * @returns `false`: this kernel, as gVisor's, knows no such thing, and root always gets them
 */
export function setRootHasCapabilities(value: boolean): boolean {
  return prctl(pr.setSecurebits, value ? 0n : secbitNoroot) === 0;
}

/** Opens a file of the kernel's, or gives -1: the error that Node would make costs more than all the rest. */
export function tryOpen(path: string, flags: number): number {
  return libc.open(cString(path), flags | oCloexec);
}

/** Hides this process's memory, environment and descriptors from every other process without CAP_SYS_PTRACE. */
export function setUndumpable(): void {
  if (prctl(pr.setDumpable, 0n) !== 0) throw new Error('prctl(PR_SET_DUMPABLE) failed');
}

function prctl(option: bigint, value: bigint): number {
  return libc.prctl(Number(option), value, 0n, 0n, 0n);
}

/** How a process ended: one of the two is `null`. */
export interface Exit {
  pid: number;
  code: number | null;
  signal: string | null;
}

/** Takes the exit of one child that ended; `undefined` when none has. */
export function takeExit(): Exit | undefined {
  const buffer = new Int32Array(1);
  const pid = libc.waitpid(-1, new Uint8Array(buffer.buffer), wnohang);
  if (pid <= 0) return undefined;
  // wait(2): the low 7 bits are the signal, the second byte is the code.
  const [status = 0] = buffer;
  const signal = status & 0x7f;
  return signal === 0
    ? { pid, code: (status >> 8) & 0xff, signal: null }
    : { pid, code: null, signal: signalName(signal) };
}

const prioPgrp = 1;

/** Sets the nice value of all processes of a group. One that has ended is no error. */
export function setGroupPriority(group: number, nice: number): void {
  libc.setpriority(prioPgrp, group, nice);
}

const fSetFlags = 4;

/** To read from it waits for nothing from now on. */
export function setNonBlocking(file: number): void {
  libc.fcntl(file, fSetFlags, BigInt(fsConstants.O_NONBLOCK));
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

const afInet = 2;
const sockStream = 1;
const solSocket = 1;
const soReuseAddress = 2;

/**
 * A socket of TCP at an IPv4 address, to listen with. For an address, too, Node first has its resolver read /etc/resolv.conf and
 * /etc/nsswitch.conf, and waits: a FIFO, which a command that is root may have put there, would hold the sandbox-agent for ever.
 * @throws the address is taken, say
 */
export function bindTcp(address: string, port: number): number {
  const socket = libc.socket(afInet, sockStream | oCloexec, 0);
  if (socket < 0) throw new Error('no descriptors are left');
  // In memory of its own, which does not move. ip(7)
  const place = new DataView(new ArrayBuffer(16));
  place.setUint16(0, afInet, true);
  place.setUint16(2, port);
  for (const [index, byte] of address.split('.').entries()) place.setUint8(4 + index, Number(byte));
  const on = new DataView(new ArrayBuffer(4));
  on.setInt32(0, 1, true);
  libc.setsockopt(socket, solSocket, soReuseAddress, new Uint8Array(on.buffer), on.byteLength);
  if (libc.bind(socket, new Uint8Array(place.buffer), place.byteLength) === 0) return socket;
  closeSync(socket);
  throw new Error('the address is in use');
}

const fSetPipeSize = 1_031;

/** @returns `false`: it was left as it is, as the user has too much in pipes already */
export function setPipeSize(end: number, bytes: number): boolean {
  return libc.fcntl(end, fSetPipeSize, BigInt(bytes)) >= 0;
}

/** A descriptor to read what changes in directories from: inotify(7). It counts for the user of the calling thread. */
export function openInotify(): number {
  const file = libc.inotify_init1(fsConstants.O_NONBLOCK | oCloexec);
  if (file >= 0) return file;
  const text = 'the user watches in as many sandboxes as the kernel lets it (fs.inotify.max_user_instances)';
  throw Object.assign(new Error(text), { code: 'EMFILE' });
}

/** @param path - of a directory that this user may read: what can fail else is for want of room */
export function addToInotify(file: number, path: string, mask: number): number {
  const directory = libc.inotify_add_watch(file, cString(path), mask);
  if (directory >= 0) return directory;
  const text = 'the user watches as many directories as the kernel lets it (fs.inotify.max_user_watches)';
  throw Object.assign(new Error(text), { code: 'ENOSPC' });
}

export function removeFromInotify(file: number, directory: number): void {
  libc.inotify_rm_watch(file, directory); // fails for one that is gone: just as well
}

const fionread = 0x541bn;

/** What can be read without a wait. */
export function bytesToRead(file: number): number {
  const count = new Int32Array(1);
  return libc.ioctl(file, fionread, new Uint8Array(count.buffer)) === 0 ? (count[0] ?? 0) : 0;
}

/** Both ends of a terminal, and where a program opens its own. */
export interface OpenedTerminal {
  master: number;
  slave: number;
  path: string;
}

const request = {
  getAttributes: 0x5401n,
  setAttributes: 0x5402n,
  setWindowSize: 0x5414n,
  getNumber: 0x8004_5430n,
  setLock: 0x4004_5431n,
} as const;
const iutf8 = 0o40000;

/**
 * Makes a terminal that belongs to the user of the calling thread. The agent's own end of the program's side keeps the
 * terminal from its end until the program has opened it; it must not become the terminal of the sandbox-agent, which
 * leads a session (O_NOCTTY).
 */
export function openTerminal(size: TerminalSize): OpenedTerminal {
  const { O_RDWR, O_NOCTTY, O_NONBLOCK } = fsConstants;
  // Not /dev/ptmx: root in the sandbox can put anything in its place. Nothing else than this can be at this one.
  const master = openSync('/dev/pts/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK);
  try {
    control(master, request.setLock, new Uint32Array([0]));
    const number = new Uint32Array(1);
    control(master, request.getNumber, number);
    setTerminalSize(master, size);
    // `struct termios` begins with the input modes. Erasing has to take whole characters, not bytes.
    const attributes = new Uint32Array(16);
    control(master, request.getAttributes, attributes);
    attributes[0] = (attributes[0] ?? 0) | iutf8;
    control(master, request.setAttributes, attributes);
    const path = `/dev/pts/${number[0]}`;
    return { master, slave: openSync(path, O_RDWR | O_NOCTTY), path };
  } catch (error) {
    closeSync(master);
    throw error;
  }
}

/** The programs in the foreground of the terminal get SIGWINCH when it is another size than before. */
export function setTerminalSize(master: number, { columns, rows }: TerminalSize): void {
  control(master, request.setWindowSize, new Uint16Array([rows, columns, 0, 0]));
}

function control(terminal: number, what: bigint, argument: Uint16Array | Uint32Array): void {
  const bytes = new Uint8Array(argument.buffer, argument.byteOffset, argument.byteLength);
  if (libc.ioctl(terminal, what, bytes) !== 0) throw new Error(`ioctl(0x${what.toString(16)}) failed`);
}

export interface Pipes {
  /** Without it the program reads an end at once. */
  stdin: number | undefined;
  stdout: number;
  stderr: number;
}

export interface Program {
  /** Absolute, or relative to `cwd`; no search. */
  path: string;
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  /** Descriptors of pipes, or the path of a terminal, which becomes that of the program's session. */
  stdio: Pipes | string;
}

const posixSpawn = { setSigdef: 0x04, setSigmask: 0x08, setSid: 0x80 } as const;
const devNull = cString('/dev/null');
/** glibc's structures are smaller than these. */
const attributes = Buffer.alloc(1_024);
const fileActionsBytes = 512;
libc.posix_spawnattr_init(attributes);
// A session of its own, whose number is its pid; every signal as a program finds it (Node ignores
// SIGPIPE), and none blocked, which is how the attributes begin.
libc.posix_spawnattr_setflags(attributes, posixSpawn.setSigdef | posixSpawn.setSigmask | posixSpawn.setSid);
libc.posix_spawnattr_setsigdefault(attributes, Buffer.alloc(128, 0xff));

/**
 * Starts a program with the ids of the calling thread. Node's `spawn` copies the page tables of this process for a
 * child that is to run another program at once: ten times slower.
 * @returns its pid; the exit is the caller's to take
 * @throws an error with the kernel's `code`
 */
export function spawnProgram({ path, argv, env, cwd, stdio }: Program): number {
  const pid = new Int32Array(1);
  const fileActions = Buffer.alloc(fileActionsBytes);
  libc.posix_spawn_file_actions_init(fileActions);
  try {
    libc.posix_spawn_file_actions_addchdir_np(fileActions, cString(cwd));
    if (typeof stdio === 'string') addTerminal(fileActions, stdio);
    else addPipes(fileActions, stdio);
    const failure = libc.posix_spawn(
      new Uint8Array(pid.buffer),
      cString(path),
      fileActions,
      attributes,
      stringTable(argv),
      stringTable(Object.entries(env).map(([name, value]) => `${name}=${value}`)),
    );
    if (failure !== 0) {
      const code = getSystemErrorName(-failure);
      throw Object.assign(new Error(`posix_spawn ${path}: ${code}`), { code });
    }
    return pid[0] ?? 0;
  } finally {
    libc.posix_spawn_file_actions_destroy(fileActions);
  }
}

function addPipes(fileActions: Buffer, { stdin, stdout, stderr }: Pipes): void {
  if (stdin === undefined) libc.posix_spawn_file_actions_addopen(fileActions, 0, devNull, fsConstants.O_RDONLY, 0);
  else libc.posix_spawn_file_actions_adddup2(fileActions, stdin, 0);
  libc.posix_spawn_file_actions_adddup2(fileActions, stdout, 1);
  libc.posix_spawn_file_actions_adddup2(fileActions, stderr, 2);
}

/** The first terminal that the leader of a session opens is that of the session: tty(4). */
function addTerminal(fileActions: Buffer, path: string): void {
  libc.posix_spawn_file_actions_addopen(fileActions, 0, cString(path), fsConstants.O_RDWR, 0);
  libc.posix_spawn_file_actions_adddup2(fileActions, 0, 1);
  libc.posix_spawn_file_actions_adddup2(fileActions, 0, 2);
}

function cString(text: string): Buffer {
  return bytesOfName(`${text}\0`);
}

/** `char *[]` with its strings behind it, in memory that does not move. */
function stringTable(strings: readonly string[]): Uint8Array {
  const all = cString(strings.join('\0'));
  const tableBytes = (strings.length + 1) * 8;
  const memory = new ArrayBuffer(tableBytes + all.length);
  new Uint8Array(memory, tableBytes).set(all);
  const table = new BigUint64Array(memory, 0, strings.length + 1);
  let address = getRawPointer(memory) + BigInt(tableBytes);
  strings.forEach((text, index) => {
    table[index] = address;
    address += BigInt(nameBytes(text) + 1);
  });
  return new Uint8Array(memory);
}

/** The number of a signal by its name, as in `SIGTERM`, or `SIG35` for one without; `undefined` where Linux has none. */
export function signalNumber(name: string): number | undefined {
  if (Object.hasOwn(constants.signals, name)) return constants.signals[name as NodeJS.Signals];
  const number = Number(/^SIG(\d{1,2})$/.exec(name)?.[1]);
  return number >= 1 && number <= 64 ? number : undefined;
}

/** Real-time signals have no names of their own. */
function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `SIG${number}`;
}

/** Gives the kernel back what was freed: malloc keeps it for the next who asks. */
export function trimHeap(): void {
  libc.malloc_trim(0n);
}
