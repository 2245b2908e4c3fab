import * as v from 'valibot';
import { absolutePath, environment, id, requestId, user } from './values.ts';

/** The session that every sandbox has: what is started without one belongs to it. */
export const rootSessionId = 'root';

/**
 * Host → sandbox-agent. Opens a session: processes with a tree, environment and working directory of their own, and the
 * same files. Answer: `ok`; also for one that is open with this id, which is left as it is.
 */
export const sessionOpen = v.strictObject({
  type: v.literal('session.open'),
  requestId,
  sessionId: id,
  /** Added to the environment of the sandbox. */
  env: environment,
  /** Default of its commands. Left out: that of the sandbox. */
  cwd: v.optional(absolutePath),
  user: v.optional(user),
});
export type SessionOpen = v.InferOutput<typeof sessionOpen>;

/**
 * Host → sandbox-agent. Kills what the session started, but for detached processes. Answer: `ok` when all of it is dead.
 * A session that is not open is no error.
 */
export const sessionClose = v.strictObject({ type: v.literal('session.close'), requestId, sessionId: id });

/** Host → sandbox-agent. Ends every process and the sandbox-agent, and so the container. Answer: `ok`, before the end. */
export const shutdown = v.strictObject({ type: v.literal('shutdown'), requestId });

/**
 * Host → sandbox-agent. Ends the work for an operation on files that has not been answered; its answer is then an error.
 * Answer: `ok`, at once and whether there is any.
 */
export const cancel = v.strictObject({ type: v.literal('cancel'), requestId, target: requestId });

/** Host → sandbox-agent. Answer: `ok`. */
export const ping = v.strictObject({ type: v.literal('ping'), requestId });
