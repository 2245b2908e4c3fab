import { setTimeout as wait } from 'node:timers/promises';
import type Docker from 'dockerode';
import { agentGroup, keptDirectory, wireDirectory } from '../../protocol/socket.ts';
import { containerEnvironment } from '../agent-environment.ts';
import type { ContainerSpec } from '../engine.ts';
import { ContainerExistsError, ContainerStartError, LimitUnsupportedError, RuntimeNotFoundError } from '../errors.ts';
import type { Transport } from '../transport/pick.ts';
import type { AgentVolume } from './agent-volume.ts';
import { reasonOf, statusOf } from './failure.ts';
import { inheritedLabel, ownLabels } from './find.ts';
import type { ImageDetails } from './images.ts';
import { runtimeNames } from './runtime.ts';
import type { EngineTraits } from './traits.ts';

/** How the wire reaches the sandbox; written down at its making, for every host process that connects later. */
export const transportLabel = 'berth.wire';

/** On the volumes that a container has for itself: for what is kept of processes, and see `ContainerSpec.volumes`. */
export const keptVolume = { 'berth.volume': 'kept' } as const;

/** What Node compiled when the volume was filled; it is of use with the same flags only. */
export const compileCache = '/.berth/cache';

/** Starts Node by the loader that we bring: the image may have none, or that of another C library. */
export const agentCommand = [
  '/.berth/lib/ld.so',
  '--inhibit-cache',
  '--library-path',
  '/.berth/lib',
  '/.berth/bin/node',
  // Little memory, as most of the time it waits; with 1 it would collect garbage during its start already.
  '--max-semi-space-size=2',
  '--v8-pool-size=0',
  // For when it has nothing to do.
  '--expose-gc',
  // A command that runs as root may send it any signal.
  '--disable-sigusr1',
  '--disable-warning=ExperimentalWarning',
  '/.berth/agent.cjs',
] as const;

function containerName(sandboxId: string): string {
  return `berth-${sandboxId}`;
}

/** How long another container of the same name may be in the making; that takes a fraction of a second. */
const makingPatienceMs = 10_000;

/** What a container is given that depends on the engine. */
interface OnEngine {
  agent: AgentVolume;
  transport: Transport;
  ulimits: readonly Docker.Ulimit[];
  runtimes: EngineTraits['runtimes'];
}

/** @throws {ContainerExistsError} the name is taken */
export async function createContainer(
  docker: Docker,
  spec: ContainerSpec,
  image: ImageDetails,
  onEngine: OnEngine,
): Promise<string> {
  const name = containerName(spec.sandboxId);
  const config = containerConfig(name, spec, image, onEngine);
  const deadline = Date.now() + makingPatienceMs;
  for (;;) {
    try {
      return (await docker.createContainer(config)).id;
    } catch (error) {
      const reason = reasonOf(error);
      if (spec.limits.disk !== undefined && /storage-opt|quota/.test(reason)) {
        throw new LimitUnsupportedError({ limit: 'disk', reason }, { cause: error });
      }
      // A shim, whose name only the engine can judge.
      if (spec.runtime !== undefined && /unknown.* runtime/i.test(reason)) {
        throw new RuntimeNotFoundError({ runtime: spec.runtime, known: runtimeNames(onEngine) }, { cause: error });
      }
      if (statusOf(error) === 400) throw new ContainerStartError({ reason }, { cause: error });
      if (statusOf(error) !== 409) throw error;
      const labels = await labelsOf(docker, name);
      // A container has its name before it can be found, and may still fail to be made: then the name is free again.
      if (labels === undefined && Date.now() < deadline) await wait(20);
      else throw new ContainerExistsError({ name, labels: labels ?? {} }, { cause: error });
    }
  }
}

async function labelsOf(docker: Docker, name: string): Promise<Record<string, string> | undefined> {
  try {
    return ownLabels((await docker.getContainer(name).inspect()).Config.Labels);
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

/**
 * For a container with `NetworkMode: 'none'`. Docker before 28 starts itself once more in each, for a network with nothing in
 * it: more than half the time of a start. So there is no such network, but the kernel's: a namespace with its loopback. The
 * engine then makes no /etc/hosts and no /etc/resolv.conf.
 */
export const loopbackOnly = { NetworkDisabled: true } as const;

function containerConfig(
  name: string,
  spec: ContainerSpec,
  image: ImageDetails,
  { agent, transport, ulimits }: OnEngine,
): Docker.ContainerCreateOptions {
  const user = spec.user ?? image.user;
  const labels = { ...spec.labels, [transportLabel]: transport };
  const inherited = image.inherited.labels.filter((label) => label.startsWith('berth.') && !(label in labels));
  return {
    name,
    Image: image.id,
    Labels: { ...labels, ...(inherited.length > 0 && { [inheritedLabel]: JSON.stringify(inherited) }) },
    Entrypoint: [...agentCommand],
    Cmd: [],
    User: `0:${agentGroup}`,
    WorkingDir: '/',
    Env: containerEnvironment([...image.env, ...spec.env], {
      sandboxId: spec.sandboxId,
      publicKey: spec.publicKey,
      version: agent.version,
      user,
      cwd: spec.cwd,
      idleTimeoutMs: spec.idleTimeoutMs,
      maxLifetimeMs: spec.maxLifetimeMs,
      isForPool: spec.isForPool ?? false,
      compileCache,
      inherited: image.inherited.env,
    }),
    ...loopbackOnly,
    Healthcheck: { Test: ['NONE'] },
    StopSignal: 'SIGTERM',
    StopTimeout: 1,
    HostConfig: {
      NetworkMode: 'none',
      CapDrop: ['ALL'],
      // To run commands as their user, to end them, and to give them their directory.
      CapAdd: ['CHOWN', 'KILL', 'SETGID', 'SETPCAP', 'SETUID'],
      SecurityOpt: ['no-new-privileges'],
      // Servers may listen at any port, as the name server of the sandbox-agent does: Docker's own default, and not Podman's.
      Sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0' },
      Init: false,
      ...(spec.runtime !== undefined && { Runtime: spec.runtime }),
      Memory: spec.limits.memory,
      MemorySwap: spec.limits.memory,
      NanoCpus: Math.round(spec.limits.cpus * 1e9),
      PidsLimit: spec.limits.pids,
      Ulimits: [...ulimits],
      ...(spec.limits.disk !== undefined && { StorageOpt: { size: `${spec.limits.disk}` } }),
      // What is in /dev/shm belongs to no process that could be killed for it: it must leave room for the rest.
      ShmSize: Math.min(64 * 1024 * 1024, Math.floor(spec.limits.memory / 4)),
      // Only the sandbox-agent prints here, and only when it fails.
      LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '1' } },
      Mounts: mounts(spec, agent, transport),
    },
  };
}

function mounts(spec: ContainerSpec, agent: AgentVolume, transport: Transport): Docker.MountConfig {
  const options = (Labels: Record<string, string>) => ({
    NoCopy: true,
    Labels,
    DriverConfig: { Name: 'local', Options: {} },
  });
  // Without a name: it goes with the container, whoever removes that, and no snapshot has it. Labelled for whoever removed
  // the container without it.
  const ownVolume = (Target: string): Docker.MountSettings => ({
    Type: 'volume',
    Source: '',
    Target,
    VolumeOptions: options({ 'berth.host': spec.labels['berth.host'] ?? '', ...keptVolume }),
  });
  const result: Docker.MountConfig = [
    { Type: 'volume', Source: agent.name, Target: '/.berth', ReadOnly: true, VolumeOptions: options({}) },
    ownVolume(keptDirectory),
    ...(spec.volumes ?? []).map(ownVolume),
    transport === 'unix'
      ? { Type: 'bind', Source: spec.wireDirectory, Target: wireDirectory }
      : { Type: 'tmpfs', Source: '', Target: wireDirectory, TmpfsOptions: { SizeBytes: 1024 * 1024, Mode: 0o777 } },
  ];
  if (spec.workspace && 'bind' in spec.workspace) {
    result.push({ Type: 'bind', Source: spec.workspace.bind, Target: '/workspace' });
  } else if (spec.workspace) {
    result.push({ Type: 'volume', Source: spec.workspace.volume, Target: '/workspace' });
  }
  return result;
}
