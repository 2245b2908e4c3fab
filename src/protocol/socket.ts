/** Of the sandbox-agent alone; no command has this group. */
export const agentGroup = 65_432;

/** Where the sandbox-agent listens, inside. Only who has its group may enter the directory above. */
export const wireDirectory = '/.berth/private/wire';

/** In that directory, on whichever side it is seen from. */
export const socketName = 'agent.sock';
