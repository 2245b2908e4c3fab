import * as v from 'valibot';
import { absolutePath, byteCount, fileName, mode, requestId, streamId, time, uint32 } from './values.ts';

// A checkpoint is what the sandbox-agent remembers of the tree below a directory: what changed since can be told, brought
// into another sandbox and taken back. What is mounted below the directory is no part of the tree.

/** Chosen by the host. */
export const checkpointId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,200}$/));

/** Host → sandbox-agent. Remembers the tree below `path`, in place of what `id` was before. `copy`: also its content. */
export const fsCheckpoint = v.strictObject({
  type: v.literal('fs.checkpoint'),
  requestId,
  id: checkpointId,
  path: absolutePath,
  copy: v.boolean(),
});
export type FsCheckpoint = v.InferOutput<typeof fsCheckpoint>;

/** Host → sandbox-agent. Makes the tree as it was at a checkpoint with `copy`, or fails and changes nothing. */
export const fsRollback = v.strictObject({ type: v.literal('fs.rollback'), requestId, id: checkpointId });
export type FsRollback = v.InferOutput<typeof fsRollback>;

/** Host → sandbox-agent. Sends what changed since the checkpoint: a `treeChange` a line, each file's content behind its line. */
export const fsChanges = v.strictObject({
  type: v.literal('fs.changes'),
  requestId,
  id: checkpointId,
  stream: streamId,
});
export type FsChanges = v.InferOutput<typeof fsChanges>;

/**
 * Host → sandbox-agent. Makes the changes on the stream, which another sandbox has sent, all or none. Those that are there
 * already are fine; what else changed here since the checkpoint is a conflict. Answer: `fs.landed`.
 */
export const fsLand = v.strictObject({ type: v.literal('fs.land'), requestId, id: checkpointId, stream: streamId });
export type FsLand = v.InferOutput<typeof fsLand>;

/** Host → sandbox-agent. A checkpoint that is not there is fine. */
export const fsDropCheckpoint = v.strictObject({ type: v.literal('fs.dropCheckpoint'), requestId, id: checkpointId });
export type FsDropCheckpoint = v.InferOutput<typeof fsDropCheckpoint>;

/** Relative to the directory of the checkpoint, and in one way only. */
const treePath = v.pipe(
  fileName,
  v.check((path) => path.split('/').every((name) => name !== '' && name !== '.' && name !== '..'), 'is no plain path'),
);

/** Conflicts that are named. */
export const namedConflicts = 20;

/** Sandbox-agent → host. With conflicts nothing has landed; `paths` are the first of them. */
export const fsLanded = v.strictObject({
  type: v.literal('fs.landed'),
  requestId,
  conflicts: byteCount,
  paths: v.pipe(v.array(treePath), v.maxLength(namedConflicts)),
});
export type FsLanded = v.InferOutput<typeof fsLanded>;

const attributes = { path: treePath, mode, uid: uint32, gid: uint32, modifiedMs: time };

/**
 * A change, in the order of `treeOrder`; the last one is `end`. A directory that is removed comes before all that was in it.
 */
export const treeChange = v.variant('kind', [
  v.strictObject({ kind: v.literal('removed'), path: treePath }),
  v.strictObject({ kind: v.literal('file'), ...attributes, size: byteCount }),
  v.strictObject({ kind: v.literal('directory'), ...attributes }),
  v.strictObject({ kind: v.literal('symlink'), ...attributes, target: fileName }),
  v.strictObject({ kind: v.literal('end') }),
]);
export type TreeChange = v.InferOutput<typeof treeChange>;

/** What paths are sorted by: a directory, all that is in it, the next entry. No name holds a NUL. */
export function treeOrder(path: string): string {
  return path.replaceAll('/', '\0');
}
