import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, rename, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { basename as insideBasename, dirname as insideDirname, join as insideJoin } from 'node:path/posix';
import { addAbortSignal, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { packDirectory } from '../../../sandbox/fs/pack-directory.ts';
import { type UnpackedArchive, unpackArchive } from '../../../sandbox/fs/unpack-archive.ts';
import {
  CopyLimitError,
  FileError,
  type FileSystem,
  type SandboxHost,
  UnsafeEntryError,
} from '../../../sandbox/index.ts';
import { UsageError } from '../../errors.ts';
import { complain, exitCodes, failedWork } from '../../failure.ts';
import { withHost } from '../../host.ts';
import { Interruption } from '../../interruption.ts';
import { printJson, sayProgress } from '../../output.ts';

const patienceMs = 5_000;

interface Inside {
  id: string;
  path: string;
}

interface Copy {
  /** Where it is now. */
  copied: string;
  leftOut?: UnpackedArchive['leftOut'];
}

interface Options {
  maxSize?: number;
  json?: boolean;
}

/** Copies a file or a directory in one direction. Below a destination that is a directory, else to that name. */
export async function cp(source: string, destination: string, { maxSize, json }: Options): Promise<number> {
  const from = inside(source);
  const to = inside(destination);
  const interruption = new Interruption();
  const { signal } = interruption;
  try {
    const work = withHost((host) => {
      if (from && !to) return copyOut(host, from, resolve(destination), maxSize, signal);
      if (to && !from) {
        if (maxSize !== undefined) throw new UsageError('--max-size is for what comes out of a sandbox.');
        return copyIn(host, resolve(source), to, signal);
      }
      throw new UsageError('One of the two must be in a sandbox, written ID:PATH, the other a path of this machine.');
    });
    const result = await Promise.race([work, endOfPatience(signal)]);
    if (interruption.code !== undefined) return interruption.code;
    if (json) printJson(result);
    else sayProgress(`copied to ${result.copied}`);
    return 0;
  } catch (error) {
    if (interruption.code !== undefined) return interruption.code;
    if (error instanceof CopyLimitError) {
      complain(
        `${error.message} --max-size BYTES allows more; without it, it is half of what the disk has free.`,
        error,
      );
      return exitCodes.failed;
    }
    // What a sandbox sends is nobody's wrong usage.
    if (error instanceof UnsafeEntryError) return failedWork(error);
    throw error;
  }
}

/** After Ctrl-C a sandbox is to take back what was begun in it. One that is paused does not. */
function endOfPatience(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => {
      setTimeout(() => {
        complain('the sandbox does not answer: a hidden *.part of what was copied may be left in it');
        reject(signal.reason);
      }, patienceMs).unref();
    });
  });
}

/** `undefined`: a path of this machine, also `./a:b`. */
function inside(text: string): Inside | undefined {
  const [, id, path] = text.match(/^([a-z0-9][a-z0-9_.-]*):(.*)$/) ?? [];
  if (id === undefined || path === undefined) return undefined;
  return { id, path: path === '' ? '.' : path };
}

async function copyIn(host: SandboxHost, from: string, to: Inside, signal: AbortSignal): Promise<Copy> {
  const source = await stat(from).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${from} can't be read: ${error.code ?? error.message}`, { cause: error });
  });
  const { fs } = await host.connect(to.id);
  const isBelow = await fs.stat(to.path).then(
    ({ kind }) => kind === 'directory',
    () => false,
  );
  const target = fs.resolve(isBelow ? insideJoin(to.path, basename(from)) : to.path);
  if (source.isDirectory()) await uploadDirectory(fs, from, target, signal);
  else if (source.isFile()) {
    await pipeline(createReadStream(from), fs.createWriteStream(target, { mode: source.mode & 0o777 }), { signal });
  } else throw new UsageError(`${from} is no file or directory.`);
  return { copied: `${to.id}:${target}` };
}

/** A directory that is not there yet gets its name when all of it is there; into one that is there it is merged. */
async function uploadDirectory(fs: FileSystem, from: string, target: string, signal: AbortSignal): Promise<void> {
  const tar = () => addAbortSignal(signal, packDirectory(from));
  if (await fs.exists(target)) return fs.upload(tar(), target);
  const part = insideJoin(insideDirname(target), `.${insideBasename(target)}.${randomUUID()}.part`);
  try {
    await fs.upload(tar(), part);
    signal.throwIfAborted();
    await fs.rename(part, target);
  } catch (error) {
    await fs.rm(part, { recursive: true, force: true }).catch(() => {}); // the first error is the one to report
    throw error;
  }
}

async function copyOut(
  host: SandboxHost,
  from: Inside,
  to: string,
  maxSize: number | undefined,
  signal: AbortSignal,
): Promise<Copy> {
  const { fs } = await host.connect(from.id);
  const path = await fs.realpath(from.path).catch((error: unknown) => {
    if (!(error instanceof FileError)) throw error;
    throw new UsageError(`${from.id}:${from.path} can't be read: ${error.code}`, { cause: error });
  });
  const { kind, mode } = await fs.stat(path);
  const isBelow = await stat(to).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  const target = isBelow ? join(to, insideBasename(fs.resolve(from.path)) || from.id) : to;
  if (kind === 'directory') {
    if (path === '/') throw new UsageError('Give a directory below /, which has the files of the kernel in it.');
    if (await lstat(target).catch(() => undefined)) {
      throw new UsageError(`${target} is there already. Remove it, or give another destination.`);
    }
    const maxBytes = maxSize ?? (await halfOfFree(target));
    const { leftOut } = await unpackArchive(fs.download(path), target, { maxBytes, signal });
    for (const { path: name, reason } of leftOut) complain(`left out ${name}: ${reason}`);
    return { copied: target, leftOut };
  }
  if (kind === 'file') {
    const maxBytes = maxSize ?? (await halfOfFree(target));
    await copyFile(atMost(maxBytes, addAbortSignal(signal, fs.createReadStream(path))), target, mode & 0o777);
    return { copied: target };
  }
  throw new UsageError(`${from.path} is no file or directory.`);
}

/** `target` has its old content or all of the new one, never a part. A link in its place is replaced, not followed. */
async function copyFile(content: AsyncIterable<Uint8Array>, target: string, mode: number): Promise<void> {
  const part = `${target}.${randomUUID()}.part`;
  try {
    await pipeline(content, createWriteStream(part, { flags: 'wx', mode: 0o600 }));
    await chmod(part, mode);
    await rename(part, target);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

/** A sandbox can send without end: it must not fill the disk of this machine. */
async function halfOfFree(target: string): Promise<number> {
  const { bavail, bsize } = await statfs(dirname(target)).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`Nothing can be copied to ${dirname(target)}: ${error.code ?? error.message}`, {
      cause: error,
    });
  });
  return Math.floor((bavail * bsize) / 2);
}

async function* atMost(maxBytes: number, content: Readable): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of content as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new CopyLimitError({ maxBytes });
    yield chunk;
  }
}
