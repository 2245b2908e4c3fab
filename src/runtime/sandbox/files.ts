import { addAbortSignal, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { DirectoryEntry, FileStats, FileSystem, GrepOptions, Match, Watch } from '../../sandbox/index.ts';
import { writable } from '../../sandbox/streams.ts';
import { SandboxOperationUnsupportedError } from '../errors.ts';
import { LinkedAbort } from '../linked-abort.ts';
import type { Rest } from '../run/rest.ts';
import type { Step, Steps } from '../run/step.ts';
import type { EnvStat, GlobOptions, SandboxEnv } from './env.ts';

/** What a path names. With `docker()` also all that `FileStats` has. */
export type FileStat = EnvStat & Partial<FileStats>;

/** What belongs to the harness, and not to what runs in it. */
type Checkpoints = 'checkpoint' | 'rollback' | 'packChanges' | 'land' | 'dropCheckpoint';

/**
 * Files of a sandbox. Relative paths resolve against its working directory. With `docker()` all of it is there. In any
 * sandbox are `readFile`, `readFileBuffer`, `writeFile`, `stat`, `readdir`, `exists`, `mkdir` and `rm`, where it has them
 * also `createReadStream`, `realpath`, `glob` and `grep`. Anything else, and options that a sandbox does not have, is
 * refused before any change, with `SandboxOperationUnsupportedError`. What changes files is recorded as a step.
 */
export interface Files extends Omit<FileSystem, 'readFileBuffer' | 'stat' | 'lstat' | 'grep' | Checkpoints> {
  /** The file's bytes, all of them in memory. */
  readFileBuffer(path: string): Promise<Uint8Array>;
  /** What the path names, links followed. */
  stat(path: string): Promise<FileStat>;
  /** As `stat`, of a link itself. */
  lstat(path: string): Promise<FileStat>;
  /** Lines that match. `total` counts all, where the sandbox counts. */
  grep(pattern: string, options?: GrepOptions): Promise<{ matches: Match[]; total?: number; truncated: boolean }>;
}

/** Says that the harness has ended. */
interface Ending {
  /** Throws when the harness has ended. */
  check: () => void;
  /** Aborts when it ends. */
  signal: AbortSignal;
  rest: Rest;
}

/** The files of a harness, or of a session in it. */
export class RecordedFiles implements Files {
  readonly #env: SandboxEnv;
  readonly #steps: Steps;
  readonly #ending: Ending;

  constructor(env: SandboxEnv, steps: Steps, ending: Ending) {
    this.#env = env;
    this.#steps = steps;
    this.#ending = ending;
  }

  resolve(path: string): string {
    return this.#env.resolvePath(path);
  }

  async readFile(path: string): Promise<string> {
    return this.#open().readFile(path);
  }

  async readFileBuffer(path: string): Promise<Uint8Array> {
    return this.#open().readFileBuffer(path);
  }

  async exists(path: string): Promise<boolean> {
    return this.#open().exists(path);
  }

  createReadStream(path: string, options: { start?: number; end?: number } = {}): Readable {
    const env = this.#open();
    if (env.session) return this.#ended(env.session.fs.createReadStream(path, options));
    if (!env.createReadStream) throw unsupported('createReadStream');
    checkOptions('createReadStream', options, ['start', 'end']);
    return this.#ended(Readable.from(env.createReadStream(path, options), { objectMode: false }));
  }

  async stat(path: string): Promise<FileStat> {
    const env = this.#open();
    return env.session ? fileStat(await env.session.fs.stat(path)) : env.stat(path);
  }

  async lstat(path: string): Promise<FileStat> {
    const stats = fileStat(await this.#all('lstat').lstat(path));
    return { ...stats, isSymbolicLink: stats.kind === 'symlink' };
  }

  readdir(path: string, options?: { withStats?: false; signal?: AbortSignal }): Promise<string[]>;
  readdir(path: string, options: { withStats: true; signal?: AbortSignal }): Promise<DirectoryEntry[]>;
  async readdir(path: string, options: object = {}): Promise<string[] | DirectoryEntry[]> {
    const env = this.#open();
    if (env.session) return env.session.fs.readdir(path, options);
    checkOptions('readdir', options, []);
    return env.readdir(path);
  }

  entries(path: string, options?: { withStats?: false; signal?: AbortSignal }): AsyncGenerator<string, void>;
  entries(path: string, options: { withStats: true; signal?: AbortSignal }): AsyncGenerator<DirectoryEntry, void>;
  entries(path: string, options: object = {}): AsyncGenerator<string | DirectoryEntry, void> {
    return this.#all('entries').entries(path, options);
  }

  async readlink(path: string): Promise<string> {
    return this.#all('readlink').readlink(path);
  }

  async realpath(path: string): Promise<string> {
    const { realpath } = this.#open();
    if (!realpath) throw unsupported('realpath');
    return realpath.call(this.#env, path);
  }

  async glob(pattern: string, options: GlobOptions & { signal?: AbortSignal } = {}) {
    const env = this.#open();
    if (env.session) return env.session.fs.glob(pattern, options);
    if (!env.glob) throw unsupported('glob');
    checkOptions('glob', options, ['path', 'limit']);
    return env.glob(pattern, options);
  }

  async grep(pattern: string, options: GrepOptions = {}) {
    const env = this.#open();
    if (env.session) return env.session.fs.grep(pattern, options);
    if (!env.grep) throw unsupported('grep');
    checkOptions('grep', options, ['path', 'include', 'literal', 'limit']);
    return env.grep(pattern, options);
  }

  watch(path: string, { signal, ...options }: { recursive?: boolean; signal?: AbortSignal } = {}): Watch {
    const fs = this.#all('watch');
    const stop = new LinkedAbort(signal, this.#ending.signal);
    stop.signal.addEventListener('abort', () => stop.release(), { once: true });
    return fs.watch(path, { ...options, signal: stop.signal });
  }

  download(path: string, options: { signal?: AbortSignal } = {}): Readable {
    return this.#ended(this.#all('download').download(path, options));
  }

  async writeFile(path: string, content: string | Uint8Array, options: { mode?: number } = {}): Promise<void> {
    const env = this.#open();
    if (!env.session) checkOptions('writeFile', options, []);
    // What is written is no part of what the call is: it may come from what was read, which is not recorded.
    await this.#change('writeFile', [path], () => (env.session?.fs ?? env).writeFile(path, content, options));
  }

  async mkdir(path: string, options: { recursive?: boolean; mode?: number } = {}): Promise<void> {
    const env = this.#open();
    if (!env.session) checkOptions('mkdir', options, ['recursive']);
    await this.#change('mkdir', [path], () => (env.session?.fs ?? env).mkdir(path, options));
  }

  async rm(path: string, options: { recursive?: boolean; force?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const env = this.#open();
    if (!env.session) checkOptions('rm', options, ['recursive', 'force']);
    await this.#change('rm', [path], () => (env.session?.fs ?? env).rm(path, options));
  }

  async appendFile(path: string, content: string | Uint8Array): Promise<void> {
    const fs = this.#all('appendFile');
    await this.#change('appendFile', [path], () => fs.appendFile(path, content));
  }

  createWriteStream(path: string, options: { mode?: number; append?: boolean } = {}): Writable {
    const fs = this.#all('createWriteStream');
    const step = this.#steps.next('fs.createWriteStream', path);
    // It was written in an earlier attempt: what comes again is dropped.
    const stream = step.outcome
      ? new Writable({ write: (_chunk, _encoding, written) => written() })
      : fs.createWriteStream(path, options);
    const recorded = this.#perform(step, () => finished(stream));
    const told = writable({
      write: (chunk) =>
        new Promise((written, fail) => stream.write(chunk, (error) => (error ? fail(error) : written()))),
      end: () => {
        stream.end();
        return recorded;
      },
      cancel: async () => {
        stream.destroy();
        await recorded.catch(() => {}); // who writes gets it
      },
    });
    // Who has nothing to write at the moment is told all the same; an event that nobody listens for would end the host.
    recorded.catch((error: Error) => told.destroy(error));
    return told.on('error', () => {});
  }

  async rename(from: string, to: string): Promise<void> {
    const fs = this.#all('rename');
    await this.#change('rename', [from, to], () => fs.rename(from, to));
  }

  async copy(from: string, to: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const fs = this.#all('copy');
    await this.#change('copy', [from, to], () => fs.copy(from, to, options));
  }

  async symlink(target: string, path: string): Promise<void> {
    const fs = this.#all('symlink');
    await this.#change('symlink', [target, path], () => fs.symlink(target, path));
  }

  async truncate(path: string, size = 0): Promise<void> {
    const fs = this.#all('truncate');
    await this.#change('truncate', [path, size], () => fs.truncate(path, size));
  }

  async chmod(path: string, mode: number): Promise<void> {
    const fs = this.#all('chmod');
    await this.#change('chmod', [path, mode], () => fs.chmod(path, mode));
  }

  async upload(
    source: string | Readable,
    target: string,
    options: { gitignore?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const fs = this.#all('upload');
    // Without the source: no path of this machine stands in a record.
    await this.#change('upload', [target], () => fs.upload(source, target, options));
  }

  async downloadTo(
    path: string,
    hostPath: string,
    options: { maxBytes?: number; signal?: AbortSignal } = {},
  ): Promise<void> {
    const fs = this.#all('downloadTo');
    await this.#change('downloadTo', [path], () => fs.downloadTo(path, hostPath, options));
  }

  #open(): SandboxEnv {
    this.#ending.check();
    return this.#env;
  }

  /** Those of `docker()`. */
  #all(operation: string): FileSystem {
    const { session } = this.#open();
    if (!session) throw unsupported(operation);
    return session.fs;
  }

  async #change(operation: string, about: unknown[], work: () => Promise<void>): Promise<void> {
    await this.#perform(this.#steps.next(`fs.${operation}`, ...about), work);
  }

  #perform(step: Step, work: () => Promise<void>): Promise<void> {
    return this.#ending.rest.perform(step, work, this.#ending.signal);
  }

  #ended(stream: Readable): Readable {
    return addAbortSignal(
      this.#ending.signal,
      stream.on('error', () => {}),
    ); // who reads gets it
  }
}

function unsupported(operation: string, options?: string[]): SandboxOperationUnsupportedError {
  return new SandboxOperationUnsupportedError({ operation, ...(options && { options }) });
}

/** Of an operation that any sandbox has, options may be there that only `docker()` has. */
function checkOptions(operation: string, options: object, known: string[]): void {
  const given = Object.entries(options).filter(([name, value]) => value !== undefined && !known.includes(name));
  if (given.length === 0) return;
  throw unsupported(
    operation,
    given.map(([name]) => name),
  );
}

function fileStat(stats: FileStats): FileStat {
  const { kind, modified } = stats;
  return { ...stats, isFile: kind === 'file', isDirectory: kind === 'directory', mtime: modified };
}
