import * as v from 'valibot';
import type { CreateOptions, GrepOptions, Sandbox, Session } from '../../sandbox/index.ts';
import { check, createOptions, runLabel } from '../../sandbox/options.ts';
import type { EnvExecOptions, GlobOptions, SandboxEnv, SandboxFactory } from './env.ts';

/** Options of a sandbox, but for its id, key and signal: each run and agent instance has one of its own. */
export interface DockerOptions extends Omit<CreateOptions, 'id' | 'key' | 'signal'> {
  /** The sandbox stays when its run or agent instance has ended; only its processes end then. Default: false */
  keep?: boolean;
}

const dockerOptions = v.strictObject({
  ...v.omit(createOptions, ['id', 'key', 'signal']).entries,
  keep: v.optional(v.boolean()),
});

/**
 * A container for each run and agent instance: the boundary. Each harness is a session in it, with a process tree, an
 * environment and a directory of its own; its processes end with it.
 * @throws {InvalidOptionsError} an option is not known, or not of its type
 */
export function docker(options: DockerOptions = {}): SandboxFactory {
  check('docker', dockerOptions, options);
  const { keep = false, ...create } = options;
  return {
    async createSandbox({ id, host, signal }) {
      signal.throwIfAborted();
      // The label of what goes with its run also when the process dies: then `gc` removes it.
      const own = keep ? {} : { [runLabel]: id };
      const sandbox = await (await host()).create({ ...create, labels: { ...create.labels, ...own }, signal });
      try {
        signal.throwIfAborted();
        return new DockerEnv(await sandbox.session(), keep ? undefined : sandbox, sandbox);
      } catch (error) {
        await sandbox.remove().catch(() => {}); // the first error is the one to report
        throw error;
      }
    },
  };
}

class DockerEnv implements SandboxEnv {
  readonly session: Session;
  readonly #sandbox: Sandbox;
  /** Removed at the end; left out for child harnesses. */
  readonly #removed: Sandbox | undefined;

  constructor(session: Session, removed: Sandbox | undefined, sandbox: Sandbox) {
    this.session = session;
    this.#removed = removed;
    this.#sandbox = sandbox;
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
    return new DockerEnv(session, undefined, this.#sandbox);
  }

  async close(): Promise<void> {
    // With the sandbox everything in it ends.
    if (this.#removed) await this.#removed.remove();
    else await this.session.close();
  }
}
