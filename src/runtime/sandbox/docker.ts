import * as v from 'valibot';
import { SandboxPausedError } from '../../sandbox/errors.ts';
import type { CreateOptions, GrepOptions, Sandbox, Session } from '../../sandbox/index.ts';
import { check, createOptions, instanceLabel, keepLabel, runLabel } from '../../sandbox/options.ts';
import type { EnvExecOptions, GlobOptions, SandboxEnv, SandboxFactory, WorkOutcome } from './env.ts';

/** Options of a sandbox, but for its id, key and signal: each run and agent instance has one of its own. */
export interface DockerOptions extends Omit<CreateOptions, 'id' | 'key' | 'signal'> {
  /**
   * `true`: the sandbox stays when its run has ended, with its files; only its processes end then. `'on-failure'`: unless the
   * run is completed or cancelled; also that of a process which was killed. Default: false. That of an agent instance whose
   * store is a file stays in any case
   */
  keep?: boolean | 'on-failure';
}

const dockerOptions = v.strictObject({
  ...v.omit(createOptions, ['id', 'key', 'signal']).entries,
  keep: v.optional(v.union([v.boolean(), v.literal('on-failure')])),
});

/** Of that of an agent instance, where `idleTimeout` is not given: nobody may ever ask for it again. */
const instanceIdleMs = 30 * 60 * 1000;

/**
 * A container for each run and agent instance: the boundary. Each harness is a session in it, with a process tree, an
 * environment and a directory of its own; its processes end with it. That of an agent instance is found again, in later
 * processes too, for as long as it is there; it stops after `idleTimeout`, by default 30 minutes, and is started with its
 * files for the next message.
 * @throws {InvalidOptionsError} an option is not known, or not of its type
 * @throws {SandboxKeyConflictError} that of the instance was made with other options: when it is asked for
 */
export function docker(options: DockerOptions = {}): SandboxFactory {
  check('docker', dockerOptions, options);
  const { keep = false, ...create } = options;
  const secrets = typeof create.network === 'object' ? (create.network.secrets ?? []) : [];
  return {
    secrets: secrets.map(({ value }) => value),
    async createSandbox(request) {
      const { signal } = request;
      signal.throwIfAborted();
      const ofAgent = request.kind === 'agent';
      const idleTimeout = create.idleTimeout ?? (ofAgent ? instanceIdleMs : undefined);
      const sandbox = await (await request.host()).create({
        ...create,
        // Also where the sandbox is there, and had another one.
        network: create.network ?? 'none',
        ...(ofAgent && { key: request.key }),
        ...(idleTimeout !== undefined && { idleTimeout }),
        labels: {
          ...create.labels,
          ...(ofAgent ? { [instanceLabel]: `${request.agent}/${request.id}` } : { [runLabel]: request.id }),
          // Without it `gc` removes what goes with its work, when the process has died.
          ...((keep || request.isDurable) && { [keepLabel]: String(keep || true) }),
        },
        signal,
      });
      const tell = (kind: 'created' | 'found' | 'kept' | 'removed') => request.onEvent({ sandboxId: sandbox.id, kind });
      tell(sandbox.isNew ? 'created' : 'found');
      sandbox.observeNetwork((decision) => request.onEvent({ sandboxId: sandbox.id, kind: 'network', ...decision }));
      const end = async (session: Session, outcome: WorkOutcome | undefined) => {
        // That of an instance which goes on is left as it is.
        const isOver = !ofAgent || outcome !== undefined;
        const isKept = keep === true || (keep === 'on-failure' && outcome === 'failed');
        if (isOver && !isKept) {
          await sandbox.remove(); // with all that runs in it
          return tell('removed');
        }
        try {
          await session.close();
        } finally {
          await sandbox.close();
        }
        if (isOver) tell('kept');
      };
      try {
        signal.throwIfAborted();
        const env = new DockerEnv(await sandbox.session(), sandbox, { idleTimeout, end });
        if (!ofAgent) env.keepAwake();
        return env;
      } catch (error) {
        await (sandbox.isNew ? sandbox.remove() : sandbox.close()).catch(() => {}); // the first error is the one to report
        throw error;
      }
    },
  };
}

interface Root {
  /** Milliseconds. */
  idleTimeout: number | undefined;
  /** Ends the sandbox, or what was started here and the connection to it. */
  end: (session: Session, outcome: WorkOutcome | undefined) => Promise<void>;
}

class DockerEnv implements SandboxEnv {
  readonly session: Session;
  readonly #sandbox: Sandbox;
  /** Left out for child harnesses. */
  readonly #root: Root | undefined;
  readonly #awake = new Set<NodeJS.Timeout>();

  constructor(session: Session, sandbox: Sandbox, root?: Root) {
    this.session = session;
    this.#sandbox = sandbox;
    this.#root = root;
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

  async open({ cwd = this.cwd, env }: { cwd?: string; env?: Record<string, string> } = {}): Promise<SandboxEnv> {
    const session = await this.#sandbox.session({ cwd: this.resolvePath(cwd), ...(env && { env }) });
    return new DockerEnv(session, this.#sandbox);
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
    const { idleTimeout } = this.#root ?? {};
    if (idleTimeout === undefined) return () => {};
    // A model may think for longer than that, without a command being run.
    const timer = setInterval(() => void this.session.fs.exists('.').catch(() => {}), idleTimeout / 3);
    this.#awake.add(timer);
    return () => {
      clearInterval(timer);
      this.#awake.delete(timer);
    };
  }

  async close(outcome?: WorkOutcome): Promise<void> {
    for (const timer of this.#awake) clearInterval(timer);
    await (this.#root ? this.#root.end(this.session, outcome) : this.session.close());
  }
}
