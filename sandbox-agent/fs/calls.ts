import * as fs from 'node:fs';
import { promisify } from 'node:util';
import type { Path } from './path.ts';

type Maybe<Value> = Value | Promise<Value>;
type Times = Date | number;

/** What Node calls on files, by the descriptor of an open one. */
interface Calls {
  open(path: Path, flags: number | string, mode?: number): Maybe<number>;
  close(file: number): Maybe<void>;
  stat(path: Path): Maybe<fs.Stats>;
  lstat(path: Path): Maybe<fs.Stats>;
  fstat(file: number): Maybe<fs.Stats>;
  readlink(path: Path): Maybe<Buffer>;
  realpath(path: Path): Maybe<Buffer>;
  rename(from: Path, to: Path): Maybe<void>;
  unlink(path: Path): Maybe<void>;
  symlink(target: Path, path: Path): Maybe<void>;
  link(from: Path, to: Path): Maybe<void>;
  truncate(path: Path, size: number): Maybe<void>;
  chmod(path: Path, mode: number): Maybe<void>;
  fchmod(file: number, mode: number): Maybe<void>;
  futimes(file: number, accessed: Times, modified: Times): Maybe<void>;
  /** @param at - `null`: where the last one ended. @returns how many bytes came */
  read(file: number, buffer: Uint8Array, at: number | null): Maybe<number>;
  /** @returns how many bytes were written: near a limit it may be fewer */
  write(file: number, pieces: readonly Uint8Array[]): Maybe<number>;
}

/** On another thread; the next call meanwhile waits for nothing. */
const onThread: Calls = {
  open: promisify(fs.open),
  close: promisify(fs.close),
  stat: promisify<Path, fs.Stats>(fs.stat),
  lstat: promisify<Path, fs.Stats>(fs.lstat),
  fstat: promisify<number, fs.Stats>(fs.fstat),
  readlink: promisify<Path, Buffer>((path, done) => fs.readlink(path, 'buffer', done)),
  realpath: promisify<Path, Buffer>((path, done) => fs.realpath.native(path, 'buffer', done)),
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
  symlink: promisify<Path, Path>(fs.symlink),
  link: promisify(fs.link),
  truncate: promisify<Path, number>(fs.truncate),
  chmod: promisify(fs.chmod),
  fchmod: promisify(fs.fchmod),
  futimes: promisify(fs.futimes),
  read: promisify<number, Uint8Array, number | null, number>((file, buffer, at, done) =>
    fs.read(file, buffer, 0, buffer.length, at, (error, bytes) => done(error, bytes)),
  ),
  write: promisify<number, readonly Uint8Array[], number>((file, pieces, done) =>
    fs.writev(file, pieces, (error, bytes) => done(error, bytes)),
  ),
};

/** What is read or written at once on this thread: more would hold up all that goes on meanwhile. */
const smallBytes = 64 * 1024;

const atOnce: Calls = {
  open: fs.openSync,
  close: fs.closeSync,
  stat: (path) => fs.statSync(path),
  lstat: (path) => fs.lstatSync(path),
  fstat: (file) => fs.fstatSync(file),
  readlink: (path) => fs.readlinkSync(path, 'buffer'),
  realpath: (path) => fs.realpathSync.native(path, 'buffer'),
  rename: fs.renameSync,
  unlink: fs.unlinkSync,
  symlink: fs.symlinkSync,
  link: fs.linkSync,
  truncate: fs.truncateSync,
  chmod: fs.chmodSync,
  fchmod: fs.fchmodSync,
  futimes: fs.futimesSync,
  read: (file, buffer, at) =>
    buffer.length <= smallBytes ? fs.readSync(file, buffer, 0, buffer.length, at) : onThread.read(file, buffer, at),
  write: (file, pieces) =>
    pieces.reduce((sum, { length }) => sum + length, 0) <= smallBytes
      ? fs.writevSync(file, pieces)
      : onThread.write(file, pieces),
};

/** File systems that always answer: nothing that is asked over a network, or of a program. */
const local = /^(overlay|ext[234]|xfs|btrfs|zfs|f2fs|tmpfs|ramfs|devtmpfs|devpts|proc|sysfs|mqueue|cgroup2?)$/;

/**
 * A call takes some microseconds; the way to another thread and back takes more than a hundred. So it is made on this one,
 * unless there is a file system in the sandbox that may not answer: nothing else would be done until it does. Mounts do
 * not change while the sandbox runs: nothing in it may mount.
 */
export const answersAtOnce = mountedTypes().every((type) => local.test(type));
export const calls: Calls = answersAtOnce ? atOnce : onThread;

/** proc_pid_mountinfo(5): the type is behind a `-`. */
function mountedTypes(): string[] {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'latin1').trim().split('\n');
  return lines.map((line) => / - (\S+)/.exec(line)?.[1] ?? '');
}

/** Writes all of it, from where the last write ended. */
export async function writeAll(file: number, pieces: readonly Uint8Array[]): Promise<void> {
  let skip = await calls.write(file, pieces);
  for (const piece of pieces) {
    for (let at = skip; at < piece.length; ) at += await calls.write(file, [piece.subarray(at)]);
    skip = Math.max(0, skip - piece.length);
  }
}

/** Fewer bytes only at the end of the file: a read may give less than it was asked for. */
export async function readUpTo(file: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  let filled = 0;
  while (filled < bytes) {
    const bytesRead = await calls.read(file, buffer.subarray(filled), null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}
