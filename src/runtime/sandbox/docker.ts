import * as v from 'valibot';
import { SandboxDiedError, SandboxPausedError, SandboxRequestError } from '../../sandbox/errors.ts';
import type { CreateOptions, GrepOptions, Sandbox, SandboxHost, Session } from '../../sandbox/index.ts';
import { check, createOptions, forkLabel, instanceLabel, keepLabel, runLabel } from '../../sandbox/options.ts';
import { SandboxGoneError } from '../errors.ts';
import type {
  CheckpointRequest,
  EnvExecOptions,
  FilesCheckpoint,
  ForkRequest,
  GlobOptions,
  SandboxEnv,
  SandboxFactory,
  SandboxFork,
  WorkOutcome,
} from './env.ts';
import { filesRoot } from './files-root.ts';

/** Options of a sandbox, but for its id, key and signal: each run and agent instance has one of its own. */
export interface DockerOptions extends Omit<CreateOptions, 'id' | 'key' | 'signal'> {
  /**
   * `true`: the sandbox stays when its run has ended, with its files; only its processes end then. `'on-failure'`: unless the
   * run is completed or cancelled; also that of a process which was killed. Default: false. That of an agent instance whose
   * store is a file stays in any case, and that of a run in such a store until the run has ended
   */
  keep?: boolean | 'on-failure';
}

const dockerOptions = v.strictObject({
  ...v.omit(createOptions, ['id', 'key', 'signal']).entries,
  keep: v.optional(v.union([v.boolean(), v.literal('on-failure')])),
});

/** Where `idleTimeout` is not given: nobody may ever ask for it again. */
const defaultIdleMs = 30 * 60 * 1000;

/**
 * A container for each run and agent instance: the boundary. Each harness is a session in it, with a process tree, an
 * environment and a directory of its own; its processes end with it. That of an agent instance, or of a run that was
 * interrupted, is found again, in later processes too, for as long as it is there; when nobody works in it, it stops after
 * `idleTimeout`, by default 30 minutes, and is started with its files when it is asked for.
 * @throws {InvalidOptionsError} an option is not known, or not of its type
 * @throws {SandboxKeyConflictError} it was made with other options: when it is asked for again
 * @throws {SandboxGoneError} that of interrupted work is not there: when that goes on
 */
export function docker(options: DockerOptions = {}): SandboxFactory {
  check('docker', dockerOptions, options);
  const { keep = false, ...create } = options;
  const secrets = typeof create.network === 'object' ? (create.network.secrets ?? []) : [];
  return {
    secrets: secrets.map(({ value }) => value),
    async createSandbox(request) {
      const { kind, id, key, resume, signal } = request;
      signal.throwIfAborted();
      const ofAgent = kind === 'agent';
      const { idleTimeout = defaultIdleMs } = create;
      const labels = {
        ...create.labels,
        ...(ofAgent ? { [instanceLabel]: `${request.agent}/${id}` } : { [runLabel]: id }),
      };
      // Without it `gc` removes what goes with its work, when the process has died.
      const kept = (value: boolean | 'on-failure') => (value ? { [keepLabel]: String(value) } : {});
      const asked = {
        ...create,
        // Also where the sandbox is there, and had another one.
        network: create.network ?? 'none',
        idleTimeout,
        labels: { ...labels, ...kept(keep || request.isDurable) },
      };
      const host = await request.host();
      const family: Family = {
        host,
        idleTimeout,
        ofForks: { ...asked, labels: { ...labels, ...kept(request.isDurable), [forkLabel]: key } },
        gone: (reason) => new SandboxGoneError({ kind, id, reason }),
        tell: ({ id: sandboxId }, kind) => request.onEvent({ sandboxId, kind }),
        observe: (sandbox) => {
          family.tell(sandbox, sandbox.isNew ? 'created' : 'found');
          sandbox.observeNetwork((decision) =>
            request.onEvent({ sandboxId: sandbox.id, kind: 'network', ...decision }),
          );
        },
      };
      /** Removes the forks of work that was interrupted and has not gone on. */
      const removeForks = async () => {
        const left = await host.list({ labels: { [forkLabel]: key } });
        await Promise.all(left.map((fork) => host.remove(fork.id)));
      };
      const sandbox = await (resume
        ? host.findByKey(key, { ...asked, signal })
        : host.create({ ...asked, key, signal }));
      if (!sandbox) {
        await removeForks();
        throw family.gone('somebody removed it, or it was never finished');
      }
      family.observe(sandbox);
      const end = async (session: Session, outcome: WorkOutcome | undefined) => {
        if (outcome === 'left') return sandbox.close();
        if (outcome === 'suspended') return suspend(sandbox);
        // That of an instance which goes on is left as it is.
        const isOver = !ofAgent || outcome !== undefined;
        const isKept = keep === true || (keep === 'on-failure' && outcome === 'failed');
        if (resume) await removeForks();
        if (isOver && !isKept) {
          await sandbox.remove(); // with all that runs in it
          return family.tell(sandbox, 'removed');
        }
        try {
          await session.close();
        } finally {
          await sandbox.close();
        }
        if (isOver) family.tell(sandbox, 'kept');
      };
      try {
        signal.throwIfAborted();
        if (!resume && !sandbox.isNew) await removeForks();
        const session = await sandbox.session({ key });
        const env = new DockerEnv(session, sandbox, { key, cwd: session.cwd, family }, end);
        if (!ofAgent) env.keepAwake();
        return env;
      } catch (error) {
        await (sandbox.isNew ? sandbox.remove() : sandbox.close()).catch(() => {}); // the first error is the one to report
        throw error;
      }
    },
  };
}

/** What runs in it goes on; when there is nothing, it need not run either until it is asked for again. */
async function suspend(sandbox: Sandbox): Promise<void> {
  try {
    if ((await sandbox.processes()).length === 0) await sandbox.stop();
  } catch (error) {
    // Whoever asks for it next resumes or starts it.
    if (!(error instanceof SandboxPausedError || error instanceof SandboxDiedError)) throw error;
  } finally {
    await sandbox.close();
  }
}

/** What the sandbox of a run or an agent instance has in common with its forks. */
interface Family {
  host: SandboxHost;
  /** Milliseconds. */
  idleTimeout: number;
  /** The options of forks, but for their keys. */
  ofForks: Omit<CreateOptions, 'id' | 'key' | 'signal'>;
  gone: (reason: string) => SandboxGoneError;
  tell: (sandbox: Sandbox, kind: 'created' | 'found' | 'kept' | 'removed') => void;
  /** Tells of it from now on. */
  observe: (sandbox: Sandbox) => void;
}

/** What all environments in one sandbox have in common. */
interface Origin {
  /** Of the sandbox. */
  key: string;
  /** Of the sandbox. */
  cwd: string;
  family: Family;
}

/** Ends the sandbox, or what was started in it and the connection to it. */
type End = (session: Session, outcome: WorkOutcome | undefined) => Promise<void>;

class DockerEnv implements SandboxEnv {
  readonly session: Session;
  readonly #sandbox: Sandbox;
  readonly #origin: Origin;
  readonly #end: End | undefined;
  readonly #awake = new Set<NodeJS.Timeout>();
  #closing: Promise<void> | undefined;

  /** @param end - left out for child harnesses */
  constructor(session: Session, sandbox: Sandbox, origin: Origin, end?: End) {
    this.session = session;
    this.#sandbox = sandbox;
    this.#origin = origin;
    this.#end = end;
  }

  get cwd(): string {
    return this.session.cwd;
  }

  resolvePath(path: string): string {
    return this.session.fs.resolve(path);
  }

  async exec(command: string, { timeoutMs = Number.POSITIVE_INFINITY, ...options }: EnvExecOptions = {}) {
    const timeout = Math.ceil(timeoutMs);
    // The wire has no longer ones: after 24 days is taken for never, which is late but not early.
    const result = await this.session.exec(command, { ...options, ...(timeout < 2 ** 31 && { timeout }) });
    return result.timedOut ? { ...result, exitCode: 124, signal: null } : result;
  }

  spawn(command: readonly string[], options?: { cwd?: string; env?: Record<string, string> }) {
    return this.session.spawn(command, { ...options, backpressure: true, maxOutput: 0 });
  }

  readFile(path: string) {
    return this.session.fs.readFile(path);
  }

  readFileBuffer(path: string) {
    return this.session.fs.readFileBuffer(path);
  }

  createReadStream(path: string, options?: { start?: number; end?: number }) {
    return this.session.fs.createReadStream(path, options);
  }

  realpath(path: string) {
    return this.session.fs.realpath(path);
  }

  writeFile(path: string, content: string | Uint8Array) {
    return this.session.fs.writeFile(path, content);
  }

  async stat(path: string) {
    const { kind, size, modified } = await this.session.fs.stat(path);
    return { isFile: kind === 'file', isDirectory: kind === 'directory', size, mtime: modified };
  }

  readdir(path: string) {
    return this.session.fs.readdir(path);
  }

  exists(path: string) {
    return this.session.fs.exists(path);
  }

  mkdir(path: string, options?: { recursive?: boolean }) {
    return this.session.fs.mkdir(path, options);
  }

  rm(path: string, options?: { recursive?: boolean; force?: boolean }) {
    return this.session.fs.rm(path, options);
  }

  glob(pattern: string, options?: GlobOptions) {
    return this.session.fs.glob(pattern, options);
  }

  grep(pattern: string, options?: GrepOptions) {
    return this.session.fs.grep(pattern, options);
  }

  async open({
    name,
    cwd = this.cwd,
    env,
  }: {
    name?: string;
    cwd?: string;
    env?: Record<string, string>;
  } = {}): Promise<SandboxEnv> {
    const session = await this.#sandbox.session({
      ...(name !== undefined && { key: `${this.#origin.key}/${name}` }),
      cwd: this.resolvePath(cwd),
      ...(env && { env }),
    });
    return new DockerEnv(session, this.#sandbox, this.#origin);
  }

  async isGone(): Promise<boolean> {
    try {
      // The sandbox may have been started anew by somebody, without this session. A program that is not there is an answer.
      await this.session.exec(['true'], { cwd: '/' });
      return false;
    } catch (error) {
      // Whatever else it is, another session says it, or does without it.
      return !(error instanceof SandboxPausedError);
    }
  }

  keepAwake(): () => void {
    if (!this.#end) return () => {};
    // A model may think for longer than that, without a command being run.
    const timer = setInterval(
      () => void this.session.fs.exists('.').catch(() => {}),
      this.#origin.family.idleTimeout / 3,
    );
    this.#awake.add(timer);
    return () => {
      clearInterval(timer);
      this.#awake.delete(timer);
    };
  }

  async fork({ names, resume, signal }: Omit<ForkRequest, 'root'>): Promise<SandboxFork[]> {
    const { key, family } = this.#origin;
    const keys = names.map((name) => `${key}/${name}`);
    const forks = await (resume ? this.#findForks(keys, signal) : this.#makeForks(names, keys, signal));
    try {
      return await Promise.all(
        forks.map(async (fork, index) => {
          const [name = '', ownKey = ''] = [names[index], keys[index]];
          const session = await fork.session({ key: ownKey, cwd: this.cwd });
          const env = new ForkedDockerEnv(session, fork, { ...this.#origin, key: ownKey }, name, this.#sandbox);
          family.observe(fork);
          env.keepAwake();
          return env;
        }),
      );
    } catch (error) {
      await Promise.all(forks.map((fork) => (resume ? fork.close() : fork.remove()).catch(() => {}))); // as above
      throw error;
    }
  }

  async #findForks(keys: readonly string[], signal: AbortSignal): Promise<Sandbox[]> {
    const { host, ofForks, gone } = this.#origin.family;
    const found = await Promise.all(keys.map((key) => host.findByKey(key, { ...ofForks, signal })));
    const forks = found.flatMap((fork) => fork ?? []);
    if (forks.length === keys.length) return forks;
    await Promise.all(forks.map((fork) => fork.close()));
    throw gone('somebody removed a fork of it');
  }

  async #makeForks(names: readonly string[], keys: readonly string[], signal: AbortSignal): Promise<Sandbox[]> {
    const { host, ofForks } = this.#origin.family;
    const root = filesRoot(this.#origin.cwd, this.cwd);
    // What is changed here between this and the fork is taken for a conflict, the other way round it would be lost.
    for (const name of names) await this.#sandbox.fs.checkpoint(name, root, { signal });
    const make = () => host.fork(this.#sandbox, { keys, options: ofForks, signal });
    let forks = await make();
    if (forks.some(({ isNew }) => !isNew)) {
      // What an interrupted call has left has the files of then.
      await Promise.all(forks.map((fork) => fork.remove()));
      forks = await make();
    }
    try {
      await Promise.all(forks.map((fork, index) => fork.fs.checkpoint(names[index] ?? '', root, { signal })));
      return forks;
    } catch (error) {
      await Promise.all(forks.map((fork) => fork.remove().catch(() => {}))); // the first error is the one to report
      throw error;
    }
  }

  async checkpoint({ name, resume, signal }: Omit<CheckpointRequest, 'root'>): Promise<FilesCheckpoint> {
    const { fs } = this.#sandbox;
    const { cwd, family } = this.#origin;
    if (!resume) await fs.checkpoint(name, filesRoot(cwd, this.cwd), { copy: true, signal });
    return {
      async rollback(options) {
        try {
          await fs.rollback(name, options);
        } catch (error) {
          if (!(error instanceof SandboxRequestError) || error.meta.reason !== 'unknown_checkpoint') throw error;
          throw family.gone('the files of a checkpoint are no longer kept');
        }
      },
      drop: () => fs.dropCheckpoint(name),
    };
  }

  close(outcome?: WorkOutcome): Promise<void> {
    this.#closing ??= this.#close(outcome);
    return this.#closing;
  }

  async #close(outcome: WorkOutcome | undefined): Promise<void> {
    for (const timer of this.#awake) clearInterval(timer);
    if (this.#end) await this.#end(this.session, outcome);
    else if (outcome !== 'suspended' && outcome !== 'left') await this.session.close();
  }
}

class ForkedDockerEnv extends DockerEnv implements SandboxFork {
  readonly land: SandboxFork['land'];

  /** @param name - of the checkpoints from which on both have changed */
  constructor(session: Session, fork: Sandbox, origin: Origin, name: string, parent: Sandbox) {
    super(session, fork, origin, async (_session, outcome) => {
      if (outcome === 'left') return fork.close();
      if (outcome === 'suspended') return suspend(fork);
      await fork.remove();
      origin.family.tell(fork, 'removed');
      await parent.fs.dropCheckpoint(name).catch(() => {}); // a parent that is gone has none
    });
    this.land = ({ signal }) => parent.fs.land(name, fork.fs.packChanges(name, { signal }), { signal });
  }
}
