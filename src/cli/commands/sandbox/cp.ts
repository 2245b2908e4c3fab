import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, rename, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { basename as insideBasename, join as insideJoin } from 'node:path/posix';
import { pipeline } from 'node:stream/promises';
import { unpackArchive } from '../../../sandbox/fs/unpack-archive.ts';
import type { SandboxHost } from '../../../sandbox/index.ts';
import { UsageError } from '../../errors.ts';
import { complain } from '../../failure.ts';
import { withHost } from '../../host.ts';
import { Interruption } from '../../interruption.ts';
import { printJson, sayProgress } from '../../output.ts';

interface Inside {
  id: string;
  path: string;
}

/** Copies a file or a directory in one direction. Below a destination that is a directory, else to that name. */
export async function cp(source: string, destination: string, { json }: { json?: boolean }): Promise<number> {
  const from = inside(source);
  const to = inside(destination);
  const interruption = new Interruption();
  const copied = await withHost(async (host) => {
    if (from && !to) return copyOut(host, from, resolve(destination), interruption.signal);
    if (to && !from) return copyIn(host, resolve(source), to, interruption.signal);
    throw new UsageError('One of the two must be in a sandbox, written ID:PATH, the other a path of this machine.');
  }).catch((error: unknown) => {
    if (interruption.code === undefined) throw error;
  });
  if (interruption.code !== undefined) return interruption.code;
  if (json) printJson({ copied });
  else sayProgress(`copied to ${copied}`);
  return 0;
}

/** `undefined`: a path of this machine, also `./a:b`. */
function inside(text: string): Inside | undefined {
  const [, id, path] = text.match(/^([a-z0-9][a-z0-9_.-]*):(.*)$/) ?? [];
  if (id === undefined || path === undefined) return undefined;
  return { id, path: path === '' ? '.' : path };
}

async function copyIn(host: SandboxHost, from: string, to: Inside, signal: AbortSignal): Promise<string> {
  const source = await stat(from).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${from} can't be read: ${error.code ?? error.message}`, { cause: error });
  });
  const { fs } = await host.connect(to.id);
  const isBelow = await fs.stat(to.path).then(
    ({ kind }) => kind === 'directory',
    () => false,
  );
  const target = fs.resolve(isBelow ? insideJoin(to.path, basename(from)) : to.path);
  if (source.isDirectory()) await fs.upload(from, target);
  else if (source.isFile()) {
    await pipeline(createReadStream(from), fs.createWriteStream(target, { mode: source.mode & 0o777 }), { signal });
  } else throw new UsageError(`${from} is no file or directory.`);
  return `${to.id}:${target}`;
}

async function copyOut(host: SandboxHost, from: Inside, to: string, signal: AbortSignal): Promise<string> {
  const { fs } = await host.connect(from.id);
  const path = await fs.realpath(from.path);
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
    const { leftOut } = await unpackArchive(fs.download(path), target, { signal });
    for (const { path: name, reason } of leftOut) complain(`left out ${name}: ${reason}`);
  } else if (kind === 'file') {
    await copyFile(fs.createReadStream(path), target, mode & 0o777, signal);
  } else throw new UsageError(`${from.path} is no file or directory.`);
  return target;
}

/** `target` has its old content or all of the new one, never a part. A link in its place is replaced, not followed. */
async function copyFile(
  content: NodeJS.ReadableStream,
  target: string,
  mode: number,
  signal: AbortSignal,
): Promise<void> {
  const part = `${target}.${randomUUID()}.part`;
  try {
    await pipeline(content, createWriteStream(part, { flags: 'wx', mode: 0o600 }), { signal });
    await chmod(part, mode);
    await rename(part, target);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}
