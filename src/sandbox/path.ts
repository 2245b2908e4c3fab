import { posix } from 'node:path';

/** A path inside of a sandbox; a relative one starts at `cwd`. `.`, `..` and doubled slashes are folded. */
export function resolvePath(cwd: string, path: string): string {
  return posix.resolve('/', cwd, path);
}
