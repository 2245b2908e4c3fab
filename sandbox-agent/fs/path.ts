import { dirname } from 'node:path/posix';
import { bytesOfName, hasEscapes } from '../../src/protocol/names.ts';

const slash = Buffer.from('/');

/** A path for the kernel: as bytes, because a name need not be UTF-8, or as it is in a request. */
export type Path = string | Buffer;

/** What Node takes as a path. */
export function kernelPath(path: Path): Path {
  return typeof path === 'string' && hasEscapes(path) ? bytesOfName(path) : path;
}

/** `name` in `directory`. Bytes stay as they are, where `path.join` would fold `..`, which links make wrong. */
export function child(directory: Path, name: Path): Buffer {
  return Buffer.concat([bytesOf(directory), slash, bytesOf(name)]);
}

function bytesOf(path: Path): Buffer {
  return typeof path === 'string' ? bytesOfName(path) : path;
}

/** The last name of a path and what is before it, slashes at the end left out: with one, a link would be followed. */
export function split(path: string): { parent: string; name: string } {
  const end = path.replace(/\/+$/, '');
  return { parent: dirname(end || '/'), name: end.slice(end.lastIndexOf('/') + 1) };
}

/** The `code` of an error: the POSIX name, for one of the kernel. */
export function codeOf(error: unknown): string | undefined {
  // Not instanceof: what `vm` throws is an Error of another context.
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  const code = codeOf(error);
  return code !== undefined && codes.includes(code);
}
