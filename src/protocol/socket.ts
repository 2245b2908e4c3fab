/** Of the sandbox-agent alone; no command has this group. */
export const agentGroup = 65_432;

/** Where the sandbox-agent listens, inside. Only who has its group may enter the directory above. */
export const wireDirectory = '/.berth/private/wire';

/** What is kept of processes, inside: a volume of the sandbox's own. */
export const keptDirectory = '/.berth/private/kept';

/** In the directory of the wire, on whichever side it is seen from. */
export const socketName = 'agent.sock';
