/** Of the sandbox-agent alone; no command has this group. */
export const agentGroup = 65_432;

/** Where the sandbox-agent listens, inside. Only who has its group may enter the directory above. */
export const wireDirectory = '/.berth/private/wire';

/** What is kept of processes, inside: a volume of the sandbox's own. */
export const keptDirectory = '/.berth/private/kept';

/** In the directory of the wire, on whichever side it is seen from. */
export const socketName = 'agent.sock';

/** In the directory of what is kept: the files and directories that are not whole yet, see `sandbox-agent/fs/part.ts`. */
export const partsName = 'parts';

/** In the same directory: that of checkpoints, see `sandbox-agent/fs/checkpoint/`. */
export const checkpointsName = 'checkpoints';
