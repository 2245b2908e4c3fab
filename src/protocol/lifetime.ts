/**
 * What the sandbox-agent ends with. As it is PID 1 its container has the code then, and keeps it; no command can end the
 * sandbox-agent, so none can make the code another one. Node's own codes are below 20 or above 128.
 */
export const endCodes = { stopped: 0, idle: 80, expired: 81 } as const;

/** Why a sandbox-agent ended that was not killed and did not fail. */
export type EndReason = keyof typeof endCodes;

/** From the SIGTERM that everything gets in a sandbox which ends until the SIGKILL for what is left. */
export const stopGraceMs = 2_000;
