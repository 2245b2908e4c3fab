import * as v from 'valibot';
import { SandboxDiedError, SandboxPausedError } from '../../sandbox/errors.ts';
import type { CreateOptions, GrepOptions, Sandbox, Session } from '../../sandbox/index.ts';
import { check, createOptions, instanceLabel, keepLabel, runLabel } from '../../sandbox/options.ts';
import { SandboxGoneError } from '../errors.ts';
import type { EnvExecOptions, GlobOptions, SandboxEnv, SandboxFactory, WorkOutcome } from './env.ts';

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
      const asked = {
        ...create,
        // Also where the sandbox is there, and had another one.
        network: create.network ?? 'none',
        idleTimeout,
        labels: {
          ...create.labels,
          ...(ofAgent ? { [instanceLabel]: `${request.agent}/${id}` } : { [runLabel]: id }),
          // Without it `gc` removes what goes with its work, when the process has died.
          ...((keep || request.isDurable) && { [keepLabel]: String(keep || true) }),
        },
        signal,
      };
      const host = await request.host();
      const sandbox = await (resume ? host.findByKey(key, asked) : host.create({ ...asked, key }));
      if (!sandbox) throw new SandboxGoneError({ kind, id, reason: 'somebody removed it, or it was never finished' });
      const tell = (kind: 'created' | 'found' | 'kept' | 'removed') => request.onEvent({ sandboxId: sandbox.id, kind });
      tell(sandbox.isNew ? 'created' : 'found');
      sandbox.observeNetwork((decision) => request.onEvent({ sandboxId: sandbox.id, kind: 'network', ...decision }));
      const end = async (session: Session, outcome: WorkOutcome | undefined) => {
        if (outcome === 'left') return sandbox.close();
        if (outcome === 'suspended') return suspend(sandbox);
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
        const env = new DockerEnv(await sandbox.session({ key }), sandbox, key, { idleTimeout, end });
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

interface Root {
  /** Milliseconds. */
  idleTimeout: number;
  /** Ends the sandbox, or what was started here and the connection to it. */
  end: (session: Session, outcome: WorkOutcome | undefined) => Promise<void>;
}

class DockerEnv implements SandboxEnv {
  readonly session: Session;
  readonly #sandbox: Sandbox;
  readonly #key: string;
  /** Left out for child harnesses. */
  readonly #root: Root | undefined;
  readonly #awake = new Set<NodeJS.Timeout>();

  constructor(session: Session, sandbox: Sandbox, key: string, root?: Root) {
    this.session = session;
    this.#sandbox = sandbox;
    this.#key = key;
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
      ...(name !== undefined && { key: `${this.#key}/${name}` }),
      cwd: this.resolvePath(cwd),
      ...(env && { env }),
    });
    return new DockerEnv(session, this.#sandbox, this.#key);
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
    if (!this.#root) return () => {};
    // A model may think for longer than that, without a command being run.
    const timer = setInterval(() => void this.session.fs.exists('.').catch(() => {}), this.#root.idleTimeout / 3);
    this.#awake.add(timer);
    return () => {
      clearInterval(timer);
      this.#awake.delete(timer);
    };
  }

  async close(outcome?: WorkOutcome): Promise<void> {
    for (const timer of this.#awake) clearInterval(timer);
    if (this.#root) await this.#root.end(this.session, outcome);
    else if (outcome !== 'suspended' && outcome !== 'left') await this.session.close();
  }
}
