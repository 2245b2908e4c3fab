import { release } from 'node:os';
import { basename } from 'node:path';

/** `unix`: the agent's socket, on a directory that host and container share. `exec`: a command's stream, by the engine. */
export type Transport = 'unix' | 'exec';

export interface EngineLocation {
  /** The engine is reached over a unix socket of this machine. */
  isLocalSocket: boolean;
  /** Of the machine that the engine runs on. */
  kernelVersion: string;
  /** The program that runs the container, as the engine names it; `undefined`: it does not say. */
  runtimePath?: string | undefined;
}

/** Those whose containers are on the kernel of the engine. gVisor, Kata and what is not known have one of their own. */
const sharesKernel = new Set(['runc', 'crun', 'youki', 'sysbox-runc', 'nvidia-container-runtime']);

/**
 * A unix socket works only between programs on one kernel. A local engine may run in a virtual machine (Docker Desktop,
 * Colima) or be forwarded from elsewhere: that kernel is another one. Where this guesses wrong, as with an engine of the
 * same kernel that sees other directories, the socket does not appear, and `exec` is taken from then on.
 */
export function pickTransport({ isLocalSocket, kernelVersion, runtimePath }: EngineLocation): Transport {
  const isOneKernel = process.platform === 'linux' && kernelVersion === release();
  const isShared = runtimePath === undefined || sharesKernel.has(basename(runtimePath));
  return isLocalSocket && isOneKernel && isShared ? 'unix' : 'exec';
}

/** Whether an engine at this host name is another machine, which does not see the files of this one. */
export function isRemote(host: string): boolean {
  return !/^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i.test(host);
}
