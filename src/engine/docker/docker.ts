import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import type Dockerode from 'dockerode';
import { WireProtocolError } from '../../protocol/errors.ts';
import { agentGroup, socketName } from '../../protocol/socket.ts';
import type {
  Container,
  ContainerDetails,
  ContainerEvent,
  ContainerSpec,
  ContainerUsage,
  Engine,
  FrozenFiles,
  Leftover,
  LimitName,
} from '../engine.ts';
import { ContainerStartError, EngineError, LimitUnsupportedError, WorkspaceUnreachableError } from '../errors.ts';
import { findEngine } from '../socket.ts';
import { ExecStream } from '../transport/exec.ts';
import { isRemote, pickTransport, type Transport } from '../transport/pick.ts';
import { connectAgent } from '../transport/unix.ts';
import {
  type AgentVolume,
  agentVolumeLabel,
  ensureAgentVolume,
  fillPatienceMs,
  isAgentVolume,
  lockSuffix,
} from './agent-volume.ts';
import { baseImageTag } from './base-image.ts';
import { Docker } from './client.ts';
import { agentCommand, createContainer, keptVolume, transportLabel } from './create.ts';
import { containerEvents } from './events.ts';
import { engineFailure, reasonOf, statusOf, withoutHeaders } from './failure.ts';
import { findContainers, inspectContainer, labelFilter } from './find.ts';
import { finishParts } from './finish-parts.ts';
import { copyLabel, freezeFiles, removeForkImage, unusedForkImages } from './fork.ts';
import { inspectImage, originalLabel } from './images.ts';
import { pauseContainer } from './pause.ts';
import { hasRuntime, runtimePath } from './runtime.ts';
import { type EngineTraits, readTraits } from './traits.ts';
import { containerUsage } from './usage.ts';

export interface DockerEngineOptions {
  /** Where the engine is, as dockerode takes it. Default: what `findEngine` finds */
  docker?: Dockerode.DockerOptions;
  /** On everything that is made here: the host's labels. */
  labels: Readonly<Record<string, string>>;
  onProgress?: (step: string) => void;
  /** What the far end of the wire printed where nothing should be printed. */
  onStderr?: (text: string) => void;
  /** Default: picked by itself */
  transport?: Transport;
}

/** How long the sandbox-agent may take until it listens; the machine may be busy. */
const listenPatienceMs = 30_000;
/**
 * An engine answers in a fraction of a second, under load in some. Without a limit, one that has locked itself up over a
 * container would hold whoever asks for ever.
 */
const answerMs = 90_000;
const noLimit = Number.POSITIVE_INFINITY;
/** The socket of a sandbox-agent that runs appears in a fraction of this where it appears at all. */
const socketPatienceMs = 3_000;

/** Docker Engine, and what speaks its API, through dockerode. */
export class DockerEngine implements Engine {
  readonly url: string;
  readonly #docker: Dockerode;
  readonly #options: DockerEngineOptions;
  readonly #arch: string;
  readonly #isRemote: boolean;
  /** Where its socket is, if its containers see the files of this machine. */
  readonly #localSocket: string | undefined;
  readonly #pick: (runtimePath: string | undefined) => Transport;
  /** It turned out that no socket can be shared: `exec` for all from then on. */
  #sharesNoSocket = false;
  #agent: Promise<AgentVolume> | undefined;
  #knownTraits: Promise<EngineTraits> | undefined;

  private constructor(
    docker: Dockerode,
    url: string,
    { Arch = '', KernelVersion = '' }: Partial<Dockerode.DockerVersion>,
    address: Dockerode.DockerOptions,
    options: DockerEngineOptions,
  ) {
    this.url = url;
    this.#docker = docker;
    this.#options = options;
    this.#arch = Arch;
    this.#isRemote = address.host !== undefined && isRemote(address.host);
    const pick = (runtimePath: string | undefined) =>
      pickTransport({ isLocalSocket: 'socketPath' in address, kernelVersion: KernelVersion, runtimePath });
    this.#localSocket = pick(undefined) === 'unix' ? address.socketPath : undefined;
    this.#pick = (runtimePath) => options.transport ?? pick(runtimePath);
  }

  /** @throws {EngineUnreachableError} */
  static async open(options: DockerEngineOptions): Promise<DockerEngine> {
    const found = options.docker ? undefined : await findEngine();
    // dockerode adds the host of DOCKER_HOST to whatever it is given, unless it is told that there is none.
    const address = options.docker ?? found?.address ?? {};
    const docker = new Docker('socketPath' in address ? { host: undefined, ...address } : address);
    const url = found?.url ?? urlOf(address);
    try {
      return new DockerEngine(docker, url, await docker.version(), address, options);
    } catch (error) {
      throw await engineFailure(error, 'say its version', url);
    }
  }

  async userInside({ uid, gid }: { uid: number; gid: number }): Promise<string | undefined> {
    if (this.#localSocket === undefined) return undefined;
    const { isRootless, remapsUsers } = await this.#traits();
    if (!isRootless) return remapsUsers ? undefined : `${uid}:${gid}`;
    // Nobody else than the engine's own user is anyone inside. Its socket is his.
    const owner = await stat(this.#localSocket).catch(() => undefined);
    return owner?.uid === uid ? '0:0' : undefined;
  }

  async defaultImage(): Promise<string> {
    // The volume of the sandbox-agent is filled from this image: where there is one, there is the other.
    await this.#prepareAgent();
    return baseImageTag();
  }

  async create(spec: ContainerSpec): Promise<Container> {
    if (this.#isRemote && spec.workspace && 'bind' in spec.workspace) {
      throw new WorkspaceUnreachableError({ path: spec.workspace.bind, url: this.url });
    }
    const { unenforced, ulimits, ...traits } = await this.#traitsWith(spec.runtime);
    const runsBy = runtimePath(traits, spec.runtime);
    for (const limit of spec.required) {
      const reason = unenforced[limit]?.reason;
      if (reason !== undefined) throw new LimitUnsupportedError({ limit, reason });
    }
    const [agent, image] = await Promise.all([
      this.#prepareAgent(),
      this.#try('look for the image', () => inspectImage(this.#docker, spec.image, this.#arch)),
    ]);
    const labels = { ...this.#options.labels, ...spec.labels };
    const make = (transport: Transport) =>
      createContainer(this.#docker, { ...spec, labels }, image, {
        agent,
        transport,
        ulimits,
        runtimes: traits.runtimes,
      });
    let transport = this.#sharesNoSocket ? 'exec' : this.#pick(runsBy);
    const id = await this.#try('make a container', async () => {
      try {
        return await make(transport);
      } catch (error) {
        // The engine does not see this host's directories, as when the host runs in a container of its own.
        if (transport === 'exec' || !reasonOf(error).includes(spec.wireDirectory)) throw error;
        this.#sharesNoSocket = true;
        transport = 'exec';
        return make('exec');
      }
    });
    // Not before: now that a container has it, nobody can remove it.
    if (!(await this.#try('look for the sandbox-agent', () => isAgentVolume(this.#docker, agent.name)))) {
      this.#agent = undefined;
      await this.remove(id);
      return this.create(spec);
    }
    return {
      id,
      state: 'created',
      image: spec.image,
      createdAt: new Date(),
      labels: { ...labels, [transportLabel]: transport },
    };
  }

  start(id: string): Promise<void> {
    return this.#try('start a container', async () => {
      try {
        await this.#docker.getContainer(id).start();
      } catch (error) {
        if (statusOf(error) === 304) return; // it runs
        if (statusOf(error) === 400 || statusOf(error) === 500) {
          throw new ContainerStartError({ reason: reasonOf(error) }, { cause: error });
        }
        throw error;
      }
    });
  }

  stop(id: string): Promise<void> {
    return this.#change('stop a container', id, 'exited', (container) => container.stop());
  }

  pause(id: string): Promise<void> {
    return this.#change('pause a container', id, 'paused', pauseContainer);
  }

  resume(id: string): Promise<void> {
    return this.#change('resume a container', id, 'running', (container) => container.unpause());
  }

  kill(id: string): Promise<void> {
    return this.#change('kill a container', id, 'exited', (container) => container.kill());
  }

  async remove(id: string): Promise<void> {
    await this.#try('remove a container', async () => {
      const container = this.#docker.getContainer(id);
      try {
        const { Config, Image } = await container.inspect();
        // There are engines that hang on the removal of a paused one. Any other one they refuse to resume, at once.
        await container.unpause().catch(() => {});
        await finishParts(container).catch(() => {}); // as when it can't be started: then they stay
        await container.remove({ force: true, v: true }).catch(async (error: unknown) => {
          // 409: another removal of it is under way.
          if (statusOf(error) !== 409) throw error;
          await container.wait({ condition: 'removed' });
        });
        // The container is gone, whatever comes of that: `sweep` finds it.
        if (Config.Labels[originalLabel] !== undefined) await removeForkImage(this.#docker, Image).catch(() => {});
      } catch (error) {
        if (statusOf(error) !== 404) throw error; // it is not there, or not any more
      }
    });
  }

  freeze(id: string, labels: Readonly<Record<string, string>>): Promise<FrozenFiles> {
    const all = { ...this.#options.labels, ...labels };
    const freeze = async () => {
      const { ulimits } = await this.#traits();
      const frozen = await freezeFiles(this.#docker, id, all, { image: await this.defaultImage(), ulimits });
      const copyTo: FrozenFiles['copyTo'] = (...to) => this.#try('copy files', () => frozen.copyTo(...to), noLimit);
      return { ...frozen, copyTo };
    };
    return this.#try('make an image of a container', freeze, noLimit);
  }

  removeImage(image: string): Promise<void> {
    return this.#try('remove an image', () => removeForkImage(this.#docker, image));
  }

  inspect(id: string): Promise<ContainerDetails | undefined> {
    return this.#try('look at a container', async () => {
      const { unenforced } = await this.#traits();
      return inspectContainer(this.#docker, id, Object.keys(unenforced) as LimitName[]); // the keys of its type
    });
  }

  usage(id: string, options: { disk: boolean }): Promise<ContainerUsage | undefined> {
    const operation = 'measure a container';
    const measure = async () => {
      const [usage, { unenforced }] = await Promise.all([containerUsage(this.#docker, id, options), this.#traits()]);
      const { memory, cpus, pids } = unenforced;
      // Then a container has no cgroup of its own, and what the engine tells is of the whole machine.
      if (usage?.startedAt && memory && cpus && pids) throw new EngineError({ operation, reason: memory.reason });
      return usage;
    };
    // It may have millions of files to look at.
    return this.#try(operation, measure, options.disk ? noLimit : answerMs);
  }

  async ended(id: string, signal: AbortSignal): Promise<void> {
    const wait = async () => {
      try {
        await this.#docker.getContainer(id).wait({ condition: 'not-running', abortSignal: signal });
      } catch (error) {
        signal.throwIfAborted();
        if (statusOf(error) !== 404) throw error;
      }
    };
    await this.#try('wait for a container', wait, noLimit);
  }

  find(labels: Readonly<Record<string, string>>): Promise<Container[]> {
    return this.#try('list containers', () => findContainers(this.#docker, labels));
  }

  async *events(labels: Readonly<Record<string, string>>, signal: AbortSignal): AsyncGenerator<ContainerEvent> {
    try {
      yield* containerEvents(this.#docker, labels, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw await engineFailure(error, 'report its events', this.url);
    }
  }

  logTail(id: string): Promise<string> {
    return this.#try('read what a container printed', async () => {
      const log = await this.#docker.getContainer(id).logs({ stdout: true, stderr: true, tail: 20 });
      return withoutHeaders(log);
    });
  }

  async connect(container: Container, wireDirectory: string, signal: AbortSignal): Promise<Duplex> {
    const start = Date.now();
    const transport = container.labels[transportLabel];
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      const waited = Date.now() - start;
      const exec = transport === 'exec' || waited > socketPatienceMs;
      try {
        if (!exec) return await connectAgent(join(wireDirectory, socketName));
        const stream = await this.#openBridge(container.id);
        // The socket works, and does not show here: so it will be for those that are made next.
        if (transport !== 'exec') this.#sharesNoSocket = true;
        return stream;
      } catch (error) {
        if (error instanceof WireProtocolError) throw error;
        // Looked at now and then, not at each attempt: in the good case never.
        if (exec || attempt % 150 === 0) await this.#checkRuns(container.id, error);
        if (waited > listenPatienceMs) {
          const log = await this.logTail(container.id);
          throw new ContainerStartError({ reason: 'it did not answer in time', log }, { cause: error });
        }
      }
      await wait(exec ? 50 : 1);
    }
  }

  async reconnect(container: Container, wireDirectory: string): Promise<Duplex> {
    if (container.labels[transportLabel] === 'exec') return this.#openBridge(container.id);
    try {
      return await connectAgent(join(wireDirectory, socketName));
    } catch (error) {
      // There, but not for us to see, as in `connect`.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return this.#openBridge(container.id);
      throw error;
    }
  }

  async sweep(hostId: string, { dryRun, isInUse }: Parameters<Engine['sweep']>[1]): Promise<Leftover[]> {
    const sweep = async () => {
      const labels = labelFilter({ 'berth.host': hostId, [agentVolumeLabel]: 'agent' });
      const leftovers: Leftover[] = [];
      const removeContainers = async (containers: Dockerode.ContainerInfo[]) => {
        for (const { Id, Names } of containers) {
          leftovers.push({ kind: 'container', name: (Names[0] ?? Id).replace(/^\//, '') });
          if (!dryRun) await this.remove(Id);
        }
      };
      const fills = await this.#docker.listContainers({ all: true, filters: { label: labels } });
      const dead = fills.filter(({ Created }) => Date.now() - Created * 1000 >= fillPatienceMs);
      const isLock = ({ Names }: Dockerode.ContainerInfo) => Names.some((name) => name.endsWith(lockSuffix));
      await removeContainers(dead.filter((one) => !isLock(one)));
      const copies = await this.#docker.listContainers({
        all: true,
        filters: { label: labelFilter({ 'berth.host': hostId, ...copyLabel }) },
      });
      for (const copy of copies) if (!(await isInUse(copy.Labels))) await removeContainers([copy]);
      const keptLabels = labelFilter({ 'berth.host': hostId, ...keptVolume });
      const unused = await Promise.all(
        [labels, keptLabels].map((label) => this.#docker.listVolumes({ filters: { label, dangling: ['true'] } })),
      );
      for (const { Name } of unused.flatMap(({ Volumes }) => Volumes ?? [])) {
        leftovers.push({ kind: 'volume', name: Name });
        if (!dryRun) await this.#docker.getVolume(Name).remove();
      }
      for (const { id, labels } of await unusedForkImages(this.#docker, { 'berth.host': hostId })) {
        if (await isInUse(labels)) continue;
        leftovers.push({ kind: 'image', name: id });
        if (!dryRun) await removeForkImage(this.#docker, id);
      }
      // Last, as without it a volume counts as whole.
      await removeContainers(dead.filter(isLock));
      return leftovers;
    };
    return this.#try('look for leftovers', sweep, noLimit);
  }

  #prepareAgent(): Promise<AgentVolume> {
    // It may have an image to get or to make first.
    return this.#try('prepare the sandbox-agent', () => this.#ensureAgent(), noLimit);
  }

  /** Looked at once per process; a failure is not kept. */
  async #ensureAgent(): Promise<AgentVolume> {
    const { labels, onProgress = () => {} } = this.#options;
    this.#agent ??= this.#traits().then(({ ulimits }) => ensureAgentVolume(this.#docker, labels, ulimits, onProgress));
    try {
      return await this.#agent;
    } catch (error) {
      this.#agent = undefined;
      throw error;
    }
  }

  /** Looked at once per process; a failure is not kept. */
  async #traits(): Promise<EngineTraits> {
    this.#knownTraits ??= this.#try('say what it can do', () => readTraits(this.#docker));
    try {
      return await this.#knownTraits;
    } catch (error) {
      this.#knownTraits = undefined;
      throw error;
    }
  }

  /** Looked at again for a runtime that it did not have: an engine takes new ones while it runs. */
  async #traitsWith(runtime: string | undefined): Promise<EngineTraits> {
    const traits = await this.#traits();
    if (runtime === undefined || hasRuntime(traits, runtime)) return traits;
    this.#knownTraits = undefined;
    return this.#traits();
  }

  /** A command in the container that copies between its standard streams and the sandbox-agent's socket. */
  async #openBridge(id: string): Promise<Duplex> {
    const exec = await this.#docker.getContainer(id).exec({
      Cmd: [...agentCommand, 'bridge'],
      User: `0:${agentGroup}`,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    });
    const connection = await exec.start({ hijack: true, stdin: true });
    return new ExecStream(connection, (chunk) => this.#options.onStderr?.(chunk.toString()));
  }

  async #checkRuns(id: string, cause: unknown): Promise<void> {
    const details = await this.inspect(id);
    if (details?.state === 'running' || details?.state === 'paused') return;
    if (!details) throw new ContainerStartError({ reason: 'its container was removed' }, { cause });
    throw new ContainerStartError(
      {
        reason: 'it ended at once',
        ...(details.end && { exitCode: details.end.exitCode }),
        log: await this.logTail(id),
      },
      { cause },
    );
  }

  async #change(
    operation: string,
    id: string,
    state: ContainerDetails['state'],
    change: (container: Dockerode.Container) => Promise<unknown>,
  ): Promise<void> {
    await this.#try(operation, async () => {
      try {
        await change(this.#docker.getContainer(id));
      } catch (error) {
        // In that state already: one status says so for a stop, others for a pause and a resume.
        if ((await this.inspect(id))?.state !== state) throw error;
      }
    });
  }

  async #try<T>(operation: string, work: () => Promise<T>, limitMs = answerMs): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const reason = `it did not answer within ${limitMs / 1000} s. Look at its log, or start it again`;
      if (limitMs !== noLimit) timer = setTimeout(() => reject(new EngineError({ operation, reason })), limitMs);
    });
    try {
      return await Promise.race([work(), late]);
    } catch (error) {
      throw await engineFailure(error, operation, this.url);
    } finally {
      clearTimeout(timer);
    }
  }
}

function urlOf(address: Dockerode.DockerOptions): string {
  if (address.socketPath) return `unix://${address.socketPath}`;
  return address.host ? `tcp://${address.host}:${address.port ?? ''}` : 'the default socket';
}
