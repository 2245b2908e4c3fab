import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import type Docker from 'dockerode';
import { type Logger, pino } from 'pino';
import { DockerEngine } from '../engine/docker/docker.ts';
import type { Container, ContainerSpec, Engine, FrozenFiles, LimitName } from '../engine/engine.ts';
import { ContainerExistsError, ContainerStartError, EngineError } from '../engine/errors.ts';
import type { Transport } from '../engine/transport/pick.ts';
import { abortError, BerthError } from '../errors.ts';
import { type CollectReport, collect } from './collect.ts';
import { SandboxExistsError, SandboxKeyConflictError, SandboxNotFoundError } from './errors.ts';
import { differences, fingerprints, hash, keyLabel, optionsLabel } from './key.ts';
import type { Authority } from './network/authority.ts';
import type { Outside } from './network/gateway.ts';
import { resolver } from './network/resolver.ts';
import {
  type CheckedCreateOptions,
  type CheckedPool,
  type CreateOptions,
  check,
  collectOptions,
  createOptions,
  forkOptions,
  hostOptions,
  listOptions,
  type PoolOptions,
  sandboxName,
  workLabels,
} from './options.ts';
import { called, type Member, Pool, poolLabel } from './pool.ts';
import {
  createdLabel,
  cwdLabel,
  endPatienceMs,
  hostLabel,
  imageLabel,
  parentLabel,
  Sandbox,
  type SandboxInfo,
  sandboxLabel,
  toInfo,
  userLabelPrefix,
} from './sandbox.ts';
import { defaultStateDir, StateDir } from './state-dir.ts';
import { Turns } from './turns.ts';
import { EngineWatch } from './watch.ts';
import { AnswerError } from './wire.ts';

/**
 * Creations at once. Of more none is ready earlier: with 8 on 2 CPUs, each took six times as long as with 4, and as many
 * were made in a second.
 */
const creationsAtOnce = 2 * availableParallelism();

/** Options of `SandboxHost.open`. */
export interface SandboxHostOptions {
  /** Where the engine is, as dockerode takes it. Default: `DOCKER_HOST`, the docker command's context, usual sockets */
  docker?: Docker.DockerOptions;
  /** Of sandboxes that ask for none. Default: `BERTH_IMAGE`, else the image that Berth makes */
  image?: string;
  /**
   * Where the host keeps who it is, and what it knows of its sandboxes. All processes with the same one see the same
   * sandboxes. Default: `BERTH_STATE_DIR`, else `$XDG_STATE_HOME/berth`, else `~/.local/state/berth`
   */
  stateDir?: string;
  /**
   * Sandboxes that are started before they are asked for, so that `create` has one in milliseconds; those that nobody
   * asked for are removed by `close()`. A number is how many; they are then as `create()` makes them. Default: 0
   */
  pool?: number | PoolOptions;
  /**
   * Name servers that names are looked up at for the sandboxes: addresses, with `:` and a port where that is not 53.
   * Default: as this machine does it
   */
  dns?: string[];
  /**
   * Certificates, in PEM, of authorities that a server may be signed by, beside those that Node trusts, where the host reads
   * what is said to it: for secrets, and for rules with `methods` or `paths`. Default: none
   */
  ca?: string[];
  /** A pino logger. Default: to standard error, from the level `BERTH_LOG` on, else `warn` */
  logger?: Logger;
}

/** Makes sandboxes, and finds those that earlier processes of the same state directory made. */
export class SandboxHost implements AsyncDisposable {
  readonly #engine: Engine;
  readonly #state: StateDir;
  readonly #image: string | undefined;
  readonly #outside: Outside;
  readonly #watch: EngineWatch;
  readonly #turns = new Turns(creationsAtOnce);
  readonly #pool: Pool | undefined;
  /** Those that this process is connected to, or has been. */
  readonly #open = new Set<Sandbox>();

  private constructor(
    engine: Engine,
    state: StateDir,
    image: string | undefined,
    outside: Outside,
    pool: CheckedPool,
    onPoolFailure: (error: unknown) => void,
  ) {
    this.#engine = engine;
    this.#state = state;
    this.#image = image;
    this.#outside = outside;
    this.#watch = new EngineWatch(engine, { [hostLabel]: state.hostId });
    if (pool.size > 0) {
      this.#pool = new Pool(
        { ...pool, image: pool.image ?? image },
        {
          make: () => this.#makeMember(pool),
          remove: ({ id, container }) => this.#undo(id, container),
          onFailure: onPoolFailure,
        },
      );
    }
  }

  /**
   * Finds the container engine and opens the state directory.
   * @throws {EngineUnreachableError} no container engine answers; says what to do
   * @throws {StateDirError} the state directory can't be used
   * @throws {InvalidOptionsError} an option is not known, or not of its type
   * @example await using host = await SandboxHost.open();
   */
  static async open(options: SandboxHostOptions = {}): Promise<SandboxHost> {
    return SandboxHost.openWith(options, undefined);
  }

  /** `transport`: in place of the one that is picked. @internal for tests */
  static async openWith(options: SandboxHostOptions, transport: Transport | undefined): Promise<SandboxHost> {
    const { pool } = check('open', hostOptions, options);
    const {
      docker,
      image = process.env.BERTH_IMAGE || undefined,
      stateDir = defaultStateDir(),
      logger = pino({ level: process.env.BERTH_LOG || 'warn' }, pino.destination({ dest: 2, sync: true })),
    } = options;
    const state = await StateDir.open(stateDir);
    try {
      const engine = await DockerEngine.open({
        labels: { [hostLabel]: state.hostId },
        onProgress: (step) => logger.info({ step }, 'preparing the engine'),
        onStderr: (text) => logger.warn({ text }, 'the bridge of a sandbox printed'),
        ...(docker && { docker }),
        ...(transport && { transport }),
      });
      const outside = { resolve: resolver(options.dns), authority: authority(), ca: options.ca };
      return new SandboxHost(engine, state, image, outside, pool, (error) =>
        logger.warn({ err: error }, 'a sandbox for the pool could not be made'),
      );
    } catch (error) {
      state.close();
      throw error;
    }
  }

  /**
   * Makes a sandbox and starts it. One that can't be started leaves nothing. Of many at once a few are made at a time, in
   * the order in which they were asked for.
   * @throws {ImageNotFoundError} says how to get the image
   * @throws {SandboxExistsError} the id is taken
   * @throws {LimitUnsupportedError} the engine can't hold the sandbox to one of `limits`
   * @throws {RuntimeNotFoundError} the engine has no such `runtime`; names those that it has
   * @throws {WorkspaceUnreachableError} `workspace` is a directory of this machine, and the engine is another one
   * @throws {SandboxKeyConflictError} the key gives a sandbox that was made with other options
   * @example const sandbox = await host.create({ image: 'alpine:3', limits: { memory: 512 * 1024 * 1024 } });
   */
  async create(given: CreateOptions = {}): Promise<Sandbox> {
    // The policy as it was given: so it is kept.
    const options = { ...check('create', createOptions, given), network: given.network };
    if (options.key !== undefined) return this.#makeOnce(options.key, options);
    return (await this.#fromPool(options)) ?? this.#make(options);
  }

  /** Resolves when the pool is full, at once where there is none. What keeps it from that is in the log. */
  async warm(): Promise<void> {
    await this.#pool?.full();
  }

  /** What `create` gives for a key, but only where its sandbox is there: with its files, and started. @internal */
  async findByKey(key: string, given: CreateOptions): Promise<Sandbox | undefined> {
    const options = { ...check('create', createOptions, { ...given, key }), network: given.network };
    await using _lock = await this.#state.lock(hash(key), options.signal);
    return await this.#reuseByKey(key, options);
  }

  /**
   * Sandboxes whose files are those that `parent` has now, one a key, in the order of the keys. A key that has a sandbox gives
   * that, as in `create`. What runs in `parent` is not in them; it stands still until all of its files are there, and calls
   * wait. Where something is mounted there, as a workspace, they have a copy of it: what they write stays theirs. When one can't
   * be made, none is.
   * @param options - as of `create`; image and workspace are the parent's whatever they say, and so is a `user` left out
   * @throws {SandboxNotFoundError} the parent is gone
   * @internal
   */
  async fork(
    parent: Sandbox,
    { keys, options: given = {}, signal }: { keys: readonly string[]; options?: CreateOptions; signal?: AbortSignal },
  ): Promise<Sandbox[]> {
    check('fork', forkOptions, { keys });
    const asked = keys.map((key) => ({
      ...check('fork', createOptions, { ...given, key, signal }),
      key,
      network: given.network,
    }));
    const locks: AsyncDisposable[] = [];
    try {
      // In one order, whoever asks: two that wait for a key of the other would wait for ever.
      for (const key of keys.toSorted()) locks.push(await this.#state.lock(hash(key), signal));
      const found = await Promise.all(asked.map((options) => this.#reuseByKey(options.key, options)));
      const missing = asked.filter((_, index) => !found[index]);
      const made = missing.length > 0 ? await this.#forkMissing(parent.id, missing, signal) : [];
      return found.flatMap((sandbox) => sandbox ?? made.shift() ?? []);
    } finally {
      await Promise.all(locks.map((lock) => lock[Symbol.asyncDispose]()));
    }
  }

  /** For who has the locks of the keys. */
  async #forkMissing(
    id: string,
    missing: (CheckedCreateOptions & { key: string })[],
    signal: AbortSignal | undefined,
  ): Promise<Sandbox[]> {
    await using _lock = await this.#state.lockFrozen(id, signal);
    const parent = await this.#existing(id);
    await using files = await this.#freeze(parent, signal);
    if (files.mounted.length === 0) await files.thaw();
    const source = { files, image: parent.labels[imageLabel] ?? parent.image };
    const failure = new AbortController();
    const untilFailure = AbortSignal.any([failure.signal, ...(signal ? [signal] : [])]);
    const made = await Promise.allSettled(
      missing.map((options) =>
        this.#make({ ...options, id: this.#idOf(options.key), signal: untilFailure }, source).catch((error) => {
          failure.abort(error);
          throw error;
        }),
      ),
    );
    const forks = made.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    if (!failure.signal.aborted) return forks;
    // The first error is the one to report; `collect` finds what can't be removed.
    await Promise.allSettled(forks.map((fork) => fork.remove()));
    await this.#engine.removeImage(files.image).catch(() => {});
    throw failure.signal.reason;
  }

  async #freeze(parent: Container, signal: AbortSignal | undefined): Promise<FrozenFiles> {
    using _turn = await this.#turns.take({ signal });
    const sandboxId = parent.labels[sandboxLabel] ?? '';
    try {
      return await this.#engine.freeze(parent.id, { [parentLabel]: sandboxId });
    } catch (error) {
      const isGone = error instanceof EngineError && error.meta.engineStatus === 404;
      throw isGone ? new SandboxNotFoundError({ sandboxId }) : error;
    }
  }

  /** Not a random one: whatever becomes of the lock of the key, the engine has only one container of a name. */
  #idOf(key: string): string {
    return `k-${hash(`${this.#state.hostId} ${key}`).slice(0, 16)}`;
  }

  /** The sandbox that has this key; made when there is none. */
  async #makeOnce(key: string, options: CheckedCreateOptions): Promise<Sandbox> {
    await using _lock = await this.#state.lock(hash(key), options.signal);
    const ready = (await this.#reuseByKey(key, options)) ?? (await this.#fromPool(options));
    if (ready) return ready;
    // Awaited here, with the lock.
    return await this.#make({ ...options, id: options.id ?? this.#idOf(key) });
  }

  /** For who has the lock of the key. */
  async #reuseByKey(key: string, options: CheckedCreateOptions): Promise<Sandbox | undefined> {
    const [found] = await this.#containers({ [keyLabel]: key });
    const id = found?.labels[sandboxLabel];
    if (found && id !== undefined) {
      const owner = await this.#state.owner(id);
      const isWhole = !owner || owner.finished || owner.isAlive;
      if (isWhole && found.state !== 'removing') return this.#reuse(key, options, id, found);
      // Of a process that was killed while it made it, or on its way out.
      await this.remove(id);
    }
    return undefined;
  }

  async #reuse(key: string, options: CheckedCreateOptions, id: string, container: Container): Promise<Sandbox> {
    const differing = differences(container.labels[optionsLabel] ?? '{}', fingerprints(options));
    if (options.id !== undefined && options.id !== id) differing.unshift('id');
    if (differing.length > 0) throw new SandboxKeyConflictError({ key, sandboxId: id, options: differing });
    await this.#state.own(id);
    const sandbox = this.#toSandbox(id, container);
    if (container.state === 'paused') await sandbox.resume();
    await sandbox.start();
    if (options.network !== undefined) await sandbox.setNetwork(options.network);
    return sandbox;
  }

  /** @param source - of the sandbox that it is to be a fork of */
  async #make(
    options: CheckedCreateOptions,
    { files, image: parentImage }: { files?: FrozenFiles; image?: string } = {},
  ): Promise<Sandbox> {
    const { signal } = options;
    using _turn = await this.#turns.take({ signal });
    const id = options.id ?? randomId();
    const image = parentImage ?? options.image ?? this.#image ?? (await this.#engine.defaultImage());
    // Both are written before there is a container, so that whatever a killed process leaves is found.
    await this.#claim(id);
    let container: Container | undefined;
    let sandbox: Sandbox | undefined;
    try {
      const user = options.user ?? (files ? undefined : await this.#userOfWorkspace(options));
      // Not with that user: asked for again, a key is told by what was asked for.
      const { workspace, ...spec } = this.#specFor(id, image, options);
      container = await this.#makeContainer({
        ...spec,
        ...(user !== undefined && { user }),
        ...(files ? { image: files.image, volumes: files.mounted } : workspace && { workspace }),
      });
      throwIfAborted(signal);
      // Waited for in any case: what copies has the volumes of the new one.
      await files?.copyTo(container.id, signal).catch((error: unknown) => {
        throwIfAborted(signal);
        throw error;
      });
      await this.#engine.start(container.id);
      sandbox = this.#toSandbox(id, container, { isNew: true });
      await unlessAborted(sandbox.connect(), signal);
      if (options.network !== undefined) await sandbox.setNetwork(options.network);
      await this.#state.own(id);
      return sandbox;
    } catch (error) {
      // The first error is the one to report.
      const explained = container ? await this.#explainStart(container, error).catch(() => error) : error;
      if (sandbox) {
        void sandbox.close(); // when its connecting has failed, which it does without its container
      }
      if (error instanceof ContainerExistsError) {
        const ownedHere = error.meta.labels[hostLabel] === this.#state.hostId;
        // One of ours that nobody had written down is now.
        await (ownedHere ? this.#state.own(id) : this.#state.forget(id)).catch(() => {});
        throw new SandboxExistsError({ sandboxId: id, ownedHere }, { cause: error });
      }
      await this.#undo(id, container);
      throw explained;
    }
  }

  /**
   * A process that was killed may have asked the engine for a container of that id a moment before. One that was never
   * started is nobody's then: this process has the id.
   */
  async #makeContainer(spec: ContainerSpec): Promise<Container> {
    try {
      return await this.#engine.create(spec);
    } catch (error) {
      const left = error instanceof ContainerExistsError ? await this.#find(spec.sandboxId) : undefined;
      if (left?.state !== 'created') throw error;
      await this.#engine.remove(left.id);
      return this.#engine.create(spec);
    }
  }

  /** Takes back what was made for a sandbox; what can't be is found by `collect`. */
  async #undo(id: string, container: Container | undefined): Promise<void> {
    try {
      if (container) await this.#engine.remove(container.id);
      await this.#state.forget(id);
    } catch {
      // An error came before this one, or nobody waits for it.
    }
  }

  async #makeMember({ image: ownImage, limits }: CheckedPool): Promise<Member> {
    using _turn = await this.#turns.take({ background: true });
    const id = randomId();
    const image = ownImage ?? this.#image ?? (await this.#engine.defaultImage());
    const options = { ...check('open', createOptions, { image, limits }), network: undefined };
    await this.#claim(id);
    let container: Container | undefined;
    try {
      const spec = this.#specFor(id, image, options);
      container = await this.#engine.create({
        ...spec,
        labels: { ...spec.labels, [poolLabel]: 'true' },
        isForPool: true,
      });
      await this.#engine.start(container.id);
      // It is ready when its sandbox-agent answers.
      const sandbox = this.#toSandbox(id, container);
      await sandbox.connect();
      await sandbox.close();
      return { id, container };
    } catch (error) {
      await this.#undo(id, container);
      throw error;
    }
  }

  /** One that waits in the pool and fits. */
  async #fromPool(options: CheckedCreateOptions): Promise<Sandbox | undefined> {
    throwIfAborted(options.signal);
    for (let member = this.#pool?.take(options); member; member = this.#pool?.take(options)) {
      const { id, container } = member;
      const labels = {
        ...this.#labelsFor(id, container.labels[imageLabel] ?? '', options),
        [createdLabel]: new Date().toISOString(),
      };
      const named = { ...container, labels: { ...container.labels, ...labels } };
      const sandbox = this.#toSandbox(id, named, { isNew: true });
      try {
        // Written down before it is so: of a sandbox that was given away somebody knows for whom.
        await Promise.all([this.#state.label(id, labels), sandbox.connect()]);
        await sandbox.assign({
          env: options.env,
          cwd: options.cwd,
          ...(options.user !== undefined && { user: options.user }),
          ...(options.idleTimeout !== undefined && { idleMs: options.idleTimeout }),
          ...(options.maxLifetime !== undefined && { lifetimeMs: options.maxLifetime }),
        });
        if (options.network !== undefined) await sandbox.setNetwork(options.network);
        await this.#state.own(id);
      } catch (error) {
        await sandbox.close();
        await this.#undo(id, container);
        // It can't be what was asked for, as for a user that it does not have: who makes one for that says why.
        if (error instanceof AnswerError) return undefined;
        continue; // somebody stopped it
      }
      return sandbox;
    }
    return undefined;
  }

  /**
   * In a directory of this machine files are to belong to whoever runs Berth. Where that is root, to whom the directory
   * belongs: root's files in it would be in his way, and a program that is setuid root a way out.
   */
  async #userOfWorkspace({ workspace }: CheckedCreateOptions): Promise<string | undefined> {
    const { getuid, getgid } = process;
    if (!workspace || !('bind' in workspace) || !getuid || !getgid) return undefined;
    if (getuid() !== 0) return this.#engine.userInside({ uid: getuid(), gid: getgid() });
    // Where this process does not see it, the engine says whether it is there.
    const owner = await stat(workspace.bind).catch(() => undefined);
    return owner && this.#engine.userInside(owner);
  }

  #specFor(id: string, image: string, options: CheckedCreateOptions): ContainerSpec {
    const { limits } = options;
    return {
      sandboxId: id,
      image,
      labels: this.#labelsFor(id, image, options),
      env: options.env,
      cwd: options.cwd,
      limits: {
        memory: limits.memory ?? 2 * 1024 ** 3,
        cpus: limits.cpus ?? Math.min(2, availableParallelism()),
        pids: limits.pids ?? 1_024,
        ...(limits.disk !== undefined && { disk: limits.disk }),
      },
      required: (Object.keys(limits) as LimitName[]).filter((name) => limits[name] !== undefined), // of a strict object
      publicKey: this.#state.publicKey,
      wireDirectory: this.#state.wireDirectory(id),
      ...(options.user !== undefined && { user: options.user }),
      ...(options.idleTimeout !== undefined && { idleTimeoutMs: options.idleTimeout }),
      ...(options.maxLifetime !== undefined && { maxLifetimeMs: options.maxLifetime }),
      ...(options.runtime !== undefined && { runtime: options.runtime }),
      ...(options.workspace && { workspace: options.workspace }),
    };
  }

  #labelsFor(id: string, image: string, options: CheckedCreateOptions): Record<string, string> {
    return {
      ...labelsFor(options.labels),
      [sandboxLabel]: id,
      [imageLabel]: image,
      [cwdLabel]: options.cwd,
      ...(options.key !== undefined && { [keyLabel]: options.key, [optionsLabel]: fingerprints(options) }),
    };
  }

  /** A new sandbox that ended did not start, whatever the transport saw of that. */
  async #explainStart(container: Container, error: unknown): Promise<unknown> {
    if (!(error instanceof BerthError) || error instanceof ContainerStartError) return error;
    if (error.cause instanceof ContainerStartError) return error.cause;
    await this.#engine.ended(container.id, AbortSignal.timeout(endPatienceMs)).catch(() => {}); // looked at now
    const details = await this.#engine.inspect(container.id);
    if (!details?.end) return error;
    const { exitCode } = details.end;
    const log = await this.#engine.logTail(container.id);
    return new ContainerStartError({ reason: 'it ended at once', exitCode, log }, { cause: error });
  }

  /**
   * A sandbox that is there, also one that an earlier process made. One that does not run is given too: `start` it.
   * @throws {SandboxNotFoundError}
   */
  async connect(id: string): Promise<Sandbox> {
    const container = await this.#existing(id);
    await this.#state.own(id);
    const sandbox = this.#toSandbox(id, container);
    if (container.state === 'running') await sandbox.connect();
    return sandbox;
  }

  /**
   * As `connect`, but it is connected to when that is needed first: for what the engine does alone, and for a sandbox
   * that does not answer.
   * @throws {SandboxNotFoundError}
   */
  async find(id: string): Promise<Sandbox> {
    return this.#toSandbox(id, await this.#existing(id));
  }

  /** Every sandbox of this state directory, as the engine has it now; newest first. */
  async list(given: { labels?: Record<string, string> } = {}): Promise<SandboxInfo[]> {
    const { labels } = check('list', listOptions, given);
    const found = await this.#containers(labelsFor(labels));
    const details = await Promise.all(
      found
        .filter((container) => container.labels[sandboxLabel])
        .map(async ({ id, labels: own }) => ({ details: await this.#engine.inspect(id), labels: own })),
    );
    // One may have gone since.
    const infos = details.flatMap((one) =>
      one.details ? [toInfo({ ...one.details, labels: one.labels }, this.#state)] : [],
    );
    return infos.sort((one, other) => other.createdAt.getTime() - one.createdAt.getTime());
  }

  /** Removes a sandbox with its files. One that is not there is no error. */
  async remove(id: string): Promise<void> {
    // It becomes a part of paths that are removed.
    check('remove', sandboxName, { id });
    const open = [...this.#open].filter((sandbox) => sandbox.id === id);
    await Promise.all(open.map((sandbox) => sandbox.remove()));
    const container = await this.#find(id);
    if (container) await this.#engine.remove(container.id);
    await this.#state.forget(id);
  }

  /**
   * Removes what processes that ended without doing so left behind: sandboxes that were not finished, those of runs
   * that nobody has any more, sockets, and volumes that nothing uses. With `dryRun` it only says what that is.
   */
  async collect(given: { dryRun?: boolean } = {}): Promise<CollectReport> {
    return collect(this.#engine, this.#state, check('collect', collectOptions, given));
  }

  /** Closes the connections; sandboxes live on. */
  async close(): Promise<void> {
    await this.#pool?.close();
    await Promise.all([...this.#open].map((sandbox) => sandbox.close()));
    this.#state.close();
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Takes an id for a new sandbox, unless somebody has it. Only who has it may clear up after it. */
  async #claim(id: string): Promise<void> {
    const owner = await this.#state.owner(id);
    const isBeingMade = owner?.isAlive && !owner.finished;
    if (isBeingMade || (owner && (await this.#find(id)))) {
      throw new SandboxExistsError({ sandboxId: id, ownedHere: true });
    }
    // Of a sandbox that is gone.
    if (owner) await this.#forgetGone(id);
    if (!(await this.#state.claim(id))) throw new SandboxExistsError({ sandboxId: id, ownedHere: true });
    await this.#state.makeWireDirectory(id);
  }

  async #forgetGone(id: string): Promise<void> {
    await using _lock = await this.#state.lockId(id);
    const owner = await this.#state.owner(id);
    const isBeingMade = owner?.isAlive && !owner.finished;
    if (owner && !isBeingMade && !(await this.#find(id))) await this.#state.forget(id);
  }

  async #existing(id: string): Promise<Container> {
    check('connect', sandboxName, { id });
    const container = await this.#find(id);
    if (!container) throw new SandboxNotFoundError({ sandboxId: id });
    return container;
  }

  async #find(id: string): Promise<Container | undefined> {
    const [container] = await this.#engine.find({ [hostLabel]: this.#state.hostId, [sandboxLabel]: id });
    return container && called(this.#state, container);
  }

  /** Of sandboxes, those with these labels. One from a pool has its own in the state directory, not on the engine. */
  async #containers(labels: Readonly<Record<string, string>>): Promise<Container[]> {
    const own = { [hostLabel]: this.#state.hostId };
    const isAll = Object.keys(labels).length === 0;
    const found = await Promise.all([
      this.#engine.find({ ...own, ...labels }),
      isAll ? [] : this.#engine.find({ ...own, [poolLabel]: 'true' }),
    ]);
    const containers = await Promise.all(found.flat().map((container) => called(this.#state, container)));
    return containers.flatMap((container) =>
      // There are engines that take a label to look for as a pattern.
      container && Object.entries(labels).every(([name, value]) => container.labels[name] === value) ? [container] : [],
    );
  }

  #toSandbox(id: string, container: Container, { isNew = false } = {}): Sandbox {
    const sandbox: Sandbox = new Sandbox({
      id,
      isNew,
      engine: this.#engine,
      container,
      state: this.#state,
      watch: this.#watch,
      outside: this.#outside,
      cwd: container.labels[cwdLabel] ?? '/workspace',
      onConnect: () => this.#open.add(sandbox),
      onClose: () => this.#open.delete(sandbox),
      onRemove: () => this.#state.forget(id),
    });
    return sandbox;
  }
}

function randomId(): string {
  return `sb_${randomBytes(8).toString('hex')}`;
}

function labelsFor(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [workLabels.has(name) ? name : `${userLabelPrefix}${name}`, value]),
  );
}

/** One for the host, made when it is needed first: most never do, and its libraries take long to load. */
function authority(): () => Promise<Authority> {
  let made: Promise<Authority> | undefined;
  return () => {
    made ??= import('./network/authority.ts').then(({ Authority }) => Authority.make());
    return made;
  };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal.reason);
}

async function unlessAborted<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (!signal) return work;
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortError(signal.reason));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
