import { posix } from 'node:path';
import type { IFileSystem } from 'just-bash';
import { FilesConflictError } from '../../sandbox/errors.ts';

const maxConflictPaths = 20;

type Entry =
  | { kind: 'directory'; mode: number }
  | { kind: 'file'; mode: number; mtime: Date; content: Uint8Array }
  | { kind: 'link'; target: string };

/** What is in a directory, by the paths from there; what is in a directory comes after it. */
export type Tree = ReadonlyMap<string, Entry>;

/** What of a file system is needed here. */
export type TreeFileSystem = Pick<
  IFileSystem,
  'lstat' | 'readdir' | 'readFileBuffer' | 'readlink' | 'writeFile' | 'mkdir' | 'symlink' | 'chmod' | 'utimes' | 'rm'
>;

/**
 * Reads all that is below a directory. Links are not followed; of what is no file, directory or link nothing is said.
 * @param options.leftOut - paths from `root` that are not looked at. Default: none
 */
export async function readTree(
  fs: TreeFileSystem,
  root: string,
  { leftOut = [] }: { leftOut?: readonly string[] } = {},
): Promise<Tree> {
  const tree = new Map<string, Entry>();
  const read = async (prefix: string) => {
    for (const name of (await fs.readdir(posix.join(root, prefix))).sort()) {
      const path = `${prefix}${name}`;
      if (leftOut.includes(path)) continue;
      const at = posix.join(root, path);
      const { isFile, isDirectory, isSymbolicLink, mode: type, mtime } = await fs.lstat(at);
      const mode = type & 0o7777;
      if (isSymbolicLink) tree.set(path, { kind: 'link', target: await fs.readlink(at) });
      // A copy: a command may change the bytes in their place.
      else if (isFile) tree.set(path, { kind: 'file', mode, mtime, content: (await fs.readFileBuffer(at)).slice() });
      else if (isDirectory) {
        tree.set(path, { kind: 'directory', mode });
        await read(`${path}/`);
      }
    }
  };
  await read('');
  return tree;
}

/** What of a tree is below a directory in it. */
export function subtree(tree: Tree, directory: string): Tree {
  if (directory === '') return tree;
  const below = `${directory}/`;
  return new Map(
    [...tree].flatMap(([path, entry]) => (path.startsWith(below) ? [[path.slice(below.length), entry]] : [])),
  );
}

/** Makes what is below a directory the same as `tree`. `leftOut` as of `readTree`. */
export async function writeTree(
  fs: TreeFileSystem,
  root: string,
  tree: Tree,
  options?: { leftOut?: readonly string[] },
): Promise<void> {
  const now = await readTree(fs, root, options);
  await apply(fs, root, now, changes(now, tree));
}

/**
 * Makes the changes that one tree has had in another one: all of them or, if it fails, none.
 * @param options.base - what both were made of
 * @param options.changed - what has become of it elsewhere
 * @throws {FilesConflictError} what is below `root` was changed at the same paths, in another way
 */
export async function landTree(
  fs: TreeFileSystem,
  root: string,
  { base, changed, signal }: { base: Tree; changed: Tree; signal: AbortSignal },
): Promise<void> {
  const now = await readTree(fs, root);
  const wanted = changes(base, changed);
  const conflicts = new Set<string>();
  for (const [path, entry] of wanted) {
    const [before, there] = [base.get(path), now.get(path)];
    if (!isSame(there, entry) && !isSame(there, before)) conflicts.add(path);
    // Where it would be put, there is a directory no more.
    if (entry && !wanted.has(posix.dirname(path)) && hasLost(now, posix.dirname(path))) conflicts.add(path);
    // With a directory goes all that came into it.
    if (there?.kind === 'directory' && entry?.kind !== 'directory') {
      for (const below of now.keys()) if (below.startsWith(`${path}/`) && !wanted.has(below)) conflicts.add(below);
    }
  }
  if (conflicts.size > 0) {
    throw new FilesConflictError({ paths: [...conflicts].sort().slice(0, maxConflictPaths), count: conflicts.size });
  }
  signal.throwIfAborted();
  try {
    await apply(fs, root, now, wanted);
  } catch (error) {
    await writeTree(fs, root, now).catch(() => {}); // the first error is the one to report
    throw error;
  }
}

/** What is another at the end; `undefined` for what is there no more. */
function changes(from: Tree, to: Tree): Map<string, Entry | undefined> {
  const changed = new Map<string, Entry | undefined>();
  for (const path of from.keys()) if (!to.has(path)) changed.set(path, undefined);
  for (const [path, entry] of to) if (!isSame(from.get(path), entry)) changed.set(path, entry);
  return changed;
}

async function apply(fs: TreeFileSystem, root: string, now: Tree, wanted: ReadonlyMap<string, Entry | undefined>) {
  for (const [path, entry] of wanted) {
    const there = now.get(path);
    if (there && there.kind !== entry?.kind) await fs.rm(posix.join(root, path), { recursive: true, force: true });
  }
  for (const [path, entry] of wanted) {
    const at = posix.join(root, path);
    if (!entry || isSame(now.get(path), entry)) continue;
    if (entry.kind === 'link') {
      await fs.rm(at, { force: true });
      await fs.symlink(entry.target, at);
      continue;
    }
    if (entry.kind === 'file') await fs.writeFile(at, entry.content.slice());
    else if (!now.has(path) || now.get(path)?.kind !== 'directory') await fs.mkdir(at);
    await fs.chmod(at, entry.mode);
    if (entry.kind === 'file') await fs.utimes(at, entry.mtime, entry.mtime);
  }
}

function hasLost(now: Tree, directory: string): boolean {
  return directory !== '.' && now.get(directory)?.kind !== 'directory';
}

function isSame(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a?.kind === 'link' && b?.kind === 'link') return a.target === b.target;
  if (a?.kind === 'directory' && b?.kind === 'directory') return a.mode === b.mode;
  if (a?.kind === 'file' && b?.kind === 'file') return a.mode === b.mode && Buffer.compare(a.content, b.content) === 0;
  return a === b; // one is not there, or they are of two kinds
}
