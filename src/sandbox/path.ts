import { posix } from 'node:path';
import { limits } from '../protocol/limits.ts';
import { isName, nameBytes } from '../protocol/names.ts';
import { FileError, InvalidOptionsError } from './errors.ts';

/**
 * A path inside of a sandbox; a relative one starts at `cwd`. `.`, `..` and doubled slashes are folded.
 * @throws {FileError} what the kernel would say of it too
 */
export function resolvePath(cwd: string, path: string): string {
  if (typeof path !== 'string') {
    throw new InvalidOptionsError({ operation: 'resolve', issues: [{ path: 'path', message: 'is no string' }] });
  }
  const fail = (code: string) => new FileError({ code, path: path.slice(0, 200), operation: 'resolve' });
  if (path === '') throw fail('ENOENT');
  if (path.includes('\0')) throw fail('EINVAL');
  if (!isName(path)) throw fail('EILSEQ');
  const resolved = posix.resolve('/', cwd, path);
  if (nameBytes(resolved) > limits.path) throw fail('ENAMETOOLONG');
  return resolved;
}
