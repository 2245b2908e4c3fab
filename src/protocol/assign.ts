import * as v from 'valibot';
import { absolutePath, environment, requestId, timeoutMs, user } from './values.ts';

/** What a sandbox is told that was started before anybody asked for it, in place of what its container was made with. */
const assignment = {
  /** Added to the image's environment. */
  env: environment,
  cwd: absolutePath,
  /** Of its commands. Left out: the image's. */
  user: v.optional(user),
  idleMs: v.optional(timeoutMs),
  lifetimeMs: v.optional(timeoutMs),
};
export const keptAssignment = v.strictObject(assignment);
export type Assignment = v.InferOutput<typeof keptAssignment>;

/**
 * Host → sandbox-agent. Makes a sandbox of one that waits in a pool: once, and before anything else is done in it. It is
 * so also after a stop and a start. Answer: `ok`.
 */
export const assign = v.strictObject({ type: v.literal('assign'), requestId, ...assignment });
