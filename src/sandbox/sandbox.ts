import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import * as v from 'valibot';
import type { Container, ContainerDetails, ContainerLimits, Engine, LimitName } from '../engine/engine.ts';
import { ContainerStartError, EngineError } from '../engine/errors.ts';
import { BerthError } from '../errors.ts';
import type { Assignment } from '../protocol/assign.ts';
import { WireResumeError } from '../protocol/errors.ts';
import { endCodes, stopGraceMs } from '../protocol/lifetime.ts';
import { rootSessionId } from '../protocol/session.ts';
import {
  SandboxDiedError,
  type SandboxEnd,
  SandboxNotFoundError,
  SandboxPausedError,
  WireClosedError,
} from './errors.ts';
import { FileSystem } from './fs/file-system.ts';
import { hash, keyLabel } from './key.ts';
import { dial } from './network/dial.ts';
import { type Exposed, expose, exposeWithToken } from './network/expose.ts';
import { Gateway, type NetworkDecision, type Outside } from './network/gateway.ts';
import { type CompiledPolicy, type NetworkPolicy, networkPolicy } from './network/policy.ts';
import { type OpenPort, openPorts, type PortChange, watchPorts } from './network/ports.ts';
import { placeholder } from './network/secrets.ts';
import {
  type AttachOptions,
  type AttachPtyOptions,
  type Command,
  check,
  type ExecOptions,
  exposedPort,
  exposeOptions,
  type PtyOptions,
  processesOptions,
  type SessionOptions,
  sessionOptions,
  statsOptions,
  workLabels,
} from './options.ts';
import { resolvePath } from './path.ts';
import { Pause } from './pause.ts';
import { attach, exec, type Place, type Process, spawn } from './process/exec.ts';
import { listProcesses, type ProcessInfo } from './process/list.ts';
import type { ExecResult } from './process/result.ts';
import { attachPty, openPty, type Pty } from './pty/pty.ts';
import { requestError } from './request-error.ts';
import { Session } from './session/session.ts';
import type { StateDir } from './state-dir.ts';
import type { Change, EngineWatch } from './watch.ts';
import { Wire } from './wire.ts';

/** Labels of users, so that they can't be taken for ours. */
export const userLabelPrefix = 'berth.label.';
/** As it was asked for: the engine only knows its hash. */
export const imageLabel = 'berth.image';
export const hostLabel = 'berth.host';
export const sandboxLabel = 'berth.sandbox';
export const cwdLabel = 'berth.cwd';
/** On what forks are made of: the sandbox that they are forks of. */
export const parentLabel = 'berth.parent';
/** Of a sandbox from a pool: when it was asked for. */
export const createdLabel = 'berth.created';

/** What a sandbox is, and how it is, as its engine has it. */
export interface SandboxInfo {
  /** For `host.connect`. */
  id: string;
  /** What the engine says now. */
  state: 'created' | 'running' | 'paused' | 'exited' | 'removing';
  /** Why it does not run, when it does not. */
  end?: SandboxEnd;
  /** As it was asked for. */
  image: string;
  /** Of one from a pool: when it was asked for. */
  createdAt: Date;
  /** That it was made with. */
  labels: Record<string, string>;
  /** That it was asked for with. */
  key?: string;
  /** Bytes, CPUs, processes. */
  limits?: ContainerLimits;
  /** What nothing limits here: it was not asked for, or the engine of this machine can't hold to it. */
  unlimited?: readonly LimitName[];
  /** The policy that was set last, but for its secrets. */
  network: NetworkPolicy;
}

/** What a sandbox uses, in bytes and milliseconds. One that does not run uses nothing but its disk. */
export interface SandboxStats {
  /** As in `info()`. */
  state: SandboxInfo['state'];
  /** Milliseconds since its start. */
  uptime: number;
  /** Bytes, without what the kernel keeps of files for later reading, and gives back when somebody needs the room. */
  memory: { used: number; limit: number };
  /** `time` is the milliseconds of all its processes since its start; `share` how many CPUs that was since the look before. */
  cpu: { time: number; share: number; limit: number };
  /** Processes and threads, the sandbox-agent's among them. */
  processes: { count: number; limit: number };
  /** Bytes in files that it changed or made, but for volumes. Only when asked for. */
  disk?: number;
}

/** How long a container that just lost its connection is given to turn out dead. */
export const endPatienceMs = 2_000;

/** One sandbox: a container, and the wire into it. Disposing it removes it. */
export class Sandbox implements AsyncDisposable {
  /** For `host.connect`, also in a later process. */
  readonly id: string;
  /** Whether the `create` that gave it has made it. `false`: it was there, for its key. */
  readonly isNew: boolean;
  /** The files, with the rights of the sandbox's user. */
  readonly fs: FileSystem;
  readonly #engine: Engine;
  readonly #container: Container;
  readonly #state: StateDir;
  readonly #onConnect: () => void;
  readonly #onClose: () => void;
  readonly #onRemove: () => Promise<void>;
  readonly #place: Place;
  readonly #watch: EngineWatch;
  readonly #pause: Pause;
  readonly #outside: Outside;
  readonly #networkListeners = new Set<(decision: NetworkDecision) => void>();
  readonly #exposed = new Set<Exposed>();
  /** What was set here, with its secrets. */
  #network: { stamp: string | undefined; policy: CompiledPolicy | undefined } | undefined;
  #gateway: Gateway | undefined;
  #wire: Promise<Wire> | undefined;
  /** Why it was let go of. */
  #letGo: Error | undefined;
  #unfollow: (() => void)[] = [];
  readonly #closing = new AbortController();
  /** Aborts when the container ends. */
  #run = new AbortController();
  /** Of looks and of changes of ours: what a look that began before a change found is no longer so. */
  #changes = 0;
  #lastLook: { startedAt: number; at: number; cpuMs: number } | undefined;

  /** @internal made by `SandboxHost` */
  constructor(options: {
    id: string;
    isNew: boolean;
    engine: Engine;
    container: Container;
    state: StateDir;
    watch: EngineWatch;
    outside: Outside;
    cwd: string;
    onConnect: () => void;
    onClose: () => void;
    onRemove: () => Promise<void>;
  }) {
    this.id = options.id;
    this.isNew = options.isNew;
    this.#engine = options.engine;
    this.#container = options.container;
    this.#state = options.state;
    this.#onConnect = options.onConnect;
    this.#onClose = options.onClose;
    this.#onRemove = options.onRemove;
    this.#watch = options.watch;
    this.#outside = options.outside;
    this.#pause = new Pause(this.id, options.container.state === 'paused');
    this.#place = { wire: () => this.#open(), pause: this.#pause, sessionId: rootSessionId, cwd: options.cwd };
    this.fs = new FileSystem(this.#place.wire, options.cwd);
  }

  /** Where commands start. */
  get cwd(): string {
    return this.#place.cwd;
  }

  /** Connects, so that a sandbox that can't be used is told of now. @internal */
  async connect(): Promise<void> {
    await this.#open();
  }

  /** Tells a sandbox from a pool what it was asked for with. @internal */
  async assign(assignment: Assignment): Promise<void> {
    const wire = await this.#open();
    await wire.call({ type: 'assign', ...assignment }, 'ok');
  }

  /**
   * What programs in it may reach from now on, in all processes that have the sandbox; connections that are not allowed any
   * more are cut. It is kept with the sandbox. Programs go out through such a process: while there is none, nothing is reached.
   * @throws {InvalidOptionsError} a rule is none
   * @example await sandbox.setNetwork({ allow: ['registry.npmjs.org', '*.github.com', 'db.example.com:5432'] });
   */
  async setNetwork(policy: NetworkPolicy): Promise<void> {
    const compiled = check('setNetwork', networkPolicy, policy);
    const wire = await this.#open();
    this.#network = { stamp: await this.#state.setNetwork(this.id, policy), policy: compiled };
    await this.#serveNetwork(wire);
    await this.#state.tellNetwork(this.id, this.#onNetwork);
  }

  /**
   * Makes a server that listens on the sandbox's loopback reachable from this machine, at a port of 127.0.0.1: HTTP,
   * WebSockets, whatever it speaks. Until it is closed, or the sandbox is let go.
   * @param port - inside, 1 to 65,535
   * @param options.token - 16 to 256 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `~`, `-`, or `true`: a new one. Requests in HTTP that
   * bring it pass, and nothing else. Default: none
   * @example
   * await sandbox.spawn('npm run dev');
   * const { url } = await sandbox.expose(5173);
   */
  async expose(port: number, options: { token?: string | true } = {}): Promise<Exposed> {
    const inside = check('expose', exposedPort, port);
    const { token } = check('expose', exposeOptions, options);
    const exposed = await (token === undefined
      ? expose(inside, this.#place.wire)
      : exposeWithToken(inside, token, this.#place.wire));
    if (this.#letGo) {
      await exposed.close(); // it came too late to be closed with the others
      throw this.#letGo;
    }
    this.#exposed.add(exposed);
    void exposed.closed.then(() => this.#exposed.delete(exposed));
    return exposed;
  }

  /** Connects to a server in it. @internal */
  dial(port: number): Promise<Duplex> {
    return dial(port, this.#place.wire);
  }

  /**
   * The ports at which servers listen, on the loopback or on all addresses; the lowest first, at most 1,024. To look is no
   * use of it: an idle sandbox stays idle.
   * @example for (const { port } of await sandbox.ports()) console.log((await sandbox.expose(port)).url);
   */
  async ports(): Promise<OpenPort[]> {
    return openPorts(await this.#open());
  }

  /**
   * Tells of the ports that are open, and then of each that opens or closes, within half a second; until the sandbox is let
   * go, over all its stops and starts.
   * @returns ends that
   * @example sandbox.observePorts(({ port, state }) => console.log(port, state));
   */
  observePorts(listener: (change: PortChange) => void): () => void {
    const stop = new AbortController();
    const follow = (onChange: () => void) => this.#watch.follow(this.#container.id, onChange);
    void watchPorts(
      { connect: this.#place.wire, follow },
      AbortSignal.any([stop.signal, this.#closing.signal]),
      // What it throws is its own, as that of a listener of an event.
      (change) => queueMicrotask(() => listener(change)),
    );
    return () => stop.abort();
  }

  /**
   * Tells of every connection and request that programs ask for, when it has ended or was refused.
   * @returns ends that
   * @example sandbox.observeNetwork(({ host, port, allowed, reason }) => console.log(host, port, allowed, reason));
   */
  observeNetwork(listener: (decision: NetworkDecision) => void): () => void {
    this.#networkListeners.add(listener);
    return () => this.#networkListeners.delete(listener);
  }

  /**
   * What it is, and how it is now. To look is no use of it: an idle sandbox stays idle.
   * @throws {SandboxNotFoundError} somebody has removed it
   */
  async info(): Promise<SandboxInfo> {
    const details = await this.#engine.inspect(this.#container.id);
    if (!details) throw new SandboxNotFoundError({ sandboxId: this.id });
    return toInfo({ ...details, labels: this.#container.labels }, this.#state);
  }

  /**
   * What it uses now. To look is no use of it: an idle sandbox stays idle.
   * @param options.disk - also the size of its files, for which the engine looks at each of them. Default: false
   * @example const { memory, cpu } = await sandbox.stats();
   */
  async stats(given: { disk?: boolean } = {}): Promise<SandboxStats> {
    const usage = await this.#engine.usage(this.#container.id, check('stats', statsOptions, given));
    if (!usage) throw new SandboxNotFoundError({ sandboxId: this.id });
    const { state, memory, cpuMs, pids, disk, limits } = usage;
    const at = Date.now();
    const startedAt = usage.startedAt?.getTime() ?? at;
    // The first look since its start compares with the start.
    const last = this.#lastLook?.startedAt === startedAt ? this.#lastLook : { at: startedAt, cpuMs: 0 };
    this.#lastLook = { startedAt, at, cpuMs };
    return {
      state,
      uptime: at - startedAt,
      memory: { used: memory, limit: limits.memory },
      cpu: { time: cpuMs, share: at > last.at ? (cpuMs - last.cpuMs) / (at - last.at) : 0, limit: limits.cpus },
      processes: { count: pids, limit: limits.pids },
      ...(disk !== undefined && { disk }),
    };
  }

  /**
   * Runs a command and waits for its end.
   * @param command - a string is run by `/bin/sh -c`; an array is started as it is, without a shell
   * @returns also for a command that fails: look at `exitCode`, which is `null` when a signal ended it
   * @throws {SandboxDiedError} the container ended meanwhile
   * @example const { stdout } = await sandbox.exec(['git', 'status', '--short'], { timeout: 10_000 });
   */
  exec(command: Command, options?: ExecOptions): Promise<ExecResult> {
    return exec(this.#place, command, options);
  }

  /**
   * Starts a command and hands it back. A reader that stops does not stop the process for long: one that falls 64 MiB
   * behind gets an error in place of the bytes that are no longer kept.
   * @example
   * await using server = await sandbox.spawn('npm run dev');
   * for await (const chunk of server.stdout) process.stdout.write(chunk);
   */
  spawn(command: Command, options?: ExecOptions): Promise<Process> {
    return spawn(this.#place, command, options);
  }

  /**
   * Follows a process that was started before, also by an earlier host process: `processes()` has the ids.
   * @param options.stdout - byte of the output to begin with, from 0. Default: 0
   */
  attach(processId: string, options?: AttachOptions): Promise<Process> {
    return attach(this.#place, processId, options);
  }

  /**
   * Opens a terminal, with a shell or another program on it.
   * @example
   * await using terminal = await sandbox.pty({ cols: 80, rows: 24 });
   * terminal.output.pipe(process.stdout);
   * await terminal.write('top\r');
   */
  pty(options: PtyOptions): Promise<Pty> {
    return openPty(this.#place, options);
  }

  /**
   * A further view of a terminal that was opened before, also by an earlier host process. It begins with the screen as it
   * is, and goes on with what follows: also a terminal that has ended can be looked at.
   * @param options.size - becomes that of the terminal first, for all views. Default: as it is
   * @param options.from - byte of the output to begin with, from 0, in place of the screen. Default: the screen
   * @example (await sandbox.attachPty(id, { size: { cols: 80, rows: 24 } })).output.pipe(process.stdout);
   */
  attachPty(ptyId: string, options?: AttachPtyOptions): Promise<Pty> {
    return attachPty(this.#place, ptyId, options);
  }

  /**
   * What runs, or has left something running; the oldest first.
   * @param options.all - also those of which only the end and the output are kept: the 1,024 that ended last, also before a
   * stop. Default: false
   * @example for (const { id, command, end } of await sandbox.processes({ all: true })) console.log(id, command, end);
   */
  async processes(given: { all?: boolean } = {}): Promise<ProcessInfo[]> {
    const { all } = check('processes', processesOptions, given);
    const listed = await listProcesses(await this.#open());
    return all ? listed : listed.filter(({ state, pids }) => state === 'running' || pids.length > 0);
  }

  /**
   * Opens a session, with a name for people: its commands end with it. With a key that has one open, it is that one, as its
   * `env` and `user` were then; `cwd` is of each who asks.
   * @example
   * // Also in a later process, when the first was killed: the command is joined, or its result is there.
   * const session = await sandbox.session({ key: 'nightly' });
   * const { exitCode } = await session.exec('make test', { key: 'test' });
   */
  async session(given: string | SessionOptions = {}): Promise<Session> {
    const options = typeof given === 'string' ? { name: given } : given;
    const { key, name, cwd = '.', env, user } = check('session', sessionOptions, options);
    const sessionId = `s_${key === undefined ? randomBytes(8).toString('hex') : hash(key).slice(0, 16)}`;
    const place = { ...this.#place, sessionId, cwd: resolvePath(this.cwd, cwd) };
    const wire = await this.#open();
    try {
      await wire.call(
        {
          type: 'session.open',
          sessionId,
          env,
          cwd: place.cwd,
          ...(user !== undefined && { user }),
        },
        'ok',
      );
    } catch (error) {
      throw requestError(error, 'open a session');
    }
    return new Session(place, name ?? sessionId, async () => {
      try {
        await (await this.#open()).call({ type: 'session.close', sessionId }, 'ok');
      } catch (error) {
        // With the sandbox everything in it has ended.
        if (!(error instanceof SandboxDiedError)) throw requestError(error, 'close a session');
      }
    });
  }

  /**
   * Freezes all that runs, until `resume`. Calls that are under way wait for that; new ones fail with
   * `SandboxPausedError`.
   */
  async pause(): Promise<void> {
    await using _lock = await this.#state.lockFrozen(this.id);
    await this.#change(() => this.#engine.pause(this.#container.id));
    this.#pause.isOn = true;
  }

  /** One that is not paused is no error. */
  async resume(): Promise<void> {
    await using _lock = await this.#state.lockFrozen(this.id);
    await this.#change(() => this.#engine.resume(this.#container.id));
    this.#pause.isOn = false;
  }

  /** Ends all that runs: SIGTERM, and after 2 s SIGKILL to what is left. The files stay, for `start`. */
  async stop(): Promise<void> {
    // What is frozen could not end by itself.
    if (await this.#isPaused()) await this.resume();
    const asked = this.#open().then((wire) => wire.call({ type: 'shutdown' }, 'ok'));
    try {
      await Promise.race([asked, rejection(AbortSignal.timeout(endPatienceMs))]);
      await this.#engine.ended(this.#container.id, AbortSignal.timeout(stopGraceMs + endPatienceMs));
    } catch {
      // It does not listen, or is not as fast as it should be.
      await this.#change(() => this.#engine.stop(this.#container.id));
    }
  }

  /**
   * Starts a stopped or dead sandbox again, with its files. One that runs is left as it is.
   * @throws {SandboxPausedError} it is to be resumed
   */
  async start(): Promise<void> {
    if (await this.#isPaused()) throw new SandboxPausedError({ sandboxId: this.id });
    await this.#change(() => this.#engine.start(this.#container.id));
    await this.#open();
  }

  /** Removes the sandbox with its files; what waits for it gets `SandboxDiedError`. Twice is once. */
  async remove(): Promise<void> {
    await this.#disconnect(new SandboxDiedError({ sandboxId: this.id, reason: 'removed' }));
    await this.#engine.remove(this.#container.id);
    await this.#onRemove();
  }

  /** As `remove`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  /** Closes the connection; the sandbox lives on. @internal */
  close(): Promise<void> {
    return this.#disconnect(new WireClosedError({ sandboxId: this.id }));
  }

  /** Somebody else may have removed it. */
  async #change(change: () => Promise<void>): Promise<void> {
    try {
      this.#changes++;
      await change();
      this.#changes++;
    } catch (error) {
      const isGone = error instanceof EngineError && error.meta.engineStatus === 404;
      throw isGone ? new SandboxNotFoundError({ sandboxId: this.id }) : error;
    }
  }

  async #disconnect(reason: Error): Promise<void> {
    this.#letGo = reason;
    for (const unfollow of this.#unfollow.splice(0)) unfollow();
    const opening = this.#wire;
    this.#wire = Promise.reject(reason);
    this.#wire.catch(() => {}); // told to those who use it
    this.#onClose();
    this.#gateway?.close();
    await Promise.all([...this.#exposed].map((exposed) => exposed.close()));
    this.#closing.abort(reason);
    await (await opening?.catch(() => undefined))?.end(reason);
  }

  async #open(): Promise<Wire> {
    // To be paused is rare, and others may have resumed it: then there is time to look again.
    if (this.#pause.isOn && (await this.#isPaused())) throw new SandboxPausedError({ sandboxId: this.id });
    if (!this.#wire) {
      const wire = this.#connect();
      this.#wire = wire;
      // The next call may have more luck. It may have begun to try while it was looked for why this one failed.
      wire.catch(() => {
        if (this.#wire === wire) this.#wire = undefined;
      });
    }
    return this.#wire;
  }

  async #connect(): Promise<Wire> {
    try {
      if (this.#unfollow.length === 0) {
        this.#unfollow.push(
          this.#watch.follow(this.#container.id, (change) => this.#onChange(change)),
          this.#state.followNetwork(this.id, this.#onNetwork),
        );
      }
      const run = new AbortController();
      this.#run = run;
      const { signal } = this.#closing;
      this.#onConnect();
      const stream = await this.#engine.connect(this.#container, this.#state.wireDirectory(this.id), signal);
      const wire = await Wire.open(stream, {
        signal,
        sandboxId: this.id,
        privateKey: this.#state.privateKey,
        explainEnd: (cause) => this.#explainEnd(cause, run.signal),
        rejoin: {
          connect: () => this.#engine.reconnect(this.#container, this.#state.wireDirectory(this.id)),
          state: () => this.#engineState(),
          ended: run.signal,
        },
      });
      // What is in the way of that inside must not keep anybody out: programs reach nothing then, and `setNetwork` says why.
      await this.#serveNetwork(wire).catch(() => {});
      return wire;
    } catch (error) {
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      if (!(error instanceof ContainerStartError)) throw error;
      const end = await this.#whyEnded();
      throw end ? new SandboxDiedError({ sandboxId: this.id, ...end }, { cause: error }) : error;
    }
  }

  /** Lets programs go out through this connection, as the policy says that the sandbox has now. */
  async #serveNetwork(wire: Wire): Promise<void> {
    const kept = this.#state.network(this.id);
    // Who set it has its secrets, and goes before others.
    const takesOver = this.#network !== undefined && this.#network.stamp === kept?.stamp;
    const policy = takesOver ? this.#network?.policy : kept && v.parse(networkPolicy, kept.policy);
    if (!policy && !this.#gateway) return;
    this.#gateway ??= new Gateway(
      wire,
      this.#outside,
      (name) => placeholder(this.#state.privateKey, this.id, name),
      (decision) => {
        for (const listener of this.#networkListeners) listener(decision);
      },
    );
    await this.#gateway.set(policy, { takesOver });
  }

  readonly #onNetwork = async (): Promise<void> => {
    const wire = await this.#wire;
    if (wire?.isOpen) await this.#serveNetwork(wire); // else it is looked at when that is opened
  };

  #onChange(change: Change): void {
    if (change === 'end' || change === 'remove') this.#run.abort();
    // When the engine does not answer, nothing is known, and the next change is looked at.
    else if (change !== 'oom') void this.#isPaused().catch(() => {});
  }

  /** Asks the engine. */
  async #isPaused(): Promise<boolean> {
    if (!(await this.#isFrozen())) return false;
    // Perhaps to make a fork, and thawed at once.
    await using _lock = await this.#state.lockFrozen(this.id);
    return await this.#isFrozen();
  }

  async #isFrozen(): Promise<boolean> {
    const before = ++this.#changes;
    const state = (await this.#engine.inspect(this.#container.id))?.state;
    if (this.#changes === before) this.#pause.isOn = state === 'paused';
    if (state !== 'running' && state !== 'paused') this.#run.abort();
    return state === 'paused';
  }

  async #engineState(): Promise<'running' | 'paused' | 'ended'> {
    const state = (await this.#engine.inspect(this.#container.id))?.state;
    return state === 'running' || state === 'paused' ? state : 'ended';
  }

  async #explainEnd(cause: Error | undefined, run: AbortSignal): Promise<Error> {
    // What we closed it for, or what the other side did wrong.
    const isResumeFailure = cause instanceof WireResumeError;
    if (cause instanceof BerthError && !isResumeFailure && !(cause instanceof EngineError)) return cause;
    // The next call connects again: somebody may start it meanwhile.
    this.#wire = undefined;
    this.#gateway?.close();
    this.#gateway = undefined;
    const options = cause && { cause };
    if (isResumeFailure) {
      if (cause.meta.reason === 'expired') return cause;
      return new SandboxDiedError({ sandboxId: this.id, reason: 'restarted' }, options);
    }
    await this.#endOf(run);
    // It may have gone with the engine. It ended, and runs: somebody started it again.
    const end = await this.#whyEnded().then(
      (found) => found ?? (run.aborted ? ({ reason: 'restarted' } as const) : undefined),
      () => (run.aborted ? ({ reason: 'lost' } as const) : undefined),
    );
    // Of all else only that the connection is gone is known.
    if (!end) return new WireClosedError({ sandboxId: this.id }, options);
    return new SandboxDiedError({ sandboxId: this.id, ...end }, options);
  }

  /** A connection is gone before the engine says that the container is. Resolves then, or after some time. */
  async #endOf(run: AbortSignal): Promise<void> {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), endPatienceMs);
    run.addEventListener('abort', () => patience.abort(), { once: true });
    if (run.aborted) patience.abort();
    await this.#engine.ended(this.#container.id, patience.signal).catch(() => {}); // looked at by who asked
    clearTimeout(timer);
  }

  /** `undefined`: it runs. */
  async #whyEnded(): Promise<SandboxEnd | undefined> {
    const details = await this.#engine.inspect(this.#container.id);
    if (!details) return { reason: 'removed' };
    return whyEnded(details);
  }
}

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
}

/** `undefined`: it did not end. */
function whyEnded({ state, end }: ContainerDetails): SandboxEnd | undefined {
  if (state === 'removing') return { reason: 'removed' };
  if (state !== 'exited' || !end) return undefined;
  const { exitCode, killedBy } = end;
  if (exitCode === 137) {
    const reasons = { stop: 'stopped', kill: 'killed', memory: 'oom' } as const;
    return { reason: killedBy ? reasons[killedBy] : 'killed', exitCode };
  }
  // No code of a program: what the engine writes when it starts, and what it had running runs no more.
  if (exitCode === 255) return { reason: 'lost', exitCode };
  for (const reason of ['stopped', 'idle', 'expired'] as const) {
    if (exitCode === endCodes[reason]) return { reason, exitCode };
  }
  return { reason: 'exited', exitCode };
}

export function toInfo(container: Container | ContainerDetails, stateDir: StateDir): SandboxInfo {
  const { state, createdAt, labels } = container;
  const id = labels[sandboxLabel] ?? '';
  const own = Object.entries(labels)
    .filter(([name]) => name.startsWith(userLabelPrefix) || workLabels.has(name))
    .map(([name, value]) => [workLabels.has(name) ? name : name.slice(userLabelPrefix.length), value]);
  const end = 'limits' in container ? whyEnded(container) : undefined;
  return {
    id,
    state,
    ...(end && { end }),
    image: labels[imageLabel] ?? container.image,
    createdAt: labels[createdLabel] === undefined ? createdAt : new Date(labels[createdLabel]),
    labels: Object.fromEntries(own),
    ...(labels[keyLabel] !== undefined && { key: labels[keyLabel] }),
    ...('limits' in container && { limits: container.limits, unlimited: container.unlimited }),
    network: stateDir.network(id)?.policy ?? 'none',
  };
}
