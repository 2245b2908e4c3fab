import { posix } from 'node:path';
import type { Bash, BashOptions, IFileSystem, NetworkConfig } from 'just-bash';
import { FileError } from '../../sandbox/errors.ts';
import type { GrepOptions, Match } from '../../sandbox/index.ts';
import { resolvePath } from '../../sandbox/path.ts';
import { after } from '../after.ts';
import { Problems } from '../define/checks.ts';
import { SandboxGoneError, SandboxOperationUnsupportedError } from '../errors.ts';
import { LinkedAbort } from '../linked-abort.ts';
import { globMatcher } from '../tools/glob-pattern.ts';
import { sandboxFromDriver } from './driver.ts';
import type {
  CheckpointRequest,
  DriverFork,
  DriverResult,
  EnvExecOptions,
  EnvStat,
  FilesCheckpoint,
  ForkRequest,
  GlobOptions,
  SandboxDriver,
  SandboxFactory,
  WorkOutcome,
} from './env.ts';
import { landTree, readTree, subtree, type Tree, writeTree } from './virtual-tree.ts';

/** Options of `virtual()`. */
export interface VirtualOptions {
  /** Files that are there at the start. Relative paths start at `cwd`. */
  files?: Record<string, string | Uint8Array>;
  /** Variables of every command. */
  env?: Record<string, string>;
  /** Where commands start, absolute; made when it is not there. Default: `/workspace` */
  cwd?: string;
  /** Which URLs `curl` may reach, as `just-bash` takes it. Default: none, and no `curl` */
  network?: NetworkConfig;
  /** Makes the shell of the options that it would get, as for commands of your own. Default: `new Bash(options)` */
  bash?: (options: BashOptions) => Bash | Promise<Bash>;
}

/** Of work that goes on later, maybe with another factory: an agent may make one each time. */
const suspended = new Map<string, Promise<Bash>>();
/** As `suspended`. The key is that of the sandbox, with the name behind it. */
const suspendedForks = new Map<string, Fork>();

/** What a fork is made of, besides its own shell. */
interface Fork {
  bash: Bash;
  /** What both were made of. */
  base: Tree;
}

/** What a shell has besides its files. */
interface Origin {
  kind: 'agent' | 'run';
  id: string;
  key: string;
  /** Another one like it. */
  make: () => Promise<Bash>;
}

/** They tell nothing of the work. */
const ofTheShell = { leftOut: ['dev', 'proc'] };

/**
 * A shell and files in the memory of this process, by `just-bash`: for tests, and for work on texts. It has no real
 * programs, and no network unless asked for. Files are kept for each agent instance as long as the factory, those of a
 * run end with it; those of work that is suspended are there when it goes on in this process. Output is shown when a command
 * has ended; that of one which was cut off is lost. No boundary.
 * @throws {DefinitionError} an option is not known, or not of its type
 */
export function virtual(options: VirtualOptions = {}): SandboxFactory {
  const problems = new Problems('virtual()');
  const record = problems.record(options, '', { known: ['files', 'env', 'cwd', 'network', 'bash'] });
  const { cwd = '/workspace' }: VirtualOptions = record;
  if (typeof cwd !== 'string' || !cwd.startsWith('/')) problems.add('cwd', 'must be an absolute path');
  for (const [path, content] of problems.entries(record.files, 'files')) {
    if (typeof content !== 'string' && !(content instanceof Uint8Array)) {
      problems.add(`files[${JSON.stringify(path)}]`, 'must be a string or bytes');
    }
  }
  for (const [name, value] of problems.entries(record.env, 'env')) {
    if (typeof value !== 'string') problems.add(`env.${name}`, 'must be a string');
  }
  problems.entries(record.network, 'network');
  problems.optional(record.bash, 'bash', (value, path) => problems.function(value, path));
  problems.throwIfAny();
  const kept = new Map<string, Promise<Bash>>();
  return {
    warning:
      'virtual() is no boundary: its shell runs in this process, with its memory and time. Use docker() for a boundary.',
    async createSandbox({ kind, id, key, resume }) {
      const before = kept.get(key) ?? suspended.get(key);
      if (resume && !before) {
        throw new SandboxGoneError({ kind, id, reason: 'it was in the memory of a process that has ended' });
      }
      suspended.delete(key);
      const make = (given: VirtualOptions) => makeBash(given, cwd);
      const bash = before ?? make(options);
      kept.set(key, bash);
      const forget = () => void kept.delete(key);
      bash.catch(forget);
      const dispose = (outcome?: WorkOutcome) => {
        if (outcome === 'suspended') suspended.set(key, bash);
        else if (outcome !== undefined && outcome !== 'left') {
          forget();
          for (const fork of suspendedForks.keys()) if (fork.startsWith(`${key}/`)) suspendedForks.delete(fork);
        }
      };
      const origin = { kind, id, key, make: () => make({ ...options, files: {} }) };
      return sandboxFromDriver(new VirtualDriver(await bash, origin), { cwd, dispose });
    },
  };
}

async function makeBash({ files = {}, env, network, bash }: VirtualOptions, cwd: string): Promise<Bash> {
  const given: BashOptions = {
    cwd,
    files: Object.fromEntries(Object.entries(files).map(([path, content]) => [resolvePath(cwd, path), content])),
    ...(env && { env }),
    ...(network && { network }),
  };
  const { Bash } = await import('just-bash'); // only where it is used: it is large
  const made = bash ? await bash(given) : new Bash(given);
  for (const path of [cwd, '/tmp']) await made.fs.mkdir(path, { recursive: true });
  return made;
}

class VirtualDriver implements SandboxDriver {
  readonly #bash: Bash;
  readonly #fs: IFileSystem;
  readonly #origin: Origin;
  /** Of the changes of whole trees, which are made one after the other. */
  #changed: Promise<unknown> = Promise.resolve();

  constructor(bash: Bash, origin: Origin) {
    this.#bash = bash;
    this.#fs = bash.fs;
    this.#origin = origin;
  }

  async exec(command: string, options: EnvExecOptions = {}): Promise<DriverResult> {
    const { cwd = '/', env = {}, signal, timeoutMs = Number.POSITIVE_INFINITY } = options;
    const { isDirectory } = await this.stat(cwd);
    if (!isDirectory) throw new FileError({ code: 'ENOTDIR', path: cwd, operation: 'run a command in' });
    signal?.throwIfAborted();
    const stop = new LinkedAbort(signal);
    let stopTimer = () => {};
    // It looks at its signal between statements, and what it had written is lost: it is given up at once.
    const givenUp = new Promise<DriverResult>((settle, fail) => {
      stop.signal.addEventListener('abort', () => fail(stop.signal.reason));
      stopTimer = after(timeoutMs, () => {
        settle({ stdout: '', stderr: '', exitCode: 124, timedOut: true });
        stop.abort();
      });
    });
    try {
      const running = this.#bash.exec(command, { cwd, env, rawScript: true, signal: stop.signal });
      const { stdout, stderr, exitCode, timedOut } = await Promise.race<DriverResult>([running, givenUp]);
      return { stdout, stderr, exitCode, ...(timedOut && { timedOut }) };
    } finally {
      stopTimer();
      stop.release();
    }
  }

  readFile(path: string): Promise<string> {
    return withCode(this.#fs.readFile(path));
  }

  readFileBuffer(path: string): Promise<Uint8Array> {
    return withCode(this.#fs.readFileBuffer(path));
  }

  async writeFile(path: string, content: string | Uint8Array): Promise<void> {
    await this.#checkParents(path, 'write');
    if ((await this.exists(path)) && (await this.stat(path)).isDirectory) {
      throw new FileError({ code: 'EISDIR', path, operation: 'write' });
    }
    await withCode(this.#fs.writeFile(path, content));
  }

  async stat(path: string): Promise<EnvStat> {
    const { isFile, isDirectory, size, mtime } = await withCode(this.#fs.stat(path));
    return { isFile, isDirectory, size, mtime };
  }

  readdir(path: string): Promise<string[]> {
    return withCode(this.#fs.readdir(path));
  }

  exists(path: string): Promise<boolean> {
    return this.#fs.exists(path);
  }

  async mkdir(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    await this.#checkParents(path, 'mkdir');
    await withCode(this.#fs.mkdir(path, options));
  }

  async rm(path: string, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    const found = await withCode(this.#fs.lstat(path)).catch((error) => {
      if (!options.force) throw error;
    });
    if (found?.isDirectory && !options.recursive) throw new FileError({ code: 'EISDIR', path, operation: 'rm' });
    await withCode(this.#fs.rm(path, options));
  }

  realpath(path: string): Promise<string> {
    return withCode(this.#fs.realpath(path));
  }

  async glob(pattern: string, { path = '/', limit = 1_000 }: GlobOptions = {}) {
    const matches = globMatcher(pattern);
    const found: { path: string; time: number }[] = [];
    for await (const file of this.#filesBelow(path, '')) if (matches(file.path)) found.push(file);
    found.sort((a, b) => b.time - a.time);
    return { paths: found.slice(0, limit).map((file) => file.path), truncated: found.length > limit };
  }

  async grep(pattern: string, { path = '/', include, literal, limit = 1_000 }: GrepOptions = {}) {
    const { isDirectory } = await this.stat(path);
    // The rg of just-bash: its expressions take time that grows with the text only, and it knows .gitignore.
    const args = ['--json', '--hidden', '--sort', 'path', ...(literal ? ['--fixed-strings'] : []), '-e', pattern];
    const { stdout, stderr, exitCode } = await this.#bash.exec('rg', {
      args: [...args, isDirectory ? '.' : path],
      cwd: isDirectory ? path : '/',
    });
    if (exitCode > 1) throw new Error(`The search failed: ${stderr.trim()}`);
    const isIncluded = include === undefined ? () => true : globMatcher(include);
    const matches: Match[] = [];
    for (const line of stdout.split('\n')) {
      if (line === '') continue;
      const { type, data }: RipgrepLine = JSON.parse(line);
      if (type !== 'match') continue;
      const name = isDirectory ? data.path.text : posix.basename(path);
      if (name.startsWith('.git/') || name.includes('/.git/') || !isIncluded(name)) continue;
      matches.push({ path: name, line: data.line_number, text: data.lines.text.replace(/\n$/, '') });
    }
    return { matches: matches.slice(0, limit), total: matches.length, truncated: matches.length > limit };
  }

  async fork({ names, root, resume, signal }: ForkRequest): Promise<DriverFork[]> {
    const { kind, id, make, key } = this.#origin;
    const keyOf = (name: string) => `${key}/${name}`;
    const forkOf = (fork: Fork, name: string): VirtualFork => {
      const own = { ...this.#origin, key: keyOf(name) };
      const land = (options: { signal: AbortSignal }) => this.#land(fork, root, options.signal);
      return new VirtualFork(fork.bash, own, { land, keep: () => void suspendedForks.set(own.key, fork) });
    };
    if (resume) {
      const reason = 'a fork of it was in the memory of a process that has ended';
      return names.map((name) => {
        const fork = suspendedForks.get(keyOf(name));
        if (!fork) throw new SandboxGoneError({ kind, id, reason });
        suspendedForks.delete(keyOf(name));
        return forkOf(fork, name);
      });
    }
    const all = await readTree(this.#fs, '/', ofTheShell);
    const base = subtree(all, posix.relative('/', root));
    const forks: DriverFork[] = [];
    for (const name of names) {
      signal.throwIfAborted();
      suspendedForks.delete(keyOf(name));
      const bash = await make();
      if (bash.fs === this.#fs) {
        throw new SandboxOperationUnsupportedError({
          operation: 'forks',
          options: ['a bash that gives each the same fs'],
        });
      }
      await writeTree(bash.fs, '/', all, ofTheShell);
      forks.push(forkOf({ bash, base }, name));
    }
    return forks;
  }

  async #land({ bash, base }: Fork, root: string, signal: AbortSignal): Promise<void> {
    const changed = await readTree(bash.fs, root);
    await this.#change(() => landTree(this.#fs, root, { base, changed, signal }));
  }

  async checkpoint({ name, root, resume }: CheckpointRequest): Promise<FilesCheckpoint> {
    const { kind, id } = this.#origin;
    const kept = checkpointsOf(this.#bash);
    if (!resume) kept.set(name, await readTree(this.#fs, root));
    return {
      rollback: async ({ signal }) => {
        const tree = kept.get(name);
        if (!tree) throw new SandboxGoneError({ kind, id, reason: 'the checkpoint is no longer kept' });
        signal.throwIfAborted();
        await this.#change(() => writeTree(this.#fs, root, tree));
      },
      drop: async () => void kept.delete(name),
    };
  }

  #change(work: () => Promise<void>): Promise<void> {
    const changed = this.#changed.then(work);
    this.#changed = changed.catch(() => {}); // who asked for it is told
    return changed;
  }

  /** It would make things below a file, too. */
  async #checkParents(path: string, operation: string): Promise<void> {
    let parent = posix.dirname(path);
    while (parent !== '/' && !(await this.exists(parent))) parent = posix.dirname(parent);
    if (!(await this.stat(parent)).isDirectory) throw new FileError({ code: 'ENOTDIR', path, operation });
  }

  /** Without `.git`; links are not followed. Paths are relative to the first directory. */
  async *#filesBelow(directory: string, prefix: string): AsyncGenerator<{ path: string; time: number }> {
    for (const name of await this.readdir(directory)) {
      if (name === '.git') continue;
      const [at, path] = [posix.join(directory, name), `${prefix}${name}`];
      const found = await withCode(this.#fs.lstat(at));
      if (found.isDirectory) yield* this.#filesBelow(at, `${path}/`);
      else if (found.isFile) yield { path, time: found.mtime.getTime() };
    }
  }
}

class VirtualFork extends VirtualDriver implements DriverFork {
  readonly land: DriverFork['land'];
  readonly #keep: () => void;

  constructor(bash: Bash, origin: Origin, { land, keep }: { land: DriverFork['land']; keep: () => void }) {
    super(bash, origin);
    this.land = land;
    this.#keep = keep;
  }

  dispose(outcome?: WorkOutcome): void {
    if (outcome === 'suspended') this.#keep();
  }
}

/** As long as the shell itself. */
const checkpoints = new WeakMap<Bash, Map<string, Tree>>();

function checkpointsOf(bash: Bash): Map<string, Tree> {
  const kept = checkpoints.get(bash) ?? new Map<string, Tree>();
  checkpoints.set(bash, kept);
  return kept;
}

interface RipgrepLine {
  type: string;
  data: { path: { text: string }; lines: { text: string }; line_number: number };
}

/** Its errors have the POSIX name at the start of their texts only. */
async function withCode<Result>(operation: Promise<Result>): Promise<Result> {
  try {
    return await operation;
  } catch (error) {
    const [, code] = /^(E[A-Z]+): /.exec(error instanceof Error ? error.message : '') ?? [];
    throw code === undefined ? error : Object.assign(error as Error, { code }); // its text was read
  }
}
