import type { Duplex } from 'node:stream';

/** What may be used by all that runs in a container together. */
export interface ContainerLimits {
  /** Bytes; there is no swap beyond it. */
  memory: number;
  cpus: number;
  /** Processes and threads at once. */
  pids: number;
  /** Bytes in files that are made or changed, but for volumes. Left out: what there is. */
  disk?: number;
}
export type LimitName = keyof ContainerLimits;

/** What a container is made of. Nothing in it knows which engine makes it. */
export interface ContainerSpec {
  sandboxId: string;
  image: string;
  labels: Readonly<Record<string, string>>;
  /** Added to the image's environment. */
  env: readonly (readonly [name: string, value: string])[];
  /** Of the commands. Left out: the image's user. */
  user?: string;
  /** Where commands start: made when the image does not have it. */
  cwd: string;
  workspace?: { bind: string } | { volume: string };
  /** Directories that are volumes of its own, and empty. Default: none but those that the image asks for */
  volumes?: readonly string[];
  /** By the name that the engine has for it. Left out: the engine's default. */
  runtime?: string;
  limits: ContainerLimits;
  /** Of these limits, those that are refused where the engine can't hold to them. */
  required: readonly LimitName[];
  /** After that time without work it ends by itself. */
  idleTimeoutMs?: number;
  /** That long after a start it ends by itself. */
  maxLifetimeMs?: number;
  /** Its sandbox-agent takes an assignment, once. Default: false */
  isForPool?: boolean;
  /** The host's Ed25519 key, raw, in hex: whoever has the other half of it is the host. */
  publicKey: string;
  /** A directory of this sandbox only, for the socket where the engine shows one. Its parent keeps others out. */
  wireDirectory: string;
}

export type ContainerState = 'created' | 'running' | 'paused' | 'exited' | 'removing';

export interface Container {
  /** The engine's own. */
  id: string;
  state: ContainerState;
  image: string;
  createdAt: Date;
  labels: Readonly<Record<string, string>>;
}

export interface ContainerDetails extends Container {
  limits: ContainerLimits;
  /** What there is no limit for, or none that this engine holds to. */
  unlimited: readonly LimitName[];
  /** How it ended the last time, once it has. */
  end?: ContainerEnd;
}

/** What a container that runs has used; without `startedAt` it does not run, and uses nothing. */
export interface ContainerUsage {
  startedAt?: Date;
  /** Bytes that it could not do without: what the kernel keeps of files for later reading is left out. */
  memory: number;
  /** Of all its processes since its start. */
  cpuMs: number;
  /** Processes and threads. */
  pids: number;
  /** Bytes in files that it changed or made, but for volumes. Only when asked for: the engine looks at each of them. */
  disk?: number;
  limits: ContainerLimits;
  state: ContainerState;
}

export interface ContainerEnd {
  exitCode: number;
  at: Date;
  /**
   * What ended it by SIGKILL: a call of the engine, or that its memory was gone. Left out: something else, or it was so long
   * ago that the engine has forgotten.
   */
  killedBy?: 'stop' | 'kill' | 'memory';
}

export interface ContainerEvent {
  containerId: string;
  kind: 'start' | 'pause' | 'resume' | 'oom' | 'end' | 'remove';
  labels: Readonly<Record<string, string>>;
}

/** What `sweep` found of a process that did not finish its work, or that nothing uses any more. */
export interface Leftover {
  kind: 'volume' | 'container' | 'image';
  name: string;
}

/** The files of a container as they were at one moment, to make others of it. It is frozen until `thaw` or disposal. */
export interface FrozenFiles extends AsyncDisposable {
  /** For `ContainerSpec.image`: all but what is mounted. It goes with the last container that is made of it. */
  image: string;
  /** Directories that are mounted: for `ContainerSpec.volumes`. */
  mounted: readonly string[];
  /** Puts what is not in the image into a container that was made of it and not started yet; `signal` cuts that short. */
  copyTo(id: string, signal: AbortSignal | undefined): Promise<void>;
  /** Twice is once. */
  thaw(): Promise<void>;
}

/**
 * What makes containers. Every call rejects with `EngineUnreachableError` when the engine does not answer, and with
 * `EngineError` when it refuses for a reason that has no class of its own.
 */
export interface Engine {
  /** How people write where it is: `unix:///var/run/docker.sock`. */
  readonly url: string;
  /**
   * Whose files inside belong to this user of this machine, as `uid:gid`; `undefined` where nobody's do, and where
   * containers do not see the files of this machine.
   */
  userInside(ids: { uid: number; gid: number }): Promise<string | undefined>;

  /** The image of sandboxes that ask for none; made when it is not there. */
  defaultImage(): Promise<string>;
  /**
   * Makes a container that is ready to start.
   * @throws {ContainerExistsError} the sandbox's id is taken
   * @throws {ImageNotFoundError} the engine does not have the image
   * @throws {LimitUnsupportedError} a limit that is required can't be held to
   * @throws {RuntimeNotFoundError} the engine does not have the runtime
   * @throws {WorkspaceUnreachableError} a directory of this machine is asked for, and the engine is another one
   */
  create(spec: ContainerSpec): Promise<Container>;
  /** @throws {ContainerStartError} */
  start(id: string): Promise<void>;
  /** Ends what runs in it; its files stay. One that does not run is no error. */
  stop(id: string): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  kill(id: string): Promise<void>;
  /** Removes it with its anonymous volumes, running or not. One that is gone is no error. */
  remove(id: string): Promise<void>;
  /**
   * Freezes a container, if it runs, and makes an image of its files.
   * @param labels - of the image, and of what copies the rest, for `sweep`; letters, digits and `_.-` only
   */
  freeze(id: string, labels: Readonly<Record<string, string>>): Promise<FrozenFiles>;
  /** Removes an image that `freeze` made, unless a container or another image needs it. */
  removeImage(image: string): Promise<void>;

  /** `undefined`: there is none. */
  inspect(id: string): Promise<ContainerDetails | undefined>;
  /** `undefined`: there is none. */
  usage(id: string, options: { disk: boolean }): Promise<ContainerUsage | undefined>;
  /** Resolves when the container does not run, or is gone. */
  ended(id: string, signal: AbortSignal): Promise<void>;
  /** All that carry these labels, running or not. */
  find(labels: Readonly<Record<string, string>>): Promise<Container[]>;
  /** What happens from now on to containers with these labels, until `signal` aborts or the engine goes away. */
  events(labels: Readonly<Record<string, string>>, signal: AbortSignal): AsyncIterable<ContainerEvent>;
  /** The last lines that its first process printed. */
  logTail(id: string): Promise<string>;

  /**
   * A stream to the socket of the sandbox-agent in a container that was started; waits until it listens.
   * @throws {ContainerStartError} the container ended first, or does not listen in time
   */
  connect(container: Container, wireDirectory: string, signal: AbortSignal): Promise<Duplex>;
  /** As `connect`, to one that was connected to before: tries once. */
  reconnect(container: Container, wireDirectory: string): Promise<Duplex>;

  /**
   * Finds what this host left on the engine besides containers of sandboxes, and removes it unless `dryRun`.
   * @param options.isInUse - whether somebody still makes containers of what `freeze` has given these labels
   */
  sweep(
    hostId: string,
    options: { dryRun: boolean; isInUse: (labels: Readonly<Record<string, string>>) => Promise<boolean> },
  ): Promise<Leftover[]>;
}
