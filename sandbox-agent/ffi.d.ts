// @types/node of the host's Node does not know this module of the sandbox-agent's Node.
declare module 'node:ffi' {
  type Type = 'i32' | 'i64' | 'pointer' | 'buffer';
  export function dlopen<Name extends string>(
    path: string | null,
    functions: Record<Name, { arguments: Type[]; return: Type }>,
  ): { functions: Record<Name, (...values: (number | bigint | Uint8Array | null)[]) => number> };
  /** Where the bytes are. They must outlive its use, and not be a view of less than 64 bytes without a buffer of its own. */
  export function getRawPointer(source: Uint8Array | ArrayBuffer): bigint;
}
