import { FileError } from '../../sandbox/errors.ts';

/** Node's own: of `rm`, and of a path with a NUL. */
const ofNode: Readonly<Record<string, string>> = { ERR_FS_EISDIR: 'EISDIR', ERR_INVALID_ARG_VALUE: 'EINVAL' };

/** An error that has a POSIX name as its `code`, as the same one that every sandbox gives; any other stays as it is. */
export function fileError(cause: unknown, operation: string, path: string): unknown {
  if (cause instanceof FileError || typeof cause !== 'object' || cause === null || !('code' in cause)) return cause;
  const code = ofNode[String(cause.code)] ?? cause.code;
  if (typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return cause;
  return new FileError({ code, path, operation }, { cause });
}
