import { release } from 'node:os';

/** `unix`: the agent's socket, on a directory that host and container share. `exec`: a command's stream, by the engine. */
export type Transport = 'unix' | 'exec';

export interface EngineLocation {
  /** The engine is reached over a unix socket of this machine. */
  isLocalSocket: boolean;
  /** Of the machine that the engine runs on. */
  kernelVersion: string;
}

/**
 * A unix socket works only between programs on one kernel. A local engine may run in a virtual machine (Docker Desktop,
 * Colima) or be forwarded from elsewhere: that kernel is another one. Where this guesses wrong, as with an engine of the
 * same kernel that sees other directories, the socket does not appear, and `exec` is taken from then on.
 */
export function pickTransport({ isLocalSocket, kernelVersion }: EngineLocation): Transport {
  return isLocalSocket && process.platform === 'linux' && kernelVersion === release() ? 'unix' : 'exec';
}
