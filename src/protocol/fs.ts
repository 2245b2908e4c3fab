import * as v from 'valibot';
import { limits } from './limits.ts';
import {
  absolutePath,
  byteCount,
  entryName,
  fileName,
  mode,
  pathBelow,
  requestId,
  streamId,
  time,
  uint32,
} from './values.ts';

// Every operation runs with the rights of the sandbox's user. A failure answers `error` with the POSIX name as code.
// The answer is `ok` where nothing else is said; where there is a stream it comes after the stream's end.

/** Host → sandbox-agent. Answer: `fs.stat`. `follow`: what a link points to, else the link itself. */
export const fsStat = v.strictObject({
  type: v.literal('fs.stat'),
  requestId,
  path: absolutePath,
  follow: v.boolean(),
});
export type FsStat = v.InferOutput<typeof fsStat>;

/** Host → sandbox-agent. Sends the bytes from `start` up to, not including, `end` (default: the end of the file). */
export const fsRead = v.strictObject({
  type: v.literal('fs.read'),
  requestId,
  path: absolutePath,
  start: byteCount,
  end: v.optional(byteCount),
  stream: streamId,
});
export type FsRead = v.InferOutput<typeof fsRead>;

/**
 * Host → sandbox-agent. Writes what comes on the stream. `replace` makes missing parents and a new file beside the old
 * one, which takes its place at the stream's end: a stream that is reset leaves the old content. A link at the end
 * of the path stays, and what it points to is replaced. `append` adds to the end of the file and makes it when it is
 * missing.
 */
export const fsWrite = v.strictObject({
  type: v.literal('fs.write'),
  requestId,
  path: absolutePath,
  how: v.picklist(['replace', 'append']),
  /** Of a file that is made. Default: that of the file it replaces, else 0644. */
  mode: v.optional(mode),
  stream: streamId,
});
export type FsWrite = v.InferOutput<typeof fsWrite>;

/** Host → sandbox-agent. Sends one `fsEntry` a line, in the order of the directory. */
export const fsReaddir = v.strictObject({
  type: v.literal('fs.readdir'),
  requestId,
  path: absolutePath,
  withStats: v.boolean(),
  stream: streamId,
});
export type FsReaddir = v.InferOutput<typeof fsReaddir>;

/** Host → sandbox-agent. */
export const fsMkdir = v.strictObject({
  type: v.literal('fs.mkdir'),
  requestId,
  path: absolutePath,
  recursive: v.boolean(),
  mode: v.optional(mode),
});
export type FsMkdir = v.InferOutput<typeof fsMkdir>;

/** Host → sandbox-agent. `force`: what is not there is no error. A directory needs `recursive`, else `EISDIR`. */
export const fsRm = v.strictObject({
  type: v.literal('fs.rm'),
  requestId,
  path: absolutePath,
  recursive: v.boolean(),
  force: v.boolean(),
});
export type FsRm = v.InferOutput<typeof fsRm>;

/** Host → sandbox-agent. Replaces what is there, as rename(2). */
export const fsRename = v.strictObject({
  type: v.literal('fs.rename'),
  requestId,
  from: absolutePath,
  to: absolutePath,
});
export type FsRename = v.InferOutput<typeof fsRename>;

/**
 * Host → sandbox-agent. A file, or a directory with all that is in it, with their modes. Links are copied as links;
 * sockets, FIFOs and devices are left out. `to` is replaced as by rename(2), at the end.
 */
export const fsCopy = v.strictObject({ type: v.literal('fs.copy'), requestId, from: absolutePath, to: absolutePath });
export type FsCopy = v.InferOutput<typeof fsCopy>;

/** Host → sandbox-agent. `target` is written as it is. */
export const fsSymlink = v.strictObject({
  type: v.literal('fs.symlink'),
  requestId,
  target: fileName,
  path: absolutePath,
});
export type FsSymlink = v.InferOutput<typeof fsSymlink>;

/** Host → sandbox-agent. Answer: `fs.target`. */
export const fsReadlink = v.strictObject({ type: v.literal('fs.readlink'), requestId, path: absolutePath });
export type FsReadlink = v.InferOutput<typeof fsReadlink>;

/** Host → sandbox-agent. Answer: `fs.target`, the path without links. */
export const fsRealpath = v.strictObject({ type: v.literal('fs.realpath'), requestId, path: absolutePath });
export type FsRealpath = v.InferOutput<typeof fsRealpath>;

/** Host → sandbox-agent. Makes the file that long, links followed: the rest is cut off, or what is added reads as zeros. */
export const fsTruncate = v.strictObject({
  type: v.literal('fs.truncate'),
  requestId,
  path: absolutePath,
  size: byteCount,
});
export type FsTruncate = v.InferOutput<typeof fsTruncate>;

/** Host → sandbox-agent. Links are followed. */
export const fsChmod = v.strictObject({ type: v.literal('fs.chmod'), requestId, path: absolutePath, mode });
export type FsChmod = v.InferOutput<typeof fsChmod>;

/** How many matches are sent. The newest files are sorted in memory, so it has a bound. */
const foundLimit = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limits.found));

const pattern = v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.path));

/**
 * Host → sandbox-agent. Sends one `fsPath` a line: files below `path` that match, newest first, without what is in
 * `.git`; at most `limit` of them. A pattern without `/` matches names at any depth. Answer: `fs.found`.
 */
export const fsGlob = v.strictObject({
  type: v.literal('fs.glob'),
  requestId,
  path: absolutePath,
  pattern,
  limit: foundLimit,
  stream: streamId,
});
export type FsGlob = v.InferOutput<typeof fsGlob>;

/**
 * Host → sandbox-agent. Sends one `fsMatch` a line: lines of files below `path` (or of the file `path`) that match, at
 * most `limit` of them; all are counted. `pattern` is a regular expression of JavaScript (flag `u`), or plain text.
 * Binary files, links, `.git` and what `.gitignore` files name are left out. Answer: `fs.found`, or `error` with code
 * `invalid_pattern` or `pattern_too_slow`.
 */
export const fsGrep = v.strictObject({
  type: v.literal('fs.grep'),
  requestId,
  path: absolutePath,
  pattern: v.pipe(v.string(), v.minLength(1), v.maxBytes(limits.argument)),
  literal: v.boolean(),
  include: v.optional(pattern),
  limit: foundLimit,
  stream: streamId,
});
export type FsGrep = v.InferOutput<typeof fsGrep>;

/**
 * Host → sandbox-agent. Sends one `fsChange` a line, for what changes in the directory `path` (with `recursive` below it,
 * links not followed), or for the file `path`. Answers: `fs.watching` when all that follows is seen; `ok` when the
 * directory is gone. `cancel` ends it.
 */
export const fsWatch = v.strictObject({
  type: v.literal('fs.watch'),
  requestId,
  path: absolutePath,
  recursive: v.boolean(),
  stream: streamId,
});
export type FsWatch = v.InferOutput<typeof fsWatch>;

/**
 * Host → sandbox-agent. Makes what the tar on the stream holds below the directory `path`, which is made when it is
 * missing. An entry that would end up outside of it (an absolute name, `..`, a way through a link that it made or found
 * there, a hard link to outside) or is no file, directory or link is an error with code `unsafe_entry` that names it;
 * what is no tar is `invalid_tar`.
 */
export const fsUnpack = v.strictObject({
  type: v.literal('fs.unpack'),
  requestId,
  path: absolutePath,
  stream: streamId,
});
export type FsUnpack = v.InferOutput<typeof fsUnpack>;

/**
 * Host → sandbox-agent. Sends a tar of the file or directory `path`; names in it are relative to its parent. Sockets,
 * FIFOs and devices are left out. A file that becomes shorter meanwhile is an error with code `file_changed`.
 */
export const fsPack = v.strictObject({ type: v.literal('fs.pack'), requestId, path: absolutePath, stream: streamId });
export type FsPack = v.InferOutput<typeof fsPack>;

// Some links of /proc say nothing.
const emptyOrName = v.union([v.literal(''), fileName]);

/**
 * `size` is bytes, times are milliseconds since 1970, `mode` the permissions. `linkTarget`: of a link that was not
 * followed.
 */
export const fsStats = v.strictObject({
  kind: v.picklist(['file', 'directory', 'symlink', 'other']),
  size: byteCount,
  mode,
  uid: uint32,
  gid: uint32,
  accessedMs: time,
  modifiedMs: time,
  changedMs: time,
  linkTarget: v.optional(emptyOrName),
});
export type FsStats = v.InferOutput<typeof fsStats>;

/** Sandbox-agent → host. */
export const fsStatAnswer = v.strictObject({ type: v.literal('fs.stat'), requestId, stats: fsStats });

/** Sandbox-agent → host. */
export const fsTarget = v.strictObject({
  type: v.literal('fs.target'),
  requestId,
  target: emptyOrName,
});

/** Sandbox-agent → host. `total`: matches in all; `truncated`: more than were sent. */
export const fsFound = v.strictObject({
  type: v.literal('fs.found'),
  requestId,
  total: byteCount,
  truncated: v.boolean(),
});

/** A line of `fs.readdir`. `stats` are those of the entry itself, links not followed. */
export const fsEntry = v.strictObject({ name: entryName, stats: v.optional(fsStats) });
export type FsEntry = v.InferOutput<typeof fsEntry>;

/** A line of `fs.glob`: relative to the directory that was searched. */
export const fsPath = v.strictObject({ path: pathBelow });

/** A line of `fs.grep`. `path` is relative to the directory, or the name of the file; `line` counts from 1; `text` is cut at 500 characters. */
export const fsMatch = v.strictObject({
  path: pathBelow,
  line: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  text: v.pipe(v.string(), v.maxLength(500)),
});
export type FsMatch = v.InferOutput<typeof fsMatch>;

/** Sandbox-agent → host. */
export const fsWatching = v.strictObject({ type: v.literal('fs.watching'), requestId });

/** Relative to what is watched; empty for that itself. */
const watched = v.union([v.literal(''), pathBelow]);
const place = { path: watched, directory: v.boolean() };

/** A line of `fs.watch`. `overflow`: there was more than could be kept; anything may have changed. */
export const fsChange = v.variant('type', [
  v.strictObject({ type: v.literal('create'), ...place }),
  v.strictObject({ type: v.literal('change'), ...place }),
  v.strictObject({ type: v.literal('remove'), ...place }),
  v.strictObject({ type: v.literal('rename'), from: watched, ...place }),
  v.strictObject({ type: v.literal('overflow') }),
]);
export type FsChange = v.InferOutput<typeof fsChange>;
